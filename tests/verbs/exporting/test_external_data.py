"""A graph and the values beside it: a pair of which one is newer is found out by every reader."""

import shutil

import onnx
import pytest

import nnkit
from nnkit import ExportOptions
from nnkit.errors import NnkitError, VerificationFailed

HOW = ExportOptions(external_data=True)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Two exports of one network with different weights."""
    folder = tmp_path_factory.mktemp("pairs")
    for seed in (0, 1):
        (folder / str(seed)).mkdir()
        nnkit.export("lenet-1998", folder / str(seed) / "net.onnx", how=HOW, seed=seed, verify=False)
    return folder


@pytest.fixture
def mixed(pairs, tmp_path):
    """The graph of one export beside the values of the other."""
    shutil.copy(pairs / "0" / "net.onnx", tmp_path)
    shutil.copy(pairs / "1" / "net.onnx.data", tmp_path)
    assert (pairs / "0" / "net.onnx.data").stat().st_size == (tmp_path / "net.onnx.data").stat().st_size
    return tmp_path / "net.onnx"


def test_a_pair_that_belongs_together_is_read(pairs):
    report = nnkit.inspect_file(pairs / "1" / "net.onnx")
    assert list(report.files) == ["net.onnx.data"]
    assert nnkit.verify(pairs / "1" / "net.onnx").verified


def test_a_graph_beside_other_values_is_found_out(mixed):
    for stats in (False, True):
        with pytest.raises(NnkitError, match="were not written together"):
            nnkit.inspect_file(mixed, stats=stats)
    with pytest.raises(VerificationFailed, match="has other values than the module") as caught:
        nnkit.verify(mixed)
    assert "were not written together" in caught.value.hint


def test_values_that_end_early_are_found_out(pairs, tmp_path):
    shutil.copytree(pairs / "0", tmp_path / "copy")
    with (tmp_path / "copy" / "net.onnx.data").open("r+b") as file:
        file.truncate(100)
    for read in (nnkit.inspect_file, nnkit.verify):
        with pytest.raises(NnkitError, match="shorter than its tensors"):
            read(tmp_path / "copy" / "net.onnx")


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "-8"), ("length", "-1"), ("offset", "x"), ("length", str(2**60))]
)
def test_a_place_that_can_t_be_is_an_error(pairs, tmp_path, key, value):
    shutil.copytree(pairs / "0", tmp_path / "copy")
    path = tmp_path / "copy" / "net.onnx"
    model = onnx.load(path, load_external_data=False)
    tensor = next(each for each in model.graph.initializer if each.external_data)
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = value
    path.write_bytes(model.SerializeToString())
    for read in (nnkit.inspect_file, nnkit.verify):
        with pytest.raises(NnkitError, match="is damaged"):
            read(path)
