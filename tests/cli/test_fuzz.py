"""Whatever is typed or read, a command ends with success or with one error, one hint and a documented code."""

import contextlib
import io
import json
import os
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnkit.cli.main import main

pytestmark = pytest.mark.slow

CODES = range(5)
BOUNDED = settings(
    max_examples=300, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
SIZES = st.sampled_from([0, 1, 2, 7, -1, 2**31, 2**63 - 1, 2**63, 10**30])
WORDS = st.text(max_size=12) | st.sampled_from(
    ["\x1b]0;owned\x07", "a\nError: forged", "\u202e", "\ud800", "=1+1", ""]
)


def run(*args: str) -> None:
    """Run a command in this process; its errors must be two lines, and the folder as it was."""
    before = sorted(os.listdir())
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.raises(SystemExit) as ending,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        main(args)
    code, lines = int(ending.value.code or 0), err.getvalue().splitlines()
    assert code in CODES
    assert "fault in nnkit" not in err.getvalue()
    labels = [line.partition(": ")[0] for line in lines if not line.startswith("warning: ")]
    assert labels == (["Error", "hint"] if code else []), err.getvalue()
    shown = set(err.getvalue() + out.getvalue()) - {"\n"}
    assert not {letter for letter in shown if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert sorted(os.listdir()) == before


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# References


ARGUMENTS = st.text(st.characters(exclude_characters="\0"), max_size=20)
REFERENCES = (
    ARGUMENTS
    | st.builds("{}{}".format, ARGUMENTS, st.sampled_from([".yaml", ".onnx", ".safetensors", ".pt2", ".py:Net", ":Net", "/gcn"]))
    | st.builds("{}:{}".format, st.sampled_from(["torch.nn", "os", "json", "torch"]), ARGUMENTS)
    | st.sampled_from(["-", "--", "-x", "gcn/", "/", "..", "~", "graph/gcn", "x" * 5000, "x" * 300 + ".onnx"])
)  # fmt: skip


@BOUNDED
@given(REFERENCES)
def test_references(reference):
    run("info", "--", reference)


# Declarations of inputs


AXES = (
    st.sampled_from(["batch", "time", "3", "0", "-1", "time=4", "time=0", "time min=3 max=2", "time multiple_of=0", "device", "help",
                     "reference", "inputs", "_", "n=99999999999999999999", "99999999999999999999", "time=5 min=2 multiple_of=3"])
    | st.text(max_size=6)
)  # fmt: skip
DTYPES = st.sampled_from(
    [
        "float32",
        "int64",
        "bool",
        "complex64",
        "float8_e4m3fn",
        "quint8",
        "bits8",
        "floot32",
        "Tensor",
        "uint16",
    ]
)
TAILS = st.sampled_from(
    [
        "",
        " < 5",
        " < time",
        " < 0",
        " < x",
        " in 1..time",
        " in 5..2",
        " in -1..1",
        " in 0..",
        "<",
        " < 99999999999999999999",
    ]
)
DECLARATIONS = (
    st.builds("{}: {}[{}]{}".format, st.sampled_from(["input", "x", "self", "1"]), DTYPES, st.lists(AXES, max_size=4).map(", ".join), TAILS)
    | st.text(max_size=30)
)  # fmt: skip


@BOUNDED
@given(
    st.lists(DECLARATIONS, min_size=1, max_size=2), st.sampled_from(["torch.nn:ReLU", "torch.nn:Identity"])
)
def test_declarations_of_inputs(declarations, reference):
    run("info", reference, *(word for text in declarations for word in ("--input", text)))


@settings(BOUNDED, max_examples=100)
@given(DECLARATIONS)
def test_declarations_of_inputs_that_are_run(declaration):
    run("summary", "torch.nn:ReLU", "--input", declaration)


# Specs in YAML


VALUES = st.recursive(
    st.none() | st.booleans() | SIZES | st.floats() | WORDS | st.dates() | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.integers() | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = ["architecture", "config", "sizes", "seed", "dtype", "weights", "strict", "nnkit"]
SPECS = st.fixed_dictionaries(
    {"architecture": st.just("simple-cnn") | VALUES}, optional=dict.fromkeys(KEYS[1:], VALUES)
) | st.fixed_dictionaries(
    {"architecture": st.just("simple-cnn")},
    optional={
        "sizes": st.dictionaries(st.sampled_from(["batch", "height", "x"]), SIZES | VALUES),
        "config": st.dictionaries(st.sampled_from(["num_classes", "channels", "x"]), SIZES | VALUES),
        "seed": SIZES,
    },
)


@BOUNDED
@given(SPECS | VALUES)
def test_specs_in_yaml(data):
    Path("net.yaml").write_text(yaml.safe_dump(data, allow_unicode=False), encoding="utf-8")
    run("info", "net.yaml")


@BOUNDED
@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.binary(max_size=60))
def test_files_that_are_called_yaml(content):
    Path("net.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    run("info", "net.yaml")


# Headers of model files


def changed(strategy: st.SearchStrategy, whole: bytes) -> st.SearchStrategy[bytes]:
    """Return bytes of the strategy, or of a whole file with some of its bytes replaced or cut off."""
    place = st.integers(0, len(whole) - 1)
    cut = st.builds(lambda end: whole[:end], place)
    return (
        strategy
        | cut
        | st.builds(lambda at, new: whole[:at] + new + whole[at + len(new) :], place, st.binary(max_size=4))
    )


def safetensors_file(header: object, values: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BOOL", "F4", "X9"])
        | WORDS
        | st.none()
        | st.lists(SIZES, max_size=1),
        "shape": st.lists(SIZES, max_size=3) | st.none() | WORDS,
        "data_offsets": st.lists(SIZES, min_size=1, max_size=3) | st.just([0, 8]) | WORDS,
    }
)
HEADERS = st.dictionaries(WORDS | st.just("__metadata__"), ENTRIES | WORDS | st.none(), max_size=3)
SAFETENSORS = st.builds(safetensors_file, HEADERS, st.binary(max_size=16))


def sound_safetensors() -> bytes:
    stamp = {
        "nnkit": "1",
        "spec": {
            "architecture": "vision/simple-cnn",
            "config": {},
            "seed": 0,
            "dtype": None,
            "weights": None,
        },
    }
    header = {
        "__metadata__": {"nnkit": json.dumps(stamp)},
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }
    return safetensors_file(header, bytes(8))


@BOUNDED
@given(
    changed(SAFETENSORS, sound_safetensors()),
    st.sampled_from([["--contents"], ["--contents", "--stats"], ["--contents", "--json"]]),
)
def test_headers_of_safetensors(content, options):
    Path("model.safetensors").write_bytes(content)
    run("summary", "model.safetensors", *options)


def sound_onnx() -> bytes:
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")
    ]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weight]
    )
    return onnx.helper.make_model(graph).SerializeToString()


