"""The verb export: the files, and a proof that can fail."""

import contextlib
import json
import random

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import python
from safetensors import safe_open
from torch import nn

import nnkit
from nnkit import ExportOptions
from nnkit.errors import NnkitError, UsageProblem, VerificationFailed
from nnkit.models.references import Reference
from nnkit.models.user_modules import architecture_of_code


def spec_of(name, *inputs, **options):
    return Reference(architecture_of_code(f"{__name__}:{name}", inputs), "").resolve(None, options)


@pytest.mark.parametrize(
    ("name", "options", "inputs"),
    [
        ("simple-cnn", {}, {"image": ["batch", 3, 32, 32]}),
        ("resnet18", {}, {"image": ["batch", 3, "height", "width"]}),
        pytest.param(
            "resnet50",
            {"stem": "cifar", "height": 16, "width": 16},
            {"image": ["batch", 3, "height", "width"]},
            marks=pytest.mark.slow,
        ),
        ("gcn", {}, {"x": ["nodes", 16], "edge_index": [2, "edges"]}),
        ("gcn", {"adjacency": "dense"}, {"x": ["nodes", 16], "adjacency": ["nodes", "nodes"]}),
    ],
)
def test_every_declared_dim_is_dynamic_under_its_own_name_and_proven(tmp_path, name, options, inputs):
    file = tmp_path / "net.onnx"
    report = nnkit.export(name, file, **options)
    assert report.verified
    assert len({tuple(check.sizes.items()) for check in report.checks}) >= 5

    graph = onnx.load(file).graph
    onnx.checker.check_model(str(file), full_check=True)
    declared = {
        each.name: [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim]
        for each in graph.input
    }
    first, *_ = next(iter(declared.values()))
    assert [each[0] for each in declared.values()] == [each[0] for each in inputs.values()], first
    assert {axis for shape in declared.values() for axis in shape if isinstance(axis, str)} == {
        axis for shape in inputs.values() for axis in shape if isinstance(axis, str)
    }


def test_the_file_gives_the_module_s_own_result_in_onnx_runtime(tmp_path):
    nnkit.export("gcn", tmp_path / "gcn.onnx", seed=4)
    module = nnkit.build("gcn", seed=4)
    x, edges = torch.randn(9, 16), torch.randint(9, (2, 31))
    session = onnxruntime.InferenceSession(tmp_path / "gcn.onnx")
    feeds = dict(zip([each.name for each in session.get_inputs()], [x.numpy(), edges.numpy()], strict=True))
    with torch.inference_mode():
        expected = module(x, edges).numpy()
    assert np.abs(session.run(None, feeds)[0] - expected).max() < 1e-5


def test_the_file_names_no_place_and_holds_its_spec(tmp_path):
    nnkit.export("simple-cnn", tmp_path / "a.onnx", seed=7)
    content = (tmp_path / "a.onnx").read_bytes()
    assert b"/" + b"nnkit" not in content
    assert b".py" not in content
    (entry,) = onnx.load(tmp_path / "a.onnx").metadata_props
    assert json.loads(entry.value)["spec"]["seed"] == 7
    nnkit.export("simple-cnn", tmp_path / "b.onnx", seed=7)
    assert (tmp_path / "b.onnx").read_bytes() == content


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_an_exported_file_is_a_reference(tmp_path, suffix):
    file = tmp_path / f"net.{suffix}"
    nnkit.export("simple-cnn", file, num_classes=4, seed=3)
    report = nnkit.summarize(str(file))
    assert report.spec.config.num_classes == 4
    assert report.totals.parameters == 545_098 - 6 * 129
    assert torch.equal(
        nnkit.build(str(file)).fc2.weight, nnkit.build("simple-cnn", num_classes=4, seed=3).fc2.weight
    )


def test_a_file_made_from_another_names_no_folder(tmp_path):
    nnkit.export("simple-cnn", tmp_path / "a.safetensors", seed=3)
    nnkit.export(str(tmp_path / "a.safetensors"), tmp_path / "b.safetensors")
    nnkit.export(str(tmp_path / "a.safetensors"), tmp_path / "c.onnx", verify=False)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    (entry,) = onnx.load(tmp_path / "c.onnx").metadata_props
    assert json.loads(entry.value)["spec"]["weights"] == "a.safetensors"


def test_safetensors_gives_back_the_weights_bit_for_bit(tmp_path):
    file = tmp_path / "net.safetensors"
    report = nnkit.export("resnet18", file, seed=3, dtype="bfloat16")
    assert report.verified
    state = nnkit.build("resnet18", seed=3, dtype="bfloat16").state_dict()
    with safe_open(file, framework="pt") as read:
        assert set(read.keys()) == set(state)
        assert all(torch.equal(read.get_tensor(name), state[name]) for name in state)


