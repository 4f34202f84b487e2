"""No copy of a model's weights is made that isn't needed; what is computed without one is the same."""

import re
import weakref
from pathlib import Path

import onnx
import onnx_ir
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import nnkit
from nnkit.contract.signature import Signature
from nnkit.errors import VerificationFailed
from nnkit.models.copies import copy_of
from nnkit.models.running import call
from nnkit.verbs.exporting import coverage, onnx_file, onnx_writer
from nnkit.verbs.exporting.in_float64 import copy_in_float64, read_in_float64

STATUS = Path("/proc/self/status")
needs_linux = pytest.mark.skipif(not STATUS.exists(), reason="only Linux shows peaks of memory")
SIGNATURE = Signature(("x",))
SIZE = 2**24  # elements of float32: 64 MiB


def memory_of(name):
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", STATUS.read_text())[1])


def peak_of(action):
    """Return the bytes that an action takes at most above what is there before it."""
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_of("VmRSS")
    action()
    return memory_of("VmHWM") - before


class Wide(nn.Module):
    """A module of which nearly all memory is in four square weights."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(4))
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return x * self.gain


def model_of(size):
    """A model that adds a large weight and a small one to its input."""
    weight = onnx_ir.tensor(torch.arange(float(size)).numpy(), name="weight")
    small = onnx_ir.tensor([1.0], name="small")
    x = onnx_ir.Value(name="x", shape=onnx_ir.Shape([1]), type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT))
    values = [onnx_ir.Value(name=each.name, const_value=each) for each in (weight, small)]
    first = onnx_ir.node("Add", [x, values[0]])
    second = onnx_ir.node("Add", [first.outputs[0], values[1]])
    graph = onnx_ir.Graph(
        [x], second.outputs, nodes=[first, second], initializers=values, opset_imports={"": 20}, name="net"
    )
    return onnx_ir.Model(graph, ir_version=10, producer_name="test")


class Program:
    """What torch.onnx.export returns, as far as writing it goes."""

    def __init__(self, model):
        self.model = model


@pytest.mark.parametrize("size", [1, 100, 5_000, 100_000])
def test_a_file_has_the_bytes_that_onnx_writes(size, tmp_path):
    model = model_of(size)
    onnx_ir.save(model, tmp_path / "theirs.onnx")
    onnx_writer.save(Program(model), tmp_path / "ours.onnx", None)
    assert (tmp_path / "ours.onnx").read_bytes() == (tmp_path / "theirs.onnx").read_bytes()
    assert model.graph.initializers["weight"].const_value.nbytes == 4 * size


@needs_linux
def test_writing_a_file_takes_no_second_copy(tmp_path):
    model = model_of(SIZE)
    theirs = peak_of(lambda: onnx_ir.save(model, tmp_path / "theirs.onnx"))
    ours = peak_of(lambda: onnx_writer.save(Program(model), tmp_path / "ours.onnx", None))
    assert theirs > 4 * SIZE  # so a copy would show
    assert ours < SIZE


def gradients_at_once(module, x):
    """The effect of each parameter as all gradients of a random projection give it, in units of 1."""
    outputs = call(module, SIGNATURE, (x,))
    total = coverage._project([outputs], [1.0])
    names, parameters = zip(*module.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return {
        name: float(gradient.double().norm() * parameter.detach().double().square().mean().sqrt())
        for name, parameter, gradient in zip(names, parameters, gradients, strict=True)
        if gradient is not None
    }


def test_effects_are_those_of_all_gradients_at_once():
    torch.manual_seed(0)
    module, x = Wide(64), torch.randn(2, 64)
    with torch.no_grad():
        module.gain[0] = 2
    before = {name: value.clone() for name, value in module.state_dict().items()}
    measured = coverage.measure(module, SIGNATURE, (x,), [1.0]).effects.effects
    assert measured == pytest.approx(gradients_at_once(module, x), rel=1e-9)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_effects_take_one_gradient_at_a_time(monkeypatch):
    """What the process holds is no measure: the C library keeps a changing share of freed blocks."""
    module, x = Wide(64), torch.randn(2, 64)
    gradients, alive = [], []
    measure = coverage._measure_effect

    def look(parameter, gradient):
        gradients.append(weakref.ref(gradient))
        alive.append(sum(each() is not None for each in gradients))
        return measure(parameter, gradient)

    monkeypatch.setattr(coverage, "_measure_effect", look)
    assert len(coverage.measure(module, SIGNATURE, (x,), [1.0]).effects.effects) == 5
    assert alive == [1] * 5


def test_perturbed_weights_share_the_memory_of_those_that_stay():
    module, x = Wide(64), torch.randn(2, 64)
    perturbed = coverage.perturb(module, SIGNATURE, [(x,), (x + 1,)])
    assert perturbed.gain.data_ptr() != module.gain.data_ptr()
    assert not torch.equal(perturbed.gain, module.gain)
    assert torch.equal(module.gain, torch.ones(64))
    for ours, theirs in zip(perturbed.layers, module.layers, strict=True):
        assert ours.weight.data_ptr() == theirs.weight.data_ptr()


def test_parameters_at_one_place_are_copied_together():
    first, second, third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = nn.Parameter(first.weight.data)  # the same memory, a parameter of its own
    module = nn.Sequential(first, second, third)
    copy = copy_of(module, own=[first.weight])
    assert copy[0].weight.data_ptr() == copy[1].weight.data_ptr() != first.weight.data_ptr()
    assert copy[2].weight is third.weight
    assert copy[0].bias is first.bias


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A file that counts as large, in a folder of its own."""
    path = tmp_path_factory.mktemp("large") / "net.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "LARGE", 1)
        nnkit.export("lenet-1998", path)
    return path


