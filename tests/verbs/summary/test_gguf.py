"""GGUF files: what the header says, against ggml's own package; damaged and hostile ones are one error."""

import struct
import time
from contextlib import suppress
from random import Random

import numpy as np
import pytest
from conftest import python
from gguf_bytes import F32, LIST, TEXT, U32, Gguf

import nnkit
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.gguf_types import TYPES

PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
PLAIN |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}


@pytest.fixture
def gguf():
    return pytest.importorskip("gguf", reason="ggml's package is not installed: pip install gguf")


def write(gguf, path, big_endian=False, layers=3, alignment=None):
    """Write a small llama in six types with ggml's own writer."""
    endian = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    writer, types = gguf.GGUFWriter(path, "llama", False, endian), gguf.GGMLQuantizationType
    writer.add_name("tiny")
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_block_count(layers)
    writer.add_token_list([f"token {number}" for number in range(1000)])
    writer.add_token_types([1] * 1000)
    writer.add_array("llama.rope.dimension_sections", [2, 3, 4])
    if alignment:
        writer.add_custom_alignment(alignment)

    def quantized(name, rows, columns, kind):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        writer.add_tensor(name, np.zeros((rows, columns // block * size), np.uint8), raw_dtype=kind)

    quantized("token_embd.weight", 1000, 256, types.Q4_K)
    for layer in range(layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(256, np.float32))
        quantized(f"blk.{layer}.attn_q.weight", 256, 256, types.Q4_0)
        quantized(f"blk.{layer}.ffn_up.weight", 512, 256, types.IQ4_XS)
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", np.ones((256, 512), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(256, np.float32))
    quantized("output.weight", 1000, 256, types.Q6_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_every_type_of_ggml_has_its_blocks(gguf):
    theirs = {kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    withdrawn = {31, 32, 33, 36, 37, 38}  # known to nnkit alone
    assert {kind: tuple(TYPES[kind]) for kind in TYPES.keys() - withdrawn} == {
        kind: (PLAIN.get(name, name), block, size) for kind, (name, block, size) in theirs.items()
    }


@pytest.mark.parametrize(("big_endian", "alignment"), [(False, None), (True, None), (False, 256)])
def test_tensors_and_metadata_are_those_that_ggmls_reader_finds(gguf, tmp_path, big_endian, alignment):
    path = write(gguf, tmp_path / "tiny.gguf", big_endian, alignment=alignment)
    report = nnkit.inspect_file(path)
    theirs = gguf.GGUFReader(path)
    assert [(each.name, each.dtype, each.shape, each.elements, each.bytes) for each in report.tensors] == [
        (
            each.name,
            PLAIN.get(each.tensor_type.name, each.tensor_type.name),
            tuple(map(int, reversed(each.shape))),
            each.n_elements,
            each.n_bytes,
        )
        for each in theirs.tensors
    ]
    assert report.tensor_bytes == sum(each.n_bytes for each in theirs.tensors)
    keys = [key for key in theirs.fields if not key.startswith("GGUF.")]
    assert list(report.metadata) == ["GGUF", *keys]
    assert report.metadata["GGUF"] == ("3, big-endian" if big_endian else "3")
    assert report.metadata["general.name"] == "tiny"
    assert report.metadata["llama.attention.layer_norm_rms_epsilon"] == "1e-05"
    assert report.metadata["tokenizer.ggml.tokens"] == "1,000 texts"
    assert report.metadata["tokenizer.ggml.token_type"] == "1,000 of int32"
    assert report.metadata["llama.rope.dimension_sections"] == "2, 3, 4"


def test_parameters_add_up_by_block(gguf, tmp_path, nnkit_command):
    path = write(gguf, tmp_path / "tiny.gguf", layers=12)
    layer = 256 + 256 * 256 + 512 * 256 * 2
    blocks = {each.name: each.elements for each in nnkit.inspect_file(path).blocks}
    ends = {"token_embd": 256_000, "output_norm": 256, "output": 256_000}
    assert blocks == {**ends, **{f"blk.{number}": layer for number in range(12)}}
    shown = nnkit_command("summary", str(path)).out
    assert f"blk.0 … blk.11 (12): {12 * layer:,} " in shown
    assert f"{layer:,} each" in shown


def test_parts_are_one_model(tmp_path):
    make = Gguf()
    for number in (1, 2):
        content = make.file(
            [make.field("split.no", U32, make.pack("I", number - 1))],
            [make.tensor(f"blk.{number}.weight", (4, 8))],
            values=128,
        )
        (tmp_path / f"big-{number:05}-of-00002.gguf").write_bytes(content)
    for number in (1, 2):
        report = nnkit.inspect_file(tmp_path / f"big-{number:05}-of-00002.gguf")
        assert [each.file for each in report.tensors] == list(report.files)
        assert (report.elements, len(report.files), report.metadata["split.no"]) == (64, 2, "0")
    (tmp_path / "big-00002-of-00002.gguf").unlink()
    with pytest.raises(NnkitError, match=r"big-00002-of-00002\.gguf does not exist"):
        nnkit.inspect_file(tmp_path / "big-00001-of-00002.gguf")


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_each_version_and_byte_order(tmp_path, version, order):
    make = Gguf(version, order)
    fields = [
        make.field("general.architecture", TEXT, make.text("llama")),
        make.field("tokenizer.ggml.tokens", LIST, make.texts(["a", "bc", "", "déf"])),
        make.field("scale", F32, make.pack("f", 0.5)),
        make.field("lists", LIST, make.pack("I", LIST) + make.count(2) + make.texts(["x"]) * 2),
        make.field("last", U32, make.pack("I", 7)),
    ]
    tensors = [make.tensor("a", (3, 64), kind=2), make.tensor("b", (5,), begin=128)]
    path = tmp_path / "m.gguf"
    path.write_bytes(make.file(fields, tensors, values=128 + 20))
    report = nnkit.inspect_file(path)
    assert [(each.name, each.dtype, each.shape, each.bytes) for each in report.tensors] == [
        ("a", "Q4_0", (3, 64), 108), ("b", "float32", (5,), 20)
    ]  # fmt: skip
    assert dict(report.metadata) == {
        "GGUF": f"{version}, big-endian" if order == ">" else str(version),
        "general.architecture": "llama",
        "tokenizer.ggml.tokens": "4 texts",
        "scale": "0.5",
        "lists": "2 lists",
        "last": "7",
    }


def hostile():
    """Yield small files that are wrong in one way each, and the words that say so."""
    make = Gguf()
    one = make.tensor("w", (4,))

    def fields(*entries):
        return make.file(list(entries))

    yield b"", "it has 0 bytes"
    yield b"GGUF" + bytes(4), "it has 8 bytes"
    yield b"ggml" + bytes(60), "doesn't begin with GGUF"
    yield make.file(counts=(2**64 - 1, 0)), "claim more than"
    yield make.file(counts=(0, 2**63)), "claim more than"
    yield make.file(counts=(1000, 0)), "but the file has"
    yield fields(make.count(2**62)), "but the file has"
    yield fields(make.field("k", LIST, make.texts(["a"], claimed=2**60))), "claim more than"
    yield fields(make.field("k", LIST, make.texts(["a"], claimed=100))), "beyond its end"
    yield fields(make.field("k", LIST, make.pack("I", U32) + make.count(2**61))), "but the file has"
    yield fields(make.field("k", LIST, (make.pack("I", LIST) + make.count(1)) * 50)), "nested too deeply"
    yield fields(make.field("k", 99, b"")), "unknown type 99"
    yield fields(*[make.field("k", U32, bytes(4))] * 2), "'k' twice"
    for alignment in (0, 3):
        field = make.field("general.alignment", U32, make.pack("I", alignment))
        yield make.file([field], [one], values=16), f"its alignment is {alignment}"
    yield fields(make.field("general.alignment", TEXT, make.text("32"))), "its alignment is '32'"
    yield make.file(tensors=[one, one], values=64), "'w' twice"
    yield make.file(tensors=[one, make.tensor("v", (4,), begin=32)], values=40), "ends at byte 48"
    yield make.file(tensors=[one, make.tensor("v", (4,), begin=8)], values=40), "no multiple of 32"
    yield (
        make.file(tensors=[make.tensor("u", (40,)), make.tensor("v", (4,), begin=32)], values=200),
        "begins before",
    )
    yield make.file(tensors=[make.tensor("w", (2, 2**63))]), "has the shape"
    yield make.file(tensors=[make.tensor("w", (2**62,) * 8)]), "of its values, but"
    yield make.file(tensors=[make.text("w") + make.pack("I", 2**32 - 1)], counts=(1, 0)), "4,294,967,295 axes"
    yield make.file(tensors=[make.tensor("w", (2, 100), kind=12)], values=500), "blocks of 256"


@pytest.mark.parametrize(("content", "words"), list(hostile()))
def test_what_is_damaged_or_hostile_is_one_error(tmp_path, content, words):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    begun = time.monotonic()
    with pytest.raises(NnkitError, match=words) as caught:
        nnkit.inspect_file(path)
    assert caught.value.message.startswith(f"{path} is damaged")
    assert len(caught.value.message) < len(str(path)) + 400
    assert time.monotonic() - begun < 5


def test_a_file_cut_anywhere_is_damaged(tmp_path):
    make = Gguf()
    fields = [
        make.field("general.architecture", TEXT, make.text("llama")),
        make.field("tokens", LIST, make.texts(["a", "bc"])),
        make.field("rates", LIST, make.pack("I", F32) + make.count(2) + make.pack("ff", 1, 2)),
    ]
    whole = make.file(fields, [make.tensor("a", (2, 32), kind=8)], values=68)
    path = tmp_path / "m.gguf"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(NnkitError, match="is damaged"):
            nnkit.inspect_file(path)
    path.write_bytes(whole)
    assert nnkit.inspect_file(path).elements == 64


def test_whatever_bytes_change_the_answer_is_a_report_or_one_error(tmp_path):
    make = Gguf()
    fields = [
        make.field("general.alignment", U32, make.pack("I", 32)),
        make.field("tokens", LIST, make.texts(["a", "bc"])),
    ]
    whole = make.file(
        fields, [make.tensor("a", (2, 32), kind=8), make.tensor("b", (4,), begin=96)], values=112
    )
    path, random = tmp_path / "m.gguf", Random(16)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(random.randint(1, 3)):
            content[random.randrange(len(content))] = random.choice((0, 1, 8, 9, 127, 255))
        path.write_bytes(content)
        with suppress(NnkitError):
            nnkit.inspect_file(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GGUF" + struct.pack("<I", 4) + bytes(16), "is of version 4 of GGUF"),
        (Gguf().file(tensors=[Gguf().tensor("w", (4,), kind=4)], values=16), "in type 4, which nnkit doesn't know"),
    ],
)  # fmt: skip
def test_what_is_newer_than_nnkit_is_said(tmp_path, content, words):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(NnkitError, match=words) as caught:
        nnkit.inspect_file(tmp_path / "m.gguf")
    assert "update nnkit" in caught.value.hint


def test_a_large_vocabulary_is_passed_over(tmp_path):
    """In a file of 100 GB, of which only the header is read."""
    make = Gguf()
    tokens = make.field("tokens", LIST, make.texts(["token"] * 300_000))
    header = make.file([tokens], [make.tensor("w", (50_000, 1_000_000), kind=1)])
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:
        file.write(header)
        try:
            file.truncate(len(header) + 100_000_000_000)
        except OSError:
            pytest.skip("the file system has no sparse files so large")
    assert nnkit.inspect_file(path).elements == 50_000_000_000


def test_what_a_file_says_cant_move_the_cursor(tmp_path, nnkit_command):
    make = Gguf()
    field = make.field("general.name\x1b[2J", TEXT, make.text("a\nparameters 7" + "x" * 100_000))
    (tmp_path / "m.gguf").write_bytes(make.file([field], [make.tensor("w\x1b]0;t\a\n", (1,))], values=4))
    shown = nnkit_command("summary", str(tmp_path / "m.gguf")).out
    assert "\x1b" not in shown
    assert "\nparameters 7" not in shown
    assert len(shown) < 2000


def test_a_header_is_read_without_torch_and_numpy(tmp_path):
    (tmp_path / "m.gguf").write_bytes(Gguf().file(tensors=[Gguf().tensor("w", (4,))], values=16))
    done = python(
        "-c",
        f"import nnkit, sys; nnkit.inspect_file({str(tmp_path / 'm.gguf')!r});"
        "print({'torch', 'numpy', 'gguf'} & sys.modules.keys())",
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_values_are_not_read(tmp_path):
    (tmp_path / "m.gguf").write_bytes(Gguf().file(tensors=[Gguf().tensor("w", (4,))], values=16))
    with pytest.raises(UsageProblem, match="--stats reads values"):
        nnkit.inspect_file(tmp_path / "m.gguf", stats=True)