@st.composite
def onnx_file(draw: Callable) -> bytes:
    model = onnx.ModelProto(ir_version=draw(st.integers(-1, 20)))
    model.graph.SetInParent()
    for _ in range(draw(st.integers(0, 2))):
        dims = draw(st.lists(st.sampled_from([-1, 0, 1, 2, 2**40, 2**63 - 1]), max_size=3))
        tensor = onnx.TensorProto(name=draw(st.text(st.characters(codec="utf-8"), max_size=5)), dims=dims)
        tensor.data_type = draw(st.integers(-1, 30) | st.just(99))
        if draw(st.booleans()):
            tensor.raw_data = draw(st.binary(max_size=8))
        if draw(st.booleans()):
            tensor.data_location = 1
            for key in draw(st.lists(st.sampled_from(["location", "offset", "length"]), max_size=3)):
                entry = tensor.external_data.add()
                entry.key, entry.value = key, draw(st.sampled_from(["", "..", "w.bin", "-1", "x", "8", "\0"]))
        model.graph.initializer.append(tensor)
    if draw(st.booleans()):
        entry = model.metadata_props.add()
        entry.key, entry.value = (
            "nnkit",
            draw(st.sampled_from(["", "{", "[]", '{"nnkit": 1}', '{"spec": {}}'])),
        )
    return model.SerializeToString()


@BOUNDED
@given(
    changed(onnx_file(), sound_onnx()),
    st.sampled_from([[], ["--contents"], ["--stats"], ["--contents", "--json"]]),
)
def test_headers_of_onnx(content, options):
    Path("model.onnx").write_bytes(content)
    run("summary", "model.onnx", *options)


@BOUNDED
@given(
    st.dictionaries(st.sampled_from(["weight_map", "metadata"]), VALUES | st.dictionaries(WORDS, WORDS))
    | VALUES
)
def test_indexes_of_shards(content):
    text = json.dumps(content, default=str)
    Path("m.safetensors.index.json").write_text(text, encoding="utf-8")
    run("summary", "m.safetensors.index.json", "--contents")
