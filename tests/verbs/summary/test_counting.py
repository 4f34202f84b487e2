"""counting.py and tracing.py against multiply-adds computed by hand, on the CPU and on meta."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nnkit
from nnkit.verbs.summary.tracing import trace


def macs(module, *inputs):
    return trace(module, inputs).root.total("macs")


class BiLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(64, 128, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


class LoopRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(16, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        state = x.new_zeros(1, 32)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


class TwoInputs(nn.Module):
    def forward(self, a, b):
        return torch.bmm(a, b) @ b.transpose(1, 2)


class RawProduct(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(64, 32))

    def forward(self, x):
        return torch.einsum("bi,bj->ij", x @ self.w, x)


class Scatter(nn.Module):
    def forward(self, x, index):
        return x.new_zeros(5, x.shape[1]).index_add(0, index, x)


class ThroughForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        return self.linear.forward(x)


def attention(module, x):
    return module(x, x, x)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(256, 8, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class FusedAttention(nn.Module):
    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


# One direction of a layer of LSTM does 4·H·(I + H) for each of 4·50 steps.
BILSTM = 200 * 2 * 4 * 128 * ((64 + 128) + (256 + 128)) + 200 * 256 * 10
T, D = 100, 256  # of the attention, batch 2
ATTENTION = 2 * (4 * T * D * D + 2 * T * T * D)

CASES = {
    "bidirectional LSTM": (BiLSTM(), [(4, 50, 64)], BILSTM),
    "GRU": (nn.GRU(32, 48), [(25, 3, 32)], 25 * 3 * 3 * 48 * (32 + 48)),
    "loop RNN": (LoopRNN(), [(1, 20, 16)], 20 * 32 * (16 + 32) + 320),
    "attention": (SelfAttention(), [(2, T, D)], ATTENTION),
    "fused attention": (FusedAttention(), [(2, 8, 100, 32)] * 3, 2 * 2 * 100 * 100 * 256),
    "encoder layer": (
        nn.TransformerEncoderLayer(D, 8, 1024, batch_first=True),
        [(2, T, D)],
        ATTENTION + 2 * T * 2 * D * 1024,
    ),
    "bmm and @": (TwoInputs(), [(2, 3, 5), (2, 5, 7)], 2 * 3 * 5 * 7 + 2 * 3 * 7 * 5),
    "raw product and einsum": (RawProduct(), [(4, 64)], 4 * 64 * 32 + 4 * 32 * 64),
    "transposed convolution": (nn.ConvTranspose2d(8, 4, 3, stride=2), [(1, 8, 10, 10)], 100 * 8 * 4 * 9),
    "grouped dilated convolution": (
        nn.Conv2d(16, 32, 3, groups=4, dilation=2),
        [(7, 16, 28, 28)],
        7 * 32 * 24 * 24 * 4 * 9,
    ),
    "called by forward": (ThroughForward(), [(3, 8)], 3 * 8 * 4),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("case", CASES)
def test_multiply_adds_by_hand(case, device, training):
    module, shapes, truth = CASES[case]
    module = copy.deepcopy(module).to(device).train(training)
    assert macs(module, *(torch.randn(shape, device=device) for shape in shapes)) == truth
    assert module.training == training


def test_scatter_adds_each_element_of_its_source():
    assert macs(Scatter(), torch.randn(9, 4), torch.randint(5, (9,))) == 9 * 4


def test_a_degree_is_no_product_and_is_named_as_not_counted():
    class Degree(nn.Module):
        def forward(self, weight, target):
            return weight.new_zeros(5).index_add(0, target, weight)

    seen = trace(Degree(), (torch.ones(9), torch.randint(5, (9,))))
    assert seen.root.total("macs") == 0
    assert seen.uncounted == {"aten.index_add": 1}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_sparse_products_count_their_non_zeros(layout):
    matrix = (torch.rand(50, 50) < 0.1).float()
    non_zeros = int(matrix.sum())

    class Product(nn.Module):
        def forward(self, x):
            return matrix.to_sparse(layout=layout) @ x

    assert macs(Product(), torch.randn(50, 16)) == non_zeros * 16


def test_vision_transformer_agrees_with_its_published_figure():
    """torchvision publishes 17.564 G; counters that see only modules say 0.17 to 16.9."""
    from torchvision.models import vit_b_16

    with torch.device("meta"):
        model, image = vit_b_16(), torch.randn(1, 3, 224, 224)
    report = nnkit.summarize(model, [image])
    assert report.totals.macs == 17_563_828_224
    assert report.totals.parameters == 86_567_656


def test_what_is_not_counted_is_named():
    report = nnkit.summarize(nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Softmax(1)), [torch.randn(2, 4)])
    assert report.totals.uncounted == {"aten.gelu": 1, "aten._softmax": 1}


def test_a_question_about_dtypes_is_no_computation():
    class Angles(nn.Module):
        def forward(self, x):
            kind = torch.promote_types(x.dtype, torch.float32)
            return x.to(torch.result_type(x, 1.0)) * torch.ones(4, dtype=kind)

    assert nnkit.summarize(Angles(), [torch.randn(2, 4)]).totals.uncounted == {"aten.mul": 1}


@pytest.fixture
def scan():
    """An operator of somebody's own, which torch has no formula for."""
    library = torch.library.Library("under_test", "DEF")
    library.define("scan(Tensor x, Tensor w) -> Tensor")
    library.impl("scan", lambda x, w: (x @ w).cumsum(0), "CPU")
    library.impl("scan", lambda x, w: x.new_empty(x.shape[0], w.shape[1]), "Meta")
    yield torch.ops.under_test.scan
    library._destroy()


