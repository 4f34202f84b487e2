"""Products that hide: in inference mode, in subclasses, in operators of a higher order, behind packed weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

import nnkit
from nnkit.render import summary as render


class Calls(nn.Module):
    """Calls a function with its layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


class Wrapped(torch.Tensor):
    """A tensor that holds another and sees to operators itself."""

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        args, kwargs = tree_map(lambda x: x.held if isinstance(x, cls) else x, (args, kwargs or {}))
        return tree_map(lambda x: cls(x) if isinstance(x, torch.Tensor) else x, func(*args, **kwargs))


def nested(layout):
    def forward(model, x):
        sequences = torch.nested.nested_tensor([x, x[:1]], layout=layout)
        return model.layer(sequences).to_padded_tensor(0.0)

    return forward


@torch.inference_mode()
def under_inference_mode(model, x):
    return model.cell(model.layer(x)[None])[0]


# Of layers from 8 to 4 on 2 rows: 64; on the 3 rows of two sequences: 96.
CASES = {
    "inference mode": (
        Calls(under_inference_mode, layer=nn.Linear(8, 4), cell=nn.GRU(4, 5)),
        64 + 2 * 15 * (4 + 5),
    ),
    "nested": (Calls(nested(torch.strided), layer=nn.Linear(8, 4)), 96),
    "jagged": (Calls(nested(torch.jagged), layer=nn.Linear(8, 4)), 96),
    "subclass": (Calls(lambda model, x: model.layer(Wrapped(x)).held, layer=nn.Linear(8, 4)), 64),
    "in place": (Calls(lambda model, x: torch.zeros(2, 4).addmm_(x, torch.ones(8, 4))), 64),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("case", CASES)
def test_multiply_adds_by_hand(case):
    module, truth = CASES[case]
    report = nnkit.summarize(module.eval(), [torch.randn(2, 8)])
    assert (report.totals.macs, report.totals.missed, report.totals.unused) == (truth, (), ())


@pytest.mark.filterwarnings("ignore")
def test_quantized_layers_count_by_their_packed_weights():
    from torch.ao.quantization import quantize_dynamic

    linear = quantize_dynamic(nn.Sequential(nn.Linear(8, 4)), {nn.Linear}, dtype=torch.qint8)
    assert nnkit.summarize(linear, [torch.randn(2, 8)]).totals.macs == 64
    lstm = quantize_dynamic(nn.LSTM(8, 16, 2, bidirectional=True), {nn.LSTM}, dtype=torch.qint8)
    by_hand = 6 * 2 * 4 * 16 * ((8 + 16) + (32 + 16))
    assert nnkit.summarize(lstm, [torch.randn(3, 2, 8)]).totals.macs == by_hand


@pytest.mark.slow  # torch's compiler is imported
@pytest.mark.filterwarnings("ignore")
def test_operators_of_a_higher_order_are_looked_into():
    from torch.nn.attention.flex_attention import flex_attention

    heads = [torch.randn(1, 2, 128, 16) for _ in range(3)]
    attention = Calls(lambda model, q, k, v: flex_attention(q, k, v))
    assert nnkit.summarize(attention, heads).totals.macs == 2 * 2 * 128 * 128 * 16

    def chosen(model, x):
        return torch.cond(x.sum() > 1e9, model.small, lambda x: model.small(model.wide(x)), (x,))

    layers = Calls(chosen, small=nn.Linear(8, 4), wide=nn.Linear(8, 8))
    assert nnkit.summarize(layers, [torch.randn(2, 8)]).totals.macs == 2 * (8 * 8 + 8 * 4)


@torch.library.custom_op("nnkit_under_test::multiply", mutates_args=())
def multiply(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight


def test_a_product_without_a_formula_is_a_warning_on_top_and_no_figure():
    alone = Calls(lambda model, x: torch.ops.nnkit_under_test.multiply(x, torch.ones(8, 4)))
    report = nnkit.summarize(alone, [torch.randn(2, 8)])
    assert report.totals.missed == ("nnkit_under_test.multiply",)
    lines = render.as_text(report).splitlines()
    assert lines[1].startswith("warning")
    assert "unknown number of multiply-adds" in lines[1]
    assert [line.split() for line in lines if line.startswith("MACs")] == [["MACs", "unknown"]]
    for text in (render.as_markdown(report), render.as_html(report), render.as_latex(report)):
        assert "unknown number of multiply-adds" in text


@torch.library.custom_op("nnkit_under_test::int4_mm", mutates_args=())
def int4_mm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight


def test_a_total_that_misses_a_product_is_a_lower_bound():
    mixed = Calls(
        lambda model, x: torch.ops.nnkit_under_test.int4_mm(model.layer(x), torch.ones(4, 4)),
        layer=nn.Linear(8, 4),
    )
    report = nnkit.summarize(mixed, [torch.randn(2, 8)])
    assert "at least 64 (128 FLOPs)" in render.as_text(report)
    activation = nnkit.summarize(Calls(lambda model, x: F.gelu(x)), [torch.randn(2, 8)])
    assert (activation.warnings, activation.totals.macs) == ((), 0)
