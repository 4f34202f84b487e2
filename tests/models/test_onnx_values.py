"""An ONNX file read without its values, beside onnx's own reading of the whole."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from nnkit.models.onnx_values import read_parts

rng = np.random.default_rng(0)
VALUES = {
    "float32": rng.standard_normal((64, 65)).astype(np.float32),
    "float16": rng.standard_normal((7, 1, 999)).astype(np.float16),
    "bfloat16": rng.standard_normal(5001).astype(ml_dtypes.bfloat16),
    "float64": rng.standard_normal((3, 1001)),
    "bool": rng.random(6001) > 0.5,
    "int8": rng.integers(-9, 9, (5000,), dtype=np.int8),
    "complex64": (rng.standard_normal(2000) + 1j).astype(np.complex64),
    "int4": rng.integers(-8, 7, 20000).astype(ml_dtypes.int4),
    "small": np.arange(3.0),
    "scalar": np.float32(2.5),
}


@pytest.fixture
def model():
    """A model with initializers of all kinds, and one in the body of a branch."""
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in VALUES.items()]
    tensors.append(helper.make_tensor("in fields", TensorProto.FLOAT, [3000], np.arange(3000.0)))
    tensors.append(helper.make_tensor("text", TensorProto.STRING, [2], [b"x" * 5000, b"y"]))
    inner = onnx.numpy_helper.from_array(np.ones(5000, np.float32), "inner")
    body = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["inside"])],
        "body",
        [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, [5000])],
        [inner],
    )
    node = helper.make_node("If", ["bool"], ["out"], then_branch=body, else_branch=body)
    graph = helper.make_graph(
        [node], "net", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, [5000])], tensors
    )
    made = helper.make_model(graph, producer_name="test")
    made.metadata_props.add(key="k", value="v")
    return made


def test_the_parts_are_the_whole(model, tmp_path):
    onnx.save(model, tmp_path / "net.onnx")
    parts = read_parts(tmp_path / "net.onnx")
    assert set(parts.places) == set(VALUES) - {"small", "scalar"}
    assert parts.model.ByteSize() < model.ByteSize() - parts.size
    for light, full in zip(parts.model.graph.initializer, model.graph.initializer, strict=True):
        values, expected = parts.values(light), onnx.numpy_helper.to_array(full)
        assert (values.dtype, values.shape) == (expected.dtype, expected.shape)
        assert values.tolist() == expected.tolist()
        assert parts.whole(light) == full
        light.CopyFrom(parts.whole(light))
    assert parts.model == model


def test_a_model_spread_over_two_files_is_the_same(model, tmp_path):
    onnx.save(model, tmp_path / "net.onnx")
    (tmp_path / "spread").mkdir()
    parts = read_parts(tmp_path / "net.onnx")
    written = parts.spread(tmp_path / "spread")
    again = read_parts(written)
    assert not again.places
    for tensor, light in zip(again.model.graph.initializer, parts.model.graph.initializer, strict=True):
        place = {entry.key: entry.value for entry in tensor.external_data}
        assert int(place.get("offset", 0)) % 64 == 0
        if tensor.name in parts.places:
            assert again.values(tensor).tobytes() == parts.values(light).tobytes()
    loaded = onnx.load(written)
    for before, after in zip(model.graph.initializer, loaded.graph.initializer, strict=True):
        assert onnx.numpy_helper.to_array(before).tolist() == onnx.numpy_helper.to_array(after).tolist()


def test_values_that_are_asked_for_are_not_written_to_disk(model, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    before = path.read_bytes()
    parts = read_parts(path)
    parts.values(parts.model.graph.initializer[0])[:] = 7
    assert path.read_bytes() == before


def merged(model):
    """The same model as two messages that are to be merged, each with a part of the graph."""
    rest = onnx.ModelProto()
    rest.graph.initializer.extend(model.graph.initializer[3:])
    first = onnx.ModelProto()
    first.CopyFrom(model)
    del first.graph.initializer[3:]
    return first.SerializeToString() + rest.SerializeToString()


def named_twice(model):
    twice = onnx.ModelProto()
    twice.CopyFrom(model)
    twice.graph.initializer.append(model.graph.initializer[0])
    return twice.SerializeToString()


def without_names(model):
    nameless = onnx.ModelProto()
    nameless.CopyFrom(model)
    for tensor in nameless.graph.initializer:
        tensor.ClearField("name")
    return nameless.SerializeToString()


@pytest.mark.parametrize("write", [merged, named_twice, without_names, lambda model: b""])
def test_files_in_unusual_forms_are_read_as_onnx_reads_them(write, model, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(write(model))
    parts, full = read_parts(path), onnx.load(path)
    for light in parts.model.graph.initializer:
        light.CopyFrom(parts.whole(light))
    assert parts.model == full


def test_no_damage_makes_it_read_more_than_onnx_does(model, tmp_path):
    onnx.save(model, tmp_path / "net.onnx")
    content, path = (tmp_path / "net.onnx").read_bytes(), tmp_path / "damaged.onnx"
    for _ in range(200):
        damaged = bytearray(content[: rng.integers(1, len(content)) if rng.random() < 0.5 else None])
        for position in rng.integers(0, len(damaged), 3):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            full = onnx.load(path)
        except (DecodeError, ValueError):
            full = None
        if full is None:
            with pytest.raises((DecodeError, ValueError)):
                read_parts(path)
        else:
            parts = read_parts(path)
            for light in parts.model.graph.initializer:
                light.CopyFrom(parts.whole(light))
            assert parts.model.SerializeToString() == full.SerializeToString()
