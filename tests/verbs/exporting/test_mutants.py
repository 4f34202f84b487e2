"""The proof finds what is wrong: files with one weight or one operator changed are refused, each of them.

Of every network, 16 weight matrices are rolled by one output channel and scaled by 1.5, one at a time:
in the values that the file holds, and, where no comparison of values can see it, by nodes in the graph.
With their own weights, most of these networks give the same output to within any tolerance.
"""

import copy
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn
from torchvision.models import VisionTransformer

import nnkit
from nnkit.contract.requests import ExportOptions
from nnkit.errors import VerificationFailed
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.exporting.onnx import write_onnx
from nnkit.verbs.exporting.onnx_file import OnnxFile
from nnkit.verbs.exporting.plan import make_plan
from nnkit.verbs.exporting.proof import Prover

IMAGES = ["x: float32[batch, 3, 224, 224]"]
MUTANTS = 16


class Case:
    """A module, its exported file, and what proves files of it."""

    def __init__(self, reference, inputs, folder):
        spec = look_up(reference, plugin_manager(), inputs).resolve()
        self.module = nnkit.build(spec)
        self.plan = make_plan(spec, self.module, ExportOptions())
        self.file = folder / "net.onnx"
        write_onnx(self.module, self.plan, ExportOptions(), self.file)
        self.prover = Prover(self.module, self.plan)
        self.model = onnx.load(self.file)

    def prove(self, model=None):
        """Prove the file, or another model in its place."""
        path = self.file
        if model is not None:
            path = self.file.with_name("mutant.onnx")
            onnx.save(model, path)
        file = OnnxFile(path, self.module, self.plan)
        file.check_signature(20)
        return self.prover.prove(file)

    def matrices(self):
        """Return the names of 16 weight matrices, from the first to the last; of zeros there is no mutant."""
        names = [
            each.name
            for each in self.model.graph.initializer
            if len(each.dims) > 1 and each.name.endswith("weight") and numpy_helper.to_array(each).any()
        ]
        return [
            names[i] for i in np.linspace(0, len(names) - 1, min(MUTANTS, len(names))).round().astype(int)
        ]


def changed(model, name):
    """Return the model with other values in one weight."""
    mutant = copy.deepcopy(model)
    weight = next(each for each in mutant.graph.initializer if each.name == name)
    weight.CopyFrom(
        numpy_helper.from_array(np.roll(numpy_helper.to_array(weight), 1, 0) * np.float32(1.5), name)
    )
    return mutant


def rolled_by_nodes(model, name):
    """Return the model with nodes behind one weight that change it, and its values as they are."""
    mutant = copy.deepcopy(model)
    graph = mutant.graph
    channels = next(each.dims[0] for each in graph.initializer if each.name == name)
    for node in graph.node:
        for place, used in enumerate(node.input):
            if used == name:
                node.input[place] = "rolled"
    order = numpy_helper.from_array(np.roll(np.arange(channels), 1), "order")
    graph.initializer.extend([order, numpy_helper.from_array(np.float32(1.5), "factor")])
    graph.node.insert(0, helper.make_node("Mul", ["gathered", "factor"], ["rolled"]))
    graph.node.insert(0, helper.make_node("Gather", [name, "order"], ["gathered"], axis=0))
    return mutant


