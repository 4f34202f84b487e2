"""Model files of anybody's: what is in them, from headers alone, and nothing in them runs."""

import json
import math

import numpy as np
import onnx
import pytest
import torch
from conftest import python
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

import nnkit
from nnkit.errors import NnkitError, UsageProblem


def by_name(report):
    return {each.name: each for each in report.tensors}


def test_safetensors_have_the_shapes_types_and_bytes_that_were_saved(tmp_path):
    state = {
        "w": torch.randn(3, 4), "half": torch.ones(5, dtype=torch.bfloat16), "ids": torch.arange(6),
        "none": torch.zeros(0, 2), "scalar": torch.tensor(1.0),
    }  # fmt: skip
    save_file(state, tmp_path / "m.safetensors", metadata={"made": "here"})
    report = nnkit.inspect_file(tmp_path / "m.safetensors")
    found = {name: (each.dtype, each.shape, each.bytes) for name, each in by_name(report).items()}
    assert found == {
        name: (str(each.dtype).removeprefix("torch."), tuple(each.shape), each.nbytes)
        for name, each in state.items()
    }
    assert report.metadata == {"made": "here"}
    assert (report.elements, report.tensor_bytes) == (12 + 5 + 6 + 1, 48 + 10 + 48 + 4)
    assert all(each.stats is None for each in report.tensors)


def test_a_file_of_100_gb_is_read_by_its_header_alone(tmp_path):
    header = json.dumps(
        {"w": {"dtype": "F16", "shape": [50_000, 1_000_000], "data_offsets": [0, 100_000_000_000]}}
    ).encode()
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        try:
            file.truncate(8 + len(header) + 100_000_000_000)
        except OSError:
            pytest.skip("the file system has no sparse files so large")
    report = nnkit.inspect_file(path)
    assert (report.elements, report.tensor_bytes) == (50_000_000_000, 100_000_000_000)


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
def test_a_header_is_read_without_torch(tmp_path, kind):
    path = tmp_path / f"m.{kind}"
    save_file({"w": torch.ones(2)}, path) if kind == "safetensors" else onnx.save(small_onnx(), path)
    done = python(
        "-c", f"import nnkit, sys; nnkit.inspect_file({str(path)!r}); print('torch' in sys.modules)"
    )
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32, torch.float8_e4m3fn]
)
def test_statistics_are_those_of_the_finite_values(tmp_path, dtype):
    values = torch.randn(1000).mul(8).to(dtype)
    save_file({"w": values}, tmp_path / "m.safetensors")
    stats = by_name(nnkit.inspect_file(tmp_path / "m.safetensors", stats=True))["w"].stats
    expected = values.double().numpy()
    for got, want in zip(
        (stats.min, stats.max, stats.mean, stats.std),
        (expected.min(), expected.max(), expected.mean(), expected.std()),
        strict=True,
    ):
        assert math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-12)
    assert (stats.nans, stats.infinities) == (0, 0)


def test_what_is_not_a_number_or_infinite_is_counted_apart(tmp_path):
    values = torch.tensor([1.0, float("nan"), float("inf"), -float("inf"), 3.0, float("nan")])
    save_file({"w": values, "all": torch.full((2,), float("nan"))}, tmp_path / "m.safetensors")
    found = by_name(nnkit.inspect_file(tmp_path / "m.safetensors", stats=True))
    stats = found["w"].stats
    assert (stats.min, stats.max, stats.mean, stats.std, stats.nans, stats.infinities) == (1, 3, 2, 1, 2, 2)
    assert (found["all"].stats.mean, found["all"].stats.nans) == (None, 2)


def shards(folder, files):
    where = {}
    for name, state in files.items():
        save_file(state, folder / name)
        where |= dict.fromkeys(state, name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 40}, "weight_map": where}))
    return index


