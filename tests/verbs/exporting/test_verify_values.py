"""Every value in somebody's file is compared with the model: behind gates, in groups of equal tensors, renamed."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import nnkit
from nnkit.errors import VerificationFailed
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager

AXES = {"x": {0: "batch", 2: "height", 3: "width"}}
INPUT = "x: float32[batch, 3, height=9, width=10]"


class Gated(nn.Module):
    """A branch that adds nothing as long as the scale of its last norm is zero."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first, self.norm1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        nn.init.zeros_(self.norm2.weight)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        h = self.stem(x).relu()
        h = h + self.norm2(self.second(self.norm1(self.first(h)).relu()))
        return self.head(h.mean((2, 3)))


class Dead(nn.Module):
    """A unit that is off for every input, and a layer behind it."""

    def __init__(self):
        super().__init__()
        self.stem, self.off, self.behind = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1)
        nn.init.constant_(self.off.bias, -100.0)
        self.register_buffer("order", torch.arange(4).flip(0))

    def forward(self, x):
        h = self.stem(x)
        return (h + self.behind(self.off(h).relu()))[:, self.order].mean((2, 3))


def write(module, path, way):
    """Export with torch itself; folded, raw, or with names of their own for all weights."""
    x = torch.randn(2, 3, 9, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way == "dynamo":
            program = torch.onnx.export(
                module, (x,), dynamo=True, input_names=["x"], dynamic_shapes=(AXES["x"],), verbose=False
            )
            program.save(str(path))
        else:
            raw = {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
            torch.onnx.export(
                module, (x,), str(path), dynamo=False, input_names=["x"], dynamic_axes=AXES,
                keep_initializers_as_inputs=way == "inputs", **(raw if way == "raw" else {}),
            )  # fmt: skip
    if way == "renamed":
        model = onnx.load(path)
        names = {each.name: f"w{place}" for place, each in enumerate(model.graph.initializer)}
        for each in model.graph.initializer:
            each.name = names[each.name]
        for node in model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
        onnx.save(model, path)


def damaged(path, name):
    """Return the file beside it with random values in one initializer."""
    model = onnx.load(path)
    weight = next(each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(weight)
    drawn = np.random.default_rng(0).standard_normal(values.shape)
    other = np.roll(values, 1) if values.dtype.kind == "i" else drawn.astype(values.dtype)
    weight.CopyFrom(numpy_helper.from_array(other, name))
    target = path.with_name("damaged.onnx")
    onnx.save(model, target)
    return target


@pytest.fixture
def case(tmp_path, request):
    """A module, its weights in a file, and what verifies a file against it."""
    torch.manual_seed(3)
    module = request.param().eval()
    torch.save(module.state_dict(), tmp_path / "w.pt")
    spec = look_up(f"{__name__}:{request.param.__name__}", plugin_manager(), [INPUT]).resolve()
    spec = replace(spec, weights=str(tmp_path / "w.pt"))
    return module, tmp_path / "theirs.onnx", lambda path: nnkit.verify(path, spec)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["folded", "raw", "renamed", "inputs", "dynamo"])
@pytest.mark.parametrize("case", [Gated, Dead], indirect=True)
def test_each_tensor_of_a_right_file_is_known_and_none_may_be_damaged(case, way):
    module, path, verify = case
    write(module, path, way)
    equal, of = verify(path).proof.equal
    assert equal == of > 0
    tried = 0
    for each in onnx.load(path).graph.initializer:
        if np.prod(each.dims) > 1 and (each.data_type == onnx.TensorProto.FLOAT or each.name == "order"):
            tried += 1
            with pytest.raises(VerificationFailed):
                verify(damaged(path, each.name))
    assert tried >= 6


@pytest.mark.parametrize("case", [Gated], indirect=True)
def test_a_tensor_that_bears_the_name_of_one_of_the_model_is_compared(case):
    module, path, verify = case
    write(module, path, "raw")
    assert verify(path).verified
    with pytest.raises(VerificationFailed, match=r"second\.weight has other values"):
        verify(damaged(path, "second.weight"))


@pytest.mark.parametrize("case", [Gated], indirect=True)
def test_values_that_no_node_reads_and_that_callers_may_replace_are_no_fault(case):
    module, path, verify = case
    write(module, path, "inputs")
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "left_over"))
    onnx.save(model, path)
    assert verify(path).verified


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, query, key):
        return self.q(query) - 2 * self.k(key)


def test_inputs_in_another_order_are_matched_by_their_names(tmp_path):
    module, path = Two().eval(), tmp_path / "two.onnx"
    sample = torch.randn(2, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (sample, sample), str(path), dynamo=False, input_names=["query", "key"])
    model = onnx.load(path)
    swapped = copy.deepcopy(list(model.graph.input))[::-1]
    del model.graph.input[:]
    model.graph.input.extend(swapped)
    onnx.save(model, path)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    inputs = ["query: float32[2, 6]", "key: float32[2, 6]"]
    spec = look_up(f"{__name__}:Two", plugin_manager(), inputs).resolve()
    assert nnkit.verify(path, replace(spec, weights=str(tmp_path / "w.pt"))).verified