class SmallVisionTransformer(VisionTransformer):
    """torchvision's, whose head starts at zero; its sizes of the paper differ in width and depth."""

    def __init__(self):
        super().__init__(
            image_size=224, patch_size=32, num_layers=6, num_heads=4, hidden_dim=128, mlp_dim=512
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "reference",
    [
        "torchvision.models:efficientnet_b0",
        "torchvision.models:mobilenet_v3_small",
        "timm.models.mlp_mixer:mixer_s32_224",
        "torchvision.models:googlenet",
        "timm.models.resnet:resnet18",
        "torchvision.models:resnet18",
        f"{__name__}:SmallVisionTransformer",
    ],
)
def test_all_mutants_of_a_network_are_refused_and_the_network_passes(reference, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, of its own initialisation
        case = Case(reference, IMAGES, tmp_path)
    proof = case.prove()
    assert proof.coverage.share > 0.998
    names = case.matrices()
    assert len(names) == MUTANTS
    for name in names:
        with pytest.raises(VerificationFailed, match=f"{name} has other values"):
            case.prove(changed(case.model, name))
        with pytest.raises(VerificationFailed, match="output 'output' differs"):
            case.prove(rolled_by_nodes(case.model, name))


# Graph mutants of a network whose head starts at zero, so that its own weights show nothing.


class ZeroHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        y = torch.relu(self.conv(x)).mean((2, 3))  # (B, 4)
        y = torch.tanh(self.inner(y)).softmax(-1)
        return self.head(y)


@pytest.fixture(scope="module")
def zero_head(tmp_path_factory):
    return Case(
        f"{__name__}:ZeroHead", ["x: float32[batch, 3, height=6, width=7]"], tmp_path_factory.mktemp("zero")
    )


def test_a_zero_head_hides_everything_from_its_own_weights_and_nothing_from_others(zero_head):
    coverage = zero_head.prove().coverage
    assert coverage.own == 0
    assert coverage.share == 1
    with torch.inference_mode():
        assert not zero_head.module(torch.randn(2, 3, 6, 7)).any()


def node_of(model, operator):
    return next(node for node in model.graph.node if node.op_type == operator)


def swap_activation(model):
    node_of(model, "Tanh").op_type = "Sigmoid"


def other_axis(model):
    axis = next(each for each in node_of(model, "Softmax").attribute if each.name == "axis")
    axis.i = 0


def transposed_operand(model):
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm" and "inner.weight" in node.input)
    next(each for each in gemm.attribute if each.name == "transB").i = 0


def dropped_bias(model):
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm" and "head.bias" in node.input)
    del gemm.input[2]
    model.graph.initializer.remove(next(each for each in model.graph.initializer if each.name == "head.bias"))


def dropped_padding(model):
    next(each for each in node_of(model, "Conv").attribute if each.name == "pads").ints[:] = [1, 1, 0, 0]


def baked_in_size(model):
    """A mean over 6 × 7 elements, computed as a sum divided by 42."""
    mean = node_of(model, "ReduceMean")
    mean.op_type, total = "ReduceSum", mean.output[0]
    mean.output[0] = "total"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(42), "count"))
    place = list(model.graph.node).index(mean)
    model.graph.node.insert(place + 1, helper.make_node("Div", ["total", "count"], [total]))


def renamed_output(model):
    last = next(node for node in model.graph.node if "output" in node.output)
    last.output[0] = model.graph.output[0].name = "scores"


def lost_input(model):
    model.graph.input[0].name = "image"
    for node in model.graph.node:
        node.input[:] = ["image" if name == "x" else name for name in node.input]


def fixed_axis(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 6


def wrong_output_shape(model):
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2


def other_opset(model):
    next(each for each in model.opset_import if not each.domain).version = 19


def unused_initializer(model):
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "left_over"))


@pytest.mark.parametrize(
    ("mutate", "told"),
    [
        (swap_activation, "with perturbed weights output 'output' differs by"),
        (other_axis, "with perturbed weights output 'output' differs by"),
        (transposed_operand, "with perturbed weights output 'output' differs by"),
        (dropped_bias, "with perturbed weights output 'output' differs by"),
        (dropped_padding, "with perturbed weights output 'output' differs by"),
        (baked_in_size, "at batch 1, height 3, width 5 with perturbed weights output 'output' differs by"),
        (renamed_output, "its outputs are scores, expected output"),
        (lost_input, "its inputs are image, expected x"),
        (fixed_axis, "axis 2 of input 'x' is 6, not the dim 'height'"),
        (wrong_output_shape, "it warns: Expected shape from model of"),
        (other_opset, "it has opset 19, but 20 was requested"),
        (unused_initializer, "it warns: Removing initializer 'left_over'"),
    ],
)
def test_a_graph_that_is_changed_is_refused(zero_head, mutate, told):
    mutant = copy.deepcopy(zero_head.model)
    mutate(mutant)
    assert mutant != zero_head.model
    with pytest.raises(VerificationFailed, match=told):
        zero_head.prove(mutant)
