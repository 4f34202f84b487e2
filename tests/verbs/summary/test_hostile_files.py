"""Small files that claim much: each costs little and ends in one error."""

import io
import json
import struct
import time
import zipfile

import pytest
import torch

import nnkit
from nnkit.errors import NnkitError
from nnkit.models import metadata
from nnkit.models.weights import read_weights


def nested(levels, twice=False):
    value = []
    for _ in range(levels):
        value = [value, value] if twice else [value]
    return value


def holding_itself():
    value = []
    value.append(value)
    return value


def bomb(path, claimed=300_000_000):
    """Write a state dict whose one tensor is compressed a thousandfold."""
    plain = io.BytesIO()
    torch.save({"a": torch.ones(4)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, bytes(claimed) if name.endswith("/data/0") else source.read(name))


def quickly(read, path, match):
    begun = time.monotonic()
    with pytest.raises(NnkitError, match=match) as caught:
        read(path)
    assert caught.value.hint
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("content", [nested(40, twice=True), holding_itself()], ids=["twice", "itself"])
def test_lists_without_end(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    quickly(nnkit.inspect_file, tmp_path / "a.pt", "there is no end")


def test_an_archive_that_unpacks_to_more_than_it_takes(tmp_path):
    bomb(tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 1_000_000
    for read in (nnkit.inspect_file, read_weights):
        quickly(read, tmp_path / "a.pt", "unpacks to 300,0")


def test_a_tensor_that_claims_petabytes(tmp_path):
    torch.save({"a": torch.ones(1).expand(2**30, 2**20), "b": torch.ones(3).expand(5, 3)}, tmp_path / "a.pt")
    quickly(lambda path: nnkit.inspect_file(path, stats=True), tmp_path / "a.pt", "'a' claims")
    assert nnkit.inspect_file(tmp_path / "a.pt").tensor_bytes == 4 + 12


@pytest.mark.parametrize(
    "content", [b"\x80\x02" + b"(" * 1000 + b".", b"\x80\x02X\xff\xff\xff\x7fa.", b"", b"PK\x03\x04"]
)
def test_pickles_that_are_none(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    quickly(read_weights, tmp_path / "a.pt", "a.pt is damaged|more than tensors")


def test_headers_nested_without_end(tmp_path):
    header = b'{"a":' * 50_000
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    for read in (nnkit.inspect_file, read_weights):
        quickly(read, tmp_path / "a.safetensors", "is damaged")
    (tmp_path / "a.safetensors.index.json").write_bytes(header)
    quickly(nnkit.inspect_file, tmp_path / "a.safetensors.index.json", "is damaged")


@pytest.mark.parametrize("text", [bytes(2**25), b"[" * 100_000])
def test_what_an_archive_says_of_itself_is_read_within_bounds(tmp_path, text):
    with zipfile.ZipFile(tmp_path / "a.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/extra/nnkit", text)
    quickly(metadata.read, tmp_path / "a.pt2", "is damaged")


def test_shards_of_another_export_are_found_out(tmp_path):
    how = nnkit.ExportOptions(max_shard_size="200KB")
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        nnkit.export("lenet", tmp_path / str(seed) / "net.safetensors", how=how, seed=seed)
    index = tmp_path / "0" / "net.safetensors.index.json"
    assert len(nnkit.inspect_file(index).files) > 1
    assert nnkit.verify(index).verified
    shards = set(json.loads(index.read_text())["weight_map"].values())
    for shard in sorted(shards)[:1]:
        (tmp_path / "1" / shard).replace(tmp_path / "0" / shard)
    for read in (nnkit.inspect_file, read_weights, nnkit.verify):
        quickly(read, index, "were not written together")