def test_a_large_file_is_proven_with_its_values_mapped(exported, monkeypatch):
    assert [file.name for file in exported.parent.iterdir()] == ["net.onnx"]
    plain = nnkit.verify(exported)
    monkeypatch.setattr(onnx_file, "LARGE", 1)
    mapped = nnkit.verify(exported)
    differences = [[check.max_abs_diff for check in each.proof.checks] for each in (mapped, plain)]
    assert differences[0] == differences[1]
    assert mapped.proof.coverage == plain.proof.coverage


def test_a_large_file_that_is_wrong_is_found_out(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "LARGE", 1)
    model = onnx.load(exported)
    output = model.graph.output[0].name
    last = next(node for node in model.graph.node if output in node.output)
    last.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Neg", ["before"], [output]))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(VerificationFailed, match="is not the model"):
        nnkit.verify(tmp_path / "net.onnx")


class Tied(nn.Module):
    """A tied weight, used as it is, transposed, by parts and by its dtype."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, x):
        x = self.second(self.first(x).to(self.first.weight.dtype))
        top = self.first.weight[:4].sum() + torch.einsum("ij,ij->", self.first.weight, self.second.weight)
        return x @ self.first.weight.t() + top * self.first.bias


MODULES = {
    "linear": (lambda: nn.Linear(8, 3), (2, 8)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), (2, 3, 8, 8)),
    "lstm": (lambda: nn.LSTM(8, 4, 2, bidirectional=True, batch_first=True), (2, 5, 8)),
    "gru": (lambda: nn.GRU(8, 4), (5, 2, 8)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 3)), (2, 8)),
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3)), (2, 8)),
    "tied": (Tied, (2, 8)),
}


class Renormed(nn.Module):
    """An embedding that shortens the rows it is asked for, in place."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 8, max_norm=0.5)

    def forward(self, x):
        return self.table(x.long().clamp(0, 4))


def outputs_of(module, x):
    with torch.no_grad():
        result = module(x)
    return tree_leaves(result)


@pytest.mark.parametrize("name", MODULES)
def test_weights_read_in_float64_give_what_a_copy_in_float64_gives(name):
    torch.manual_seed(0)
    make, shape = MODULES[name]
    module, x = make().eval(), torch.randn(shape, dtype=torch.float64)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    for ours, theirs in zip(
        outputs_of(read_in_float64(module), x), outputs_of(copy_in_float64(module), x), strict=True
    ):
        assert ours.dtype == torch.float64
        # The last bit depends on where tensors lie in memory.
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_a_weight_that_forward_writes_to_is_not_read_in_float64():
    module, x = Renormed(), torch.arange(4.0, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="written to"):
        outputs_of(read_in_float64(module), x)
