"""Outputs by their own names, and those that are an input, a weight or each other."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import nnkit
from nnkit.contract.architecture import TensorSpec
from nnkit.errors import VerificationFailed
from nnkit.models.outputs import declarations_of


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 5)


class Mapped(Heads):
    def forward(self, x):
        return {"logits": self.a(x), "feat": [self.b(x)], "x": self.a(x) + 1}


@dataclass
class Result:
    logits: Tensor
    feat: Tensor | None = None


class Data(Heads):
    def forward(self, x):
        return Result(self.a(x), self.b(x))


class Named(NamedTuple):
    logits: Tensor
    feat: Tensor


class NamedOnes(Heads):
    def forward(self, x):
        return Named(self.a(x), self.b(x))


class Odd(Heads):
    """An output twice, an input and a weight; parameters that are called like an input and an output."""

    def __init__(self):
        super().__init__()
        self.x, self.output_0 = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))

    def forward(self, x):
        y = self.a(x) + self.x * self.output_0
        return y, y, x, self.b.weight


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Mapped, ["logits", "feat.0", "x_output"]),
        (Data, ["logits", "feat"]),
        (NamedOnes, ["logits", "feat"]),
        (Odd, ["output_0", "output_1", "output_2", "output_3"]),
    ],
)
def test_what_forward_returns_is_in_the_file_under_its_name(tmp_path, kind, names):
    torch.manual_seed(0)
    module, x = kind().eval(), torch.randn(2, 6)
    report = nnkit.export(module, tmp_path / "net.onnx", [x])
    assert [each.output for each in report.proof.outputs] == names
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == names
    first = session.run(names[:1], {"x": x.numpy()})[0]
    with torch.no_grad():
        value = module(x)
    wanted = value["logits"] if isinstance(value, dict) else getattr(value, "logits", None)
    np.testing.assert_allclose(first, value[0] if wanted is None else wanted, rtol=1e-4, atol=1e-6)
    assert nnkit.verify(tmp_path / "net.onnx", module, [x]).verified


def test_declarations_belong_to_keys_and_elsewhere_to_places():
    wide, narrow = TensorSpec("wide", ("batch", 5)), TensorSpec("narrow", ("batch", 3))
    value = {"wide": torch.ones(2, 5), "narrow": torch.ones(2, 3)}
    assert declarations_of(value, [narrow, wide]) == [wide, narrow]
    assert declarations_of((*value.values(), torch.ones(1)), [wide, narrow]) == [wide, narrow, "output_2"]
    assert declarations_of({"x": torch.ones(1)}, [], ["x"]) == ["x_output"]


class Labels(Heads):
    def forward(self, x):
        return {"logits": self.a(x), "label": self.b(x).argmax(-1)}


def test_weights_behind_an_integer_output_are_proven_and_a_wrong_one_is_refused(tmp_path):
    torch.manual_seed(0)
    module, x = Labels().eval(), torch.randn(16, 6)
    report = nnkit.export(module, tmp_path / "net.onnx", [x])
    assert report.proof.coverage.parameters == 6 * 3 + 3 + 6 * 5 + 5
    assert report.proof.coverage.share == 1
    model = onnx.load(tmp_path / "net.onnx")
    next(node for node in model.graph.node if node.op_type == "ArgMax").op_type = "ArgMin"
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(VerificationFailed, match="output 'label' differs"):
        nnkit.verify(tmp_path / "net.onnx", module, [x])


class AlwaysTwo(Labels):
    def __init__(self):
        super().__init__()
        nn.init.constant_(self.b.bias[2], 1e6)


def test_an_integer_output_that_is_the_same_for_all_inputs_proves_nothing(tmp_path):
    with pytest.raises(VerificationFailed, match="output 'label' is the same for other inputs"):
        nnkit.export(AlwaysTwo().eval(), tmp_path / "net.onnx", [torch.randn(4, 6)])


class Prompts(nn.Module):
    """Takes nothing: what it returns follows its weights."""

    def __init__(self):
        super().__init__()
        self.prompts, self.layer = nn.Parameter(torch.randn(2, 8)), nn.Linear(8, 4)

    def forward(self):
        return self.layer(self.prompts)


def test_a_model_without_inputs_is_proven_by_other_weights(tmp_path):
    from nnkit.models.references import look_up

    spec = look_up(f"{__name__}:Prompts", None, []).resolve()
    report = nnkit.export(spec, tmp_path / "prompts.onnx")
    assert report.verified
    assert report.proof.coverage.share == 1.0
    (found,) = onnxruntime.InferenceSession(tmp_path / "prompts.onnx").run(None, {})
    model = nnkit.build(spec)
    expected = model.prompts @ model.layer.weight.T + model.layer.bias
    assert abs(found - expected.detach().numpy()).max() < 1e-5
