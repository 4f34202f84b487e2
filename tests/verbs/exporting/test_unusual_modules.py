"""Modules whose tensors are made late or computed from others, written to safetensors and read back."""

from dataclasses import replace

import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._higher_order_ops.scan import scan
from torch.nn.utils import parametrizations

import nnkit
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.smoke.states import find_unregistered


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(4)

    def forward(self, x):
        return self.layer(x)


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = parametrizations.spectral_norm(nn.Linear(6, 4))

    def forward(self, x):
        return self.layer(x)


class OldSpectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.utils.spectral_norm(nn.Linear(6, 4))

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        (Lazy, {"layer.weight": (4, 6), "layer.bias": (4,)}),
        (
            Spectral,
            {
                "layer.bias": (4,),
                "layer.parametrizations.weight.original": (4, 6),
                "layer.parametrizations.weight.0._u": (4,),
                "layer.parametrizations.weight.0._v": (6,),
            },
        ),
        (
            OldSpectral,
            {
                "layer.bias": (4,),
                "layer.weight_orig": (4, 6),
                "layer.weight_u": (4,),
                "layer.weight_v": (6,),
            },
        ),
    ],
)
def test_all_tensors_are_written_and_loaded_again(tmp_path, kind, shapes):
    spec = look_up(f"{__name__}:{kind.__name__}", plugin_manager(), ["x: float32[batch, 6]"]).resolve()
    path = tmp_path / "net.safetensors"
    assert nnkit.export(spec, path).verified
    state = load_file(path)
    assert {name: tuple(each.shape) for name, each in state.items()} == shapes
    loaded = kind()
    loaded.load_state_dict(state)
    x = torch.randn(3, 6)
    with torch.no_grad():
        wanted = loaded.eval()(x)
    module = nnkit.build(replace(spec, weights=str(path)))
    with torch.no_grad():
        assert torch.equal(module(x), wanted)


def test_what_a_hook_of_torch_computes_does_not_hide():
    module = OldSpectral()
    assert list(find_unregistered(module)) == []
    module.layer.other = torch.ones(2)
    assert [name for name, _ in find_unregistered(module)] == ["layer.other"]


class LoopOfAddcmul(nn.Module):
    """A loop whose body torch translates with a constant that nothing reads once it is simplified."""

    def __init__(self):
        super().__init__()
        self.decay = nn.Parameter(torch.rand(3))

    def forward(self, x):
        def step(h, x_t):
            h = torch.addcmul(x_t, self.decay, h)
            return h, h.clone()

        return scan(step, x.new_zeros(x.shape[0], 3), x, dim=1)[1]


def test_a_file_has_no_constant_that_nothing_reads(tmp_path):
    """ONNX Runtime warns of one that is left, and a file that warns was refused."""
    reference = look_up(f"{__name__}:LoopOfAddcmul", plugin_manager(), ["x: float32[batch, time, 3]"])
    report = nnkit.export(reference.resolve(), tmp_path / "net.onnx")
    assert report.verified
    names = {each.name for each in onnx.load(tmp_path / "net.onnx").graph.initializer}
    assert "decay" in names
    assert not [name for name in names if "cast" in name]