def test_an_opset_is_honoured(tmp_path):
    report = nnkit.export("simple-cnn", tmp_path / "a.onnx", opset=19)
    assert report.opset == 19
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == 19


def test_an_opset_that_torch_can_not_write_is_refused(tmp_path):
    with pytest.raises(VerificationFailed, match="opset 13 was requested, but torch wrote"):
        nnkit.export("simple-cnn", tmp_path / "a.onnx", opset=13)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_is_proven_in_onnx_runtime(tmp_path):
    report = nnkit.export("simple-cnn", tmp_path / "a.onnx", dtype="float16")
    assert report.proof.runner.startswith("ONNX Runtime")
    assert report.proof.coverage.share > 0.99
    assert onnxruntime.InferenceSession(tmp_path / "a.onnx").get_inputs()[0].type == "tensor(float16)"


@pytest.mark.parametrize("name", ["simple-cnn", "gcn"])
def test_half_precision_between_float32_inputs_and_outputs(tmp_path, name):
    report = nnkit.export(name, tmp_path / "a.onnx", dtype="float16", how=ExportOptions(float32_io=True))
    assert report.verified
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(float)"
    kinds = {each.data_type for each in onnx.load(tmp_path / "a.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    with pytest.raises(UsageProblem, match="--float32-io is for float16 models"):
        nnkit.export(name, tmp_path / "b.onnx", how=ExportOptions(float32_io=True))


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_what_onnx_runtime_has_no_kernel_for_is_proven_by_the_reference_evaluator(tmp_path, dtype):
    report = nnkit.export("simple-cnn", tmp_path / "a.onnx", dtype=dtype)
    assert report.proof.runner.startswith("the reference evaluator of onnx")
    assert f"ONNX Runtime has no {dtype}" in report.proof.runner
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED|INVALID_GRAPH|bfloat16"):
        onnxruntime.InferenceSession(tmp_path / "a.onnx")


def test_a_file_that_takes_onnx_runtime_down_is_refused_and_the_command_lives(tmp_path):
    """Loops in float16 end the process in ONNX Runtime 1.32; where a later one has them, this is proven."""
    with contextlib.suppress(VerificationFailed):
        assert nnkit.export("pointer-network", tmp_path / "a.onnx", dtype="float16").verified
    assert {file.name for file in tmp_path.iterdir()} <= {"a.onnx"}


def test_a_module_is_exported_with_its_example_inputs_and_stays_as_it_is(tmp_path):
    module = nn.Sequential(nn.Linear(4, 3), nn.Dropout()).train()
    report = nnkit.export(module, tmp_path / "a.onnx", [torch.randn(2, 4)])
    assert report.verified
    assert module.training


def test_without_the_proof_the_report_says_so(tmp_path):
    report = nnkit.export("simple-cnn", tmp_path / "a.onnx", verify=False)
    assert not report.verified
    assert report.checks == ()
    assert report.to_dict()["verified"] is False


class AloneIsDifferent(nn.Module):
    """The exporter takes the branch of the traced batch for all batches."""

    def forward(self, x):
        return x * 2 if x.shape[0] == 1 else x * 3


class BakedIn(nn.Module):
    """The pool's kernel is computed from the traced width."""

    def forward(self, x):
        return nn.functional.adaptive_avg_pool1d(x, 2)


class Random(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


class PythonRandom(nn.Module):
    """The exporter writes the number that it met down as a constant."""

    def forward(self, x):
        return x * random.random()


class Unmoved(nn.Module):
    """Its output is a parameter, whatever comes in."""

    def __init__(self):
        super().__init__()
        self.values = nn.Parameter(torch.randn(3))

    def forward(self, x):
        return self.values + 0 * x.sum(1, keepdim=True)


class Zeros(nn.Module):
    def forward(self, x):
        return x * 0


class Rounded(nn.Module):
    """Works at multiples of four alone, and doesn't say so."""

    def forward(self, x):
        return x.reshape(len(x), x.shape[1] // 4, 4).sum(-1)


class Unrolled(nn.Module):
    """A loop in Python over an axis that is declared to be dynamic."""

    def forward(self, x):
        state = x[:, 0]
        for step in range(1, x.shape[1]):
            state = torch.tanh(state + x[:, step])
        return state


class NotANumber(nn.Module):
    def forward(self, x):
        return (x - 1e9).sqrt()


class Right(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return self.linear(x).softmax(-1), x.argmax(-1)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("AloneIsDifferent", "x: float32[batch, 4]", "at batch 1 output 'output' differs by"),
        ("BakedIn", "x: float32[batch, 3, width=8]", "width"),
        ("Random", "x: float32[batch, 4]", "is random: output 'output' of two runs of the module itself"),
        ("PythonRandom", "x: float32[batch, 4]", "is random"),
        (
            "Unmoved",
            "x: float32[batch, 4]",
            "output 'output' is the same for other inputs, which proves nothing",
        ),
        ("Zeros", "x: float32[batch, 4]", "is the same for other inputs"),
        ("Rounded", "x: float32[batch, time=8]", "fails at batch 1, time 3, which its dims allow"),
        ("Unrolled", "x: float32[batch, time=5, 2]", "works only with time 5, but time is declared"),
        ("NotANumber", "x: float32[batch, 4]", "is not finite in the module itself"),
    ],
)
def test_a_file_that_is_not_the_model_is_refused_and_not_left(tmp_path, name, shape, message):
    with pytest.raises(VerificationFailed) as raised:
        nnkit.export(spec_of(name, shape), tmp_path / "a.onnx")
    assert message in raised.value.message
    assert raised.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_several_outputs_are_compared_each_and_integers_exactly(tmp_path):
    report = nnkit.export(spec_of("Right", "x: float32[batch, 6]"), tmp_path / "a.onnx")
    assert {check.output for check in report.checks} == {"output_0", "output_1"}
    assert all(check.max_abs_diff == 0 for check in report.checks if check.output == "output_1")


def test_a_weight_that_is_changed_after_writing_is_seen(tmp_path, monkeypatch):
    """The proof runs the file itself: a wrong weight in it is found."""
    from nnkit.verbs.exporting import handler
    from nnkit.verbs.exporting import onnx as writer

    write = writer.write_onnx

    def spoiled(module, plan, options, path):
        got = write(module, plan, options, path)
        model = onnx.load(path)
        weight = next(each for each in model.graph.initializer if each.name == "conv2.weight")
        values = onnx.numpy_helper.to_array(weight)
        weight.CopyFrom(onnx.numpy_helper.from_array(np.roll(values, 1, 0) * 1.5, weight.name))
        onnx.save(model, path)
        return got

    monkeypatch.setattr(writer, "write_onnx", spoiled)
    assert handler is not None
    with pytest.raises(VerificationFailed, match=r"conv2\.weight has other values than the module"):
        nnkit.export("simple-cnn", tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_safetensors_that_lost_a_bit_is_refused(tmp_path, monkeypatch):
    from nnkit.verbs.exporting import safetensors as writer

    write = writer.write_safetensors

    def spoiled(module, spec, path, verify, max_shard_size):
        write(module, spec, path, verify, max_shard_size)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return path

    monkeypatch.setattr(writer, "write_safetensors", spoiled)
    with pytest.raises(VerificationFailed, match=r"values have changed since it was written \(sha256\)"):
        nnkit.export("simple-cnn", tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "format"), [("a.pt2", "onnx"), ("a.model", "safetensors"), ("a", "pt2")])
def test_a_name_that_does_not_say_the_format_is_refused(tmp_path, name, format):
    with pytest.raises(UsageProblem, match=rf"a file of {format} ends in \.{format}") as raised:
        nnkit.export("simple-cnn", tmp_path / name, format=format)
    assert raised.value.hint == f"call it a.{format}"
    assert list(tmp_path.iterdir()) == []


def test_what_torch_can_not_export_leaves_no_wall_of_text(tmp_path):
    """In a process of its own, where nothing else has silenced torch's loggers."""
    (tmp_path / "net.py").write_text(BY_VALUE)
    for kind in ("--onnx", "--pt2"):
        command = ["export", "net.py:Net", "--input", "x: float32[batch, 4]", kind]
        done = python("-m", "nnkit", *command, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 2


BY_VALUE = """
from torch import nn
class Net(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)
    def forward(self, x):
        y = super().forward(x)
        return y if y.sum() > 0 else -y
"""


def test_what_torch_can_not_export_is_told_in_a_line(tmp_path):
    with pytest.raises(NnkitError, match=r"torch can't export .*:ByValue: "):
        nnkit.export(spec_of("ByValue", "x: float32[batch, 4]"), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


class ByValue(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_an_unsupported_format_gives_the_architecture_s_reason(tmp_path):
    from dataclasses import replace

    from nnkit.errors import PluginProblem

    spec = nnkit.resolve("simple-cnn")
    refusing = replace(
        spec, architecture=replace(spec.architecture, unsupported={"onnx": "it is drawn by hand"})
    )
    with pytest.raises(PluginProblem, match="it is drawn by hand"):
        nnkit.export(refusing, tmp_path / "a.onnx")
    assert nnkit.export(refusing, tmp_path / "a.safetensors").verified