def scan_macs(args, kwargs, result):
    return result.numel() * args[0].shape[1]


class Scans(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 6))

    def forward(self, x):
        return torch.ops.under_test.scan(x, self.weight)


PLUGIN = f"""
from nnkit import OperatorFormula, hookimpl
NNKIT_PLUGIN_API = "1.0"

@hookimpl
def nnkit_formulas():
    return [OperatorFormula(operator="under_test::scan", macs="{__name__}:scan_macs")]
"""


def test_an_operator_without_a_formula_is_named(scan):
    totals = nnkit.summarize(Scans(), [torch.ones(3, 4)]).totals
    assert (totals.macs, totals.uncounted) == (0, {"under_test.scan": 1})


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_plugin_counts_an_operator_of_its_own(scan, plugins_from, device):
    manager = plugins_from(scans=PLUGIN)
    x = torch.ones(3, 4, device=device)
    totals = nnkit.summarize(Scans().to(device), [x], manager=manager).totals
    assert (totals.macs, totals.uncounted) == (3 * 4 * 6, {})


def test_what_is_no_formula_is_a_failure_of_its_plugin_alone(plugins_from):
    bad = PLUGIN.partition("return")[0] + "return [3]\n"
    manager = plugins_from(bad=bad, good=PLUGIN)
    assert [failure.message for failure in manager.failures] == ["returned 3; expected OperatorFormula"]
    assert len(manager.formulas()) == 1


class Experts(nn.Module):
    """Experts of 8 × 12 weights; the first two groups of tokens go to one each."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 8, 12))

    def forward(self, x):
        return F.grouped_mm(x, self.weight, offs=torch.tensor([4, 8, 8], dtype=torch.int32))


def test_a_grouped_product_that_is_not_computed_has_the_shape_and_cost_of_one_that_is():
    computed = trace(Experts(), (torch.zeros(8, 8),))
    counted = trace(Experts(), (torch.zeros(8, 8),), values=False)
    assert computed.root.total("macs") == counted.root.total("macs") == 8 * 8 * 12
    assert counted.result.shape == computed.result.shape == (8, 12)