def test_the_index_of_shards_stands_for_all_of_them(tmp_path):
    index = shards(
        tmp_path, {"one.safetensors": {"a": torch.ones(4)}, "two.safetensors": {"b": torch.ones(2, 3)}}
    )
    report = nnkit.inspect_file(index)
    assert {name: each.file for name, each in by_name(report).items()} == {
        "a": "one.safetensors", "b": "two.safetensors"
    }  # fmt: skip
    assert report.tensor_bytes == 40
    assert report.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_shards_that_are_missing_elsewhere_or_incomplete_are_errors(tmp_path):
    index = shards(tmp_path, {"one.safetensors": {"a": torch.ones(4)}})
    good = json.loads(index.read_text())
    for where, message in (
        ({"a": "../one.safetensors"}, "in another folder"),
        ({"a": "gone.safetensors"}, "which does not exist"),
        ({"a": "one.safetensors", "z": "one.safetensors"}, "z should be in one.safetensors"),
    ):
        index.write_text(json.dumps({**good, "weight_map": where}))
        with pytest.raises(NnkitError, match=message):
            nnkit.inspect_file(index)
    index.write_text("{}")
    with pytest.raises(NnkitError, match="no weight_map"):
        nnkit.inspect_file(index)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-4], "follow the header"),
        (lambda data: data + b"1234", "follow the header"),
        (lambda data: (2**60).to_bytes(8, "little") + data[8:], "its header claims"),
        (lambda data: data[:8] + b"x" + data[9:], "not JSON"),
        (lambda data: b"abc", "its header claims"),
        (lambda data: data.replace(b"[0,16]", b"[4,20]"), "doesn't begin where"),
        (lambda data: data.replace(b"data_offsets", b"data_offsetz"), "can't be read"),
    ],
)
def test_damaged_safetensors_are_refused_with_the_damage(tmp_path, spoil, message):
    path = tmp_path / "m.safetensors"
    save_file({"w": torch.ones(4)}, path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(NnkitError, match=message) as raised:
        nnkit.inspect_file(path)
    assert raised.value.exit_code == 1


def small_onnx():
    """A branch with a product in it, a weight in each graph, and a free size."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None])
    outer = helper.make_tensor(
        "w", TensorProto.FLOAT, [3, 2], np.arange(6, dtype=np.float32).tobytes(), raw=True
    )
    inner = helper.make_tensor("v", TensorProto.INT64, [2], [1, 2])
    branches = [
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], [f"out_{name}"])], name, [],
            [helper.make_tensor_value_info(f"out_{name}", TensorProto.FLOAT, None)],
            [inner] if name == "a" else [],
        )
        for name in "ab"
    ]  # fmt: skip
    condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("If", ["c"], ["z"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Own", ["z"], ["y"], domain="mine"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], [outer, condition])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 2)]
    return helper.make_model(graph, opset_imports=opsets, producer_name="somebody", ir_version=9)


def test_onnx_has_its_ports_operators_and_weights_those_of_branches_too(tmp_path):
    onnx.save(small_onnx(), tmp_path / "m.onnx")
    report = nnkit.inspect_file(tmp_path / "m.onnx", stats=True)
    graph = report.graph
    assert [(each.name, each.dtype, each.shape) for each in graph.inputs] == [("x", "float32", ("batch", 3))]
    assert [(each.name, each.shape) for each in graph.outputs] == [("y", ("batch", "?"))]
    assert graph.operators == {"MatMul": 2, "If": 1, "mine.Own": 1}
    assert graph.opsets == {"ai.onnx": 18, "mine": 2}
    assert (graph.ir_version, graph.producer) == (9, "somebody")
    found = by_name(report)
    assert {name: (each.dtype, each.bytes) for name, each in found.items()} == {
        "w": ("float32", 24), "c": ("bool", 1), "v": ("int64", 16)
    }  # fmt: skip
    assert (found["w"].stats.min, found["w"].stats.max, found["w"].stats.mean) == (0, 5, 2.5)


def test_values_that_onnx_keeps_in_another_file_are_counted_and_missed(tmp_path):
    onnx.save(
        small_onnx(), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.data"
    )
    report = nnkit.inspect_file(tmp_path / "m.onnx")
    assert list(report.files) == ["m.data"]
    assert by_name(report)["w"].file == "m.data"
    assert report.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    (tmp_path / "m.data").unlink()
    with pytest.raises(NnkitError, match=r"keeps values in m.data, which does not exist"):
        nnkit.inspect_file(tmp_path / "m.onnx")


def test_a_damaged_onnx_file_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"\xff\xfe not a protobuf")
    with pytest.raises(NnkitError, match="is damaged"):
        nnkit.inspect_file(tmp_path / "m.onnx")


def test_a_checkpoint_is_told_by_dotted_names_and_tied_tensors_share_bytes(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    torch.save({"model": model.state_dict(), "epoch": 3, "losses": [0.5, 0.25]}, tmp_path / "c.pt")
    report = nnkit.inspect_file(tmp_path / "c.pt", stats=True)
    assert list(by_name(report)) == ["model.0.weight", "model.0.bias", "model.1.weight"]
    assert report.metadata == {"epoch": "3", "losses.0": "0.5", "losses.1": "0.25"}
    assert report.tensor_bytes == (16 + 4) * 4
    assert by_name(report)["model.0.bias"].stats.max == float(model[0].bias.detach().max())


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    torch.save({"w": torch.ones(2), "bomb": Bomb(str(tmp_path / "ran"))}, tmp_path / "c.pt")
    with pytest.raises(NnkitError, match="was not run") as raised:
        nnkit.inspect_file(tmp_path / "c.pt")
    assert not (tmp_path / "ran").exists()
    assert "state dict" in raised.value.hint
    assert "open" in raised.value.message


def test_a_checkpoint_that_is_none_is_damaged(tmp_path):
    (tmp_path / "c.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(NnkitError, match=r"c.pt"):
        nnkit.inspect_file(tmp_path / "c.pt")


def test_no_such_file_and_no_such_kind_are_the_users_to_mend(tmp_path):
    with pytest.raises(UsageProblem, match="does not exist"):
        nnkit.inspect_file(tmp_path / "none.onnx")
    (tmp_path / "m.txt").write_text("")
    with pytest.raises(UsageProblem, match="is not a model file"):
        nnkit.inspect_file(tmp_path / "m.txt")


def test_the_command_tells_a_strangers_file_and_nnkits_own_when_asked(nnkit_command):
    save_file({"w": torch.ones(2, 3)}, "mine.safetensors")
    out = nnkit_command("summary", "mine.safetensors").out
    assert "w       float32  2×3           6     24" in out
    data = json.loads(nnkit_command("summary", "mine.safetensors", "--stats", "--json").out)
    assert data["tensors"][0]["stats"]["mean"] == 1
    nnkit_command("export", "simple-cnn", "--safetensors")
    assert nnkit_command("summary", "simple-cnn.safetensors").out.startswith("vision/simple-cnn · batch 1")
    assert (
        "fc1.weight"
        in nnkit_command("summary", "simple-cnn.safetensors", "--contents", "--format", "csv").out
    )
    for format, begin in (("markdown", "**mine"), ("latex", r"\begin{table}"), ("html", "<table>")):
        assert nnkit_command("summary", "mine.safetensors", "--format", format).out.startswith(begin)
    done = nnkit_command("summary", "resnet18", "--stats")
    assert (done.code, done.out) == (2, "")
    assert "--contents and --stats are for model files" in done.err
