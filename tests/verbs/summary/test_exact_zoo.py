"""Models of every kind against multiply-adds derived by formula, whatever the device and the modes.

B: batch, T: time, S: sequence, D: width, H: hidden size, N: nodes.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from test_counting import CASES
from torch import nn
from torch.nn import functional as F
from torchvision import models

import nnkit

DEVICES = ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])]
GRAD_MODES = {"grad": torch.enable_grad, "no grad": torch.no_grad, "inference": torch.inference_mode}


# ---- formulas


def products(rows, *widths):
    """Rows through linear layers from width to width."""
    return rows * sum(before * after for before, after in pairwise(widths))


def scores(batch, queries, keys, width):
    """Q·Kᵀ and the values weighted by it, over all heads: `width` is theirs together."""
    return 2 * batch * queries * keys * width


def self_attention(batch, length, width):
    """Queries, keys, values and output projection, and the scores."""
    return 4 * products(batch * length, width, width) + scores(batch, length, length, width)


def encoder_layer(batch, length, width, hidden):
    return self_attention(batch, length, width) + products(batch * length, width, hidden, width)


def decoder_layer(batch, length, memory, width, hidden):
    cross = 2 * products(batch * length, width, width) + 2 * products(batch * memory, width, width)
    return encoder_layer(batch, length, width, hidden) + cross + scores(batch, length, memory, width)


def recurrent(steps, gates, inputs, hidden):
    """One direction of one layer, for `steps` of all sequences together."""
    return steps * gates * hidden * (inputs + hidden)


# ---- recurrent networks


class Packed(nn.Module):
    """An LSTM that skips the padding."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([7, 4, 2], device="cpu"), batch_first=True)
        return self.lstm(packed)[1][0]


class Loop(nn.Module):
    """A loop in Python over the steps of a sequence."""

    def __init__(self, cell=nn.GRUCell):
        super().__init__()
        self.cell = cell(16, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        state = x.new_zeros(len(x), 32)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


# ---- attention


class Attention(nn.Module):
    """Attention of one sequence to another of another width."""

    def __init__(self, need_weights):
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, kdim=24, vdim=20, batch_first=True)
        self.need_weights = need_weights

    def forward(self, query, key, value):
        return self.attention(query, key, value, need_weights=self.need_weights)[0]


class MaskedEncoder(nn.Module):
    """With a padding mask torch's encoder would turn to nested tensors, and the sizes depend on values."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3)

    def forward(self, x):
        padding = torch.arange(x.shape[1], device=x.device) >= 6
        return self.encoder(x, src_key_padding_mask=padding.expand(x.shape[:2]))


class ScaledDotProduct(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **self.options)


class Bert(nn.Module):
    """Embeddings, encoder layers with GELU, and a pooler for the first token."""

    def __init__(self, vocabulary=100, width=64, hidden=256, layers=2, heads=4):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.pooler = nn.Linear(width, width)

    def forward(self, ids):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        x = self.encoder(self.norm(x))
        return x, self.pooler(x[:, 0]).tanh()


def rotate(x):
    """Rotary position embedding: element-wise, so nothing of it counts."""
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * frequency
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)


class DecoderBlock(nn.Module):
    """Grouped-query attention and a gated feed-forward layer, each after an RMS norm."""

    def __init__(self, width, heads, key_heads, hidden):
        super().__init__()
        self.heads, self.key_heads, self.head_width = heads, key_heads, width // heads
        key_width = key_heads * self.head_width
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.o = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = nn.Linear(width, key_width, bias=False), nn.Linear(width, key_width, bias=False)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def split(self, x, heads):
        return x.view(*x.shape[:2], heads, self.head_width).transpose(1, 2)

    def forward(self, x):
        y = self.norm1(x)
        q, k = rotate(self.split(self.q(y), self.heads)), rotate(self.split(self.k(y), self.key_heads))
        v = self.split(self.v(y), self.key_heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    """A language model as Llama builds it."""

    def __init__(self, vocabulary, width, layers, heads, key_heads, hidden):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, key_heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def decoder_macs(batch, length, vocabulary, width, layers, heads, key_heads, hidden):
    rows, key_width = batch * length, width // heads * key_heads
    projections = 2 * products(rows, width, width) + 2 * products(rows, width, key_width)
    feed_forward = 3 * products(rows, width, hidden)
    block = projections + scores(batch, length, length, width) + feed_forward
    return layers * block + products(rows, width, vocabulary)


# ---- graphs

N = 50
ADJACENCY = (torch.rand(N, N, generator=torch.Generator().manual_seed(0)) < 0.1).float()
EDGES = int(ADJACENCY.sum())


class GraphConvolutions(nn.Module):
    """Kipf and Welling's two layers, A·(X·W), by whichever product is given."""

    def __init__(self, product=torch.matmul, adjacency=None):
        super().__init__()
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 7)
        self.product, self.adjacency = product, adjacency

    def forward(self, x, adjacency=None):
        adjacency = self.adjacency if adjacency is None else adjacency
        x = self.product(adjacency, self.first(x)).relu()
        return self.product(adjacency, self.second(x))


def graph_convolutions(non_zeros):
    return products(N, 64, 32, 7) + non_zeros * (32 + 7)


class Aggregation(nn.Module):
    """Brings 500 messages to their targets."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, messages, target):
        nodes, index = messages.new_zeros(N, messages.shape[1]), target[:, None].expand_as(messages)
        match self.how:
            case "index_add_":
                return nodes.index_add_(0, target, messages)
            case "scatter_add":
                return nodes.scatter_add(0, index, messages)
            case "scatter_add_":
                return nodes.scatter_add_(0, index, messages)
            case "index_put_":
                return nodes.index_put_((target,), messages, accumulate=True)
            case "index_reduce":
                return nodes.index_reduce(0, target, messages, "mean", include_self=False)
            case reduction:
                return nodes.scatter_reduce(0, index, messages, reduction, include_self=False)


# ---- products without a module of their own, and what is used more than once


class PooledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x):
        x = self.pool(self.conv1(x).relu())
        x = self.pool(self.conv2(x).relu())
        return self.head(x.view(len(x), -1))


class WordsAndFeatures(nn.Module):
    """Looking a word up costs no product; `bmm` and `@` do."""

    def __init__(self):
        super().__init__()
        self.words, self.features = nn.Embedding(1000, 16), nn.Linear(12, 16)

    def forward(self, ids, features):
        words, features = self.words(ids), self.features(features)
        likeness = torch.bmm(words, features.transpose(1, 2))
        return likeness @ features


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 12, 4, stride=2, padding=1, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.wide = nn.Conv2d(12, 24, 3, groups=4, dilation=2)

    def forward(self, x):
        return self.wide(self.norm(self.up(x)))


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


class Case(NamedTuple):
    """build: makes the module; inputs: shapes of floats, or tensors; macs: the truth."""

    build: Callable[[], nn.Module]
    inputs: list[Any]
    macs: int


def function(what, *inputs, macs):
    return Case(partial(Function, what), list(inputs), macs)


IDS = torch.arange(24).view(2, 12)
TARGET = torch.arange(500) % N
SMALL_DECODER = {"vocabulary": 100, "width": 64, "layers": 2, "heads": 8, "key_heads": 2, "hidden": 96}

ZOO = {
    "RNN": Case(partial(nn.RNN, 8, 16, 2), [(5, 3, 8)], recurrent(15, 1, 8, 16) + recurrent(15, 1, 16, 16)),
    "LSTM without a batch": Case(partial(nn.LSTM, 8, 16, bias=False), [(5, 8)], recurrent(5, 4, 8, 16)),
    "LSTM with a projection": Case(  # the state that comes back has 6 elements, made of 16 by a product
        partial(nn.LSTM, 8, 16, proj_size=6), [(5, 3, 8)], 15 * (4 * 16 * (8 + 6) + 16 * 6)
    ),
    "bidirectional GRU": Case(
        partial(nn.GRU, 8, 16, 2, bidirectional=True),
        [(5, 3, 8)],
        2 * (recurrent(15, 3, 8, 16) + recurrent(15, 3, 32, 16)),
    ),
    "packed LSTM": Case(Packed, [(3, 7, 8)], recurrent(7 + 4 + 2, 4, 8, 16)),
    "loop of GRU cells": Case(Loop, [(3, 20, 16)], 20 * recurrent(3, 3, 16, 32) + products(3, 32, 10)),
    "attention to another sequence": Case(
        partial(Attention, False),
        [(2, 9, 32), (2, 5, 24), (2, 5, 20)],
        2 * products(18, 32, 32) + products(10, 24, 32) + products(10, 20, 32) + scores(2, 9, 5, 32),
    ),
    "attention that returns its weights": Case(
        partial(Attention, True),
        [(2, 9, 32), (2, 5, 24), (2, 5, 20)],
        2 * products(18, 32, 32) + products(10, 24, 32) + products(10, 20, 32) + scores(2, 9, 5, 32),
    ),
    "causal scaled dot product": Case(  # by convention the whole square counts, as in any published figure
        partial(ScaledDotProduct, is_causal=True), [(2, 4, 9, 8)] * 3, scores(2, 9, 9, 32)
    ),
    "grouped-query scaled dot product": Case(
        partial(ScaledDotProduct, enable_gqa=True),
        [(2, 4, 9, 8), (2, 2, 7, 8), (2, 2, 7, 8)],
        scores(2, 9, 7, 32),
    ),
    "causal grouped-query scaled dot product": Case(
        partial(ScaledDotProduct, is_causal=True, enable_gqa=True),
        [(2, 4, 9, 8), (2, 1, 9, 8), (2, 1, 9, 8)],
        scores(2, 9, 9, 32),
    ),
    "scaled dot product with wider values": Case(
        ScaledDotProduct, [(2, 4, 9, 8), (2, 4, 7, 8), (2, 4, 7, 10)], 2 * 4 * 9 * 7 * (8 + 10)
    ),
    "encoder layer, norm first": Case(
        partial(nn.TransformerEncoderLayer, 32, 4, 64, norm_first=True), [(9, 2, 32)], encoder_layer(2, 9, 32, 64)
    ),
    "encoder of several layers": Case(
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 3),
        [(2, 9, 32)],
        3 * encoder_layer(2, 9, 32, 64),
    ),
    "encoder with a padding mask": Case(MaskedEncoder, [(2, 9, 32)], 3 * encoder_layer(2, 9, 32, 64)),
    "encoder and decoder": Case(
        partial(nn.Transformer, 32, 4, 2, 2, 64, batch_first=True),
        [(2, 9, 32), (2, 5, 32)],
        2 * encoder_layer(2, 9, 32, 64) + 2 * decoder_layer(2, 5, 9, 32, 64),
    ),
    "BERT": Case(Bert, [IDS], 2 * encoder_layer(2, 12, 64, 256) + products(2, 64, 64)),
    "Llama": Case(partial(Decoder, **SMALL_DECODER), [IDS], decoder_macs(2, 12, **SMALL_DECODER)),
    "dense graph convolutions": Case(GraphConvolutions, [(N, 64), ADJACENCY], graph_convolutions(N * N)),
    "index_add_": Case(partial(Aggregation, "index_add_"), [(500, 16), TARGET], 500 * 16),
    "scatter_add": Case(partial(Aggregation, "scatter_add"), [(500, 16), TARGET], 500 * 16),
    "scatter_add_": Case(partial(Aggregation, "scatter_add_"), [(500, 16), TARGET], 500 * 16),
    "index_put_ that accumulates": Case(partial(Aggregation, "index_put_"), [(500, 16), TARGET], 500 * 16),
    "index_reduce": Case(partial(Aggregation, "index_reduce"), [(500, 16), TARGET], 500 * 16),
    "scattered sum": Case(partial(Aggregation, "sum"), [(500, 16), TARGET], 500 * 16),
    "scattered mean": Case(partial(Aggregation, "mean"), [(500, 16), TARGET], 500 * 16),
    "scattered maximum": Case(partial(Aggregation, "amax"), [(500, 16), TARGET], 0),
    "pool used twice, and a view": Case(
        PooledTwice,
        [(2, 3, 16, 16)],
        2 * (16 * 16 * 8 * 3 * 9 + 8 * 8 * 16 * 8 * 9) + products(2, 16 * 4 * 4, 10),
    ),
    "words and features": Case(
        WordsAndFeatures, [IDS, (2, 7, 12)], products(14, 12, 16) + 2 * 12 * 16 * 7 + 2 * 12 * 7 * 16
    ),
    "transposed, grouped and dilated convolutions": Case(
        Convolutions, [(2, 8, 10, 10)], 2 * (10 * 10 * 8 * (12 // 2) * 16 + 16 * 16 * 24 * (12 // 4) * 9)
    ),
    "convolution over time": Case(partial(nn.Conv1d, 4, 6, 5, stride=3), [(2, 4, 32)], 2 * 10 * 6 * 4 * 5),
    "convolution over space and time": Case(
        partial(nn.Conv3d, 2, 4, 3, padding="same"), [(2, 2, 5, 6, 7)], 2 * 5 * 6 * 7 * 4 * 2 * 27
    ),
    "convolution without a batch": Case(partial(nn.Conv2d, 3, 4, 3), [(3, 8, 8)], 6 * 6 * 4 * 3 * 9),
    "transposed convolution over time": Case(
        partial(nn.ConvTranspose1d, 4, 6, 5, stride=3), [(2, 4, 10)], 2 * 10 * 4 * 6 * 5
    ),
    "einsum": function(partial(torch.einsum, "bqhd,bkhd->bhqk"), (2, 5, 3, 8), (2, 7, 3, 8), macs=2 * 3 * 5 * 7 * 8),
    "tensordot": function(partial(torch.tensordot, dims=2), (3, 4, 5), (4, 5, 6), macs=3 * 20 * 6),
    "linear": function(F.linear, (2, 5, 8), (3, 8), macs=10 * 8 * 3),
    "product with broadcasting": function(torch.matmul, (2, 1, 4, 5), (3, 5, 6), macs=2 * 3 * 4 * 5 * 6),
    "baddbmm": function(torch.baddbmm, (2, 3, 4), (2, 3, 5), (2, 5, 4), macs=2 * 3 * 5 * 4),
    "addbmm": function(torch.addbmm, (3, 4), (2, 3, 5), (2, 5, 4), macs=2 * 3 * 5 * 4),
    "addmv": function(torch.addmv, (3,), (3, 5), (5,), macs=3 * 5),
    "matrix times vector": function(torch.matmul, (4, 5), (5,), macs=4 * 5),
    "matrices times vector": function(torch.matmul, (3, 4, 5), (5,), macs=3 * 4 * 5),
    "vector times vector": function(torch.matmul, (5,), (5,), macs=5),
}  # fmt: skip


def made(case, device):
    """The module and inputs of a case, on a device."""
    with torch.device(device):
        inputs = [torch.randn(each) if isinstance(each, tuple) else each.to(device) for each in case.inputs]
        return case.build(), inputs


# torch says so once in a process: oneDNN has no such layer.
without_projections = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@without_projections
@pytest.mark.filterwarnings("ignore:index_reduce.* is in beta")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("grad", GRAD_MODES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ZOO)
def test_a_count_is_exact_whatever_the_device_and_the_modes(name, device, grad, training):
    module, inputs = made(ZOO[name], device)
    module.train(training)
    with GRAD_MODES[grad]():
        report = nnkit.summarize(module, inputs)
    assert report.totals.macs == ZOO[name].macs
    assert report.rows[0].macs == ZOO[name].macs
    assert report.totals.parameters == sum(each.numel() for each in module.parameters())
    assert module.training == training


@pytest.mark.parametrize("grad", GRAD_MODES)
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_mode_of_the_caller_changes_no_count(name, grad):
    module, shapes, truth = CASES[name]
    with GRAD_MODES[grad]():
        assert nnkit.summarize(module, [torch.randn(shape) for shape in shapes]).totals.macs == truth


@without_projections
@pytest.mark.filterwarnings("ignore:index_reduce.* is in beta")
@pytest.mark.parametrize("name", ZOO)
def test_a_module_that_was_built_in_inference_mode_counts_as_any_other(name):
    """Its tensors can't tell a dispatcher that a linear layer is made of products."""
    with torch.inference_mode():
        module, inputs = made(ZOO[name], "cpu")
    assert nnkit.summarize(module, inputs).totals.macs == ZOO[name].macs


def test_autocast_changes_no_count():
    case = ZOO["encoder of several layers"]
    module, inputs = made(case, "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        assert nnkit.summarize(module, inputs).totals.macs == case.macs


@pytest.mark.parametrize("device", DEVICES)
def test_the_fast_path_of_attention_is_as_the_user_left_it(device):
    module, inputs = made(ZOO["encoder of several layers"], device)
    for enabled in (False, True):
        torch.backends.mha.set_fastpath_enabled(enabled)
        nnkit.summarize(module, inputs)
        assert torch.backends.mha.get_fastpath_enabled() == enabled


# ---- large models, on meta


@pytest.mark.parametrize("grad", GRAD_MODES)
def test_vit_b_16_by_formula(grad):
    """14×14 patches and the class token."""
    patches, width = 14 * 14, 768
    truth = products(patches, 3 * 16 * 16, width) + 12 * encoder_layer(1, patches + 1, width, 4 * width)
    truth += products(1, width, 1000)
    assert truth == 17_563_828_224
    with torch.device("meta"):
        model, image = models.vit_b_16(), torch.randn(1, 3, 224, 224)
    with GRAD_MODES[grad]():
        assert nnkit.summarize(model, [image]).totals.macs == truth


@pytest.mark.parametrize("grad", GRAD_MODES)
def test_swin_t_by_formula(grad):
    """In its windows of 49 tokens each one attends to 49, so a window is a sequence of its own."""
    truth = products(56 * 56, 3 * 4 * 4, 96)
    for stage, depth in enumerate((2, 2, 6, 2)):
        tokens, width = (56 >> stage) ** 2, 96 << stage
        if stage > 0:  # four neighbours of the stage before become one token of twice its width
            truth += products(tokens, 4 * (width // 2), width)
        truth += depth * encoder_layer(tokens // 49, 49, width, 4 * width)
    truth += products(1, 768, 1000)
    assert truth == 4_490_566_656
    with torch.device("meta"):
        image = torch.randn(1, 3, 224, 224)
    model = models.swin_t().to("meta")  # its window indices are made of values
    with GRAD_MODES[grad]():
        assert nnkit.summarize(model, [image]).totals.macs == truth


@pytest.mark.parametrize("grad", GRAD_MODES)
def test_a_llama_of_a_hundred_million_parameters_by_formula(grad):
    sizes = {"vocabulary": 32_000, "width": 1024, "layers": 4, "heads": 16, "key_heads": 4, "hidden": 2816}
    truth = decoder_macs(1, 128, **sizes)
    assert truth == 10_099_884_032
    with torch.device("meta"):
        model, ids = Decoder(**sizes), torch.zeros(1, 128, dtype=torch.long)
    with GRAD_MODES[grad]():
        assert nnkit.summarize(model, [ids]).totals.macs == truth


def test_bert_base_in_two_layers_by_formula():
    truth = 2 * encoder_layer(1, 128, 768, 3072) + products(1, 768, 768)
    assert truth == 1_862_860_800
    with torch.device("meta"):
        model, ids = Bert(30_522, 768, 3072, 2, 12), torch.zeros(1, 128, dtype=torch.long)
    assert nnkit.summarize(model, [ids]).totals.macs == truth


# ---- sparse and scattered


csr_is_in_beta = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


def macs(function, *inputs):
    return nnkit.summarize(Function(function), list(inputs)).totals.macs


@csr_is_in_beta
@pytest.mark.parametrize("grad", GRAD_MODES)
@pytest.mark.parametrize("product", [torch.sparse.mm, torch.matmul, torch.mm])
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr], ids=str)
@pytest.mark.parametrize("place", ["input", "attribute"])
def test_sparse_graph_convolutions_count_the_non_zeros(layout, product, place, grad):
    adjacency, x = ADJACENCY.to_sparse(layout=layout), torch.randn(N, 64)
    module = GraphConvolutions(product, adjacency if place == "attribute" else None)
    inputs = [x] if place == "attribute" else [x, adjacency]
    with GRAD_MODES[grad]():
        assert nnkit.summarize(module, inputs).totals.macs == graph_convolutions(EDGES)


def test_a_sparse_matrix_may_stand_right_and_may_have_duplicates():
    """Every entry that is stored is multiplied, also where two are for the same place."""
    index = torch.tensor([[0, 0, 1, 1], [2, 2, 0, 1]])
    matrix = torch.sparse_coo_tensor(index, torch.ones(4), (3, 5), check_invariants=True)
    assert macs(torch.sparse.mm, matrix, torch.randn(5, 7)) == 4 * 7
    assert macs(torch.sparse.mm, matrix.coalesce(), torch.randn(5, 7)) == 3 * 7
    assert macs(torch.matmul, torch.randn(6, 3), matrix.coalesce()) == 3 * 6


@csr_is_in_beta
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr], ids=str)
def test_every_product_with_a_sparse_matrix_counts_the_non_zeros(layout):
    sparse, x = ADJACENCY.to_sparse(layout=layout), torch.randn(N, 7)
    assert macs(torch.matmul, sparse, torch.randn(N)) == EDGES
    assert macs(torch.addmm, x, sparse, x) == EDGES * 7
    assert macs(lambda a, x: a.t() @ x, sparse, x) == EDGES * 7
    assert macs(lambda a, x: x.t() @ a, sparse, x) == EDGES * 7
    assert macs(F.linear, torch.randn(7, N), sparse) == EDGES * 7


def test_a_batch_of_sparse_matrices_counts_the_non_zeros_of_all():
    batch = torch.stack([ADJACENCY, ADJACENCY]).to_sparse()
    assert macs(torch.bmm, batch, torch.randn(2, N, 7)) == 2 * EDGES * 7


@csr_is_in_beta
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr], ids=str)
def test_a_product_of_two_sparse_matrices_counts_the_pairs_that_meet(layout):
    """Two hops in a graph: what enters a node times what leaves it."""
    sparse = ADJACENCY.to_sparse(layout=layout)
    assert macs(torch.matmul, sparse, sparse) == int((ADJACENCY.sum(0) * ADJACENCY.sum(1)).sum())


@csr_is_in_beta
@pytest.mark.parametrize(("how", "times"), [("sum", 7), ("mean", 7), ("amax", 0)])
def test_a_sparse_product_with_a_reduction_of_its_own(how, times):
    """The way of PyG with a CSR adjacency; a maximum adds nothing."""
    sparse = ADJACENCY.to_sparse_csr()
    assert macs(lambda a, x: torch.sparse.mm(a, x, how), sparse, torch.randn(N, 7)) == EDGES * times


@pytest.mark.parametrize("grad", GRAD_MODES)
def test_graph_convolution_of_pyg_counts_its_aggregation(grad):
    """Each edge and each of the 50 self-loops brings 8 features to its target."""
    from torch_geometric.nn import GCNConv

    edges = (ADJACENCY - ADJACENCY.diag().diag()).nonzero().T.contiguous()
    with GRAD_MODES[grad]():
        totals = nnkit.summarize(GCNConv(16, 8), [torch.randn(N, 16), edges]).totals
    assert totals.macs == products(N, 16, 8) + (edges.shape[1] + N) * 8
    assert totals.parameters == 16 * 8 + 8


@csr_is_in_beta
@pytest.mark.filterwarnings("ignore:Converting sparse tensor to CSR format")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr], ids=str)
def test_graph_convolution_of_pyg_with_a_sparse_adjacency_counts_its_non_zeros(layout):
    from torch_geometric.nn import SAGEConv

    adjacency = ADJACENCY.to_sparse(layout=layout)
    totals = nnkit.summarize(SAGEConv(16, 8, aggr="sum"), [torch.randn(N, 16), adjacency]).totals
    assert totals.macs == EDGES * 16 + 2 * products(N, 16, 8)


def test_scattered_maxima_and_counts_are_named_as_not_counted():
    module, inputs = made(ZOO["scattered maximum"], "cpu")
    assert nnkit.summarize(module, inputs).totals.uncounted == {"aten.scatter_reduce": 1}


# ---- torch's own fused operators, called by name


class NativeAttention(nn.Module):
    def __init__(self, width=32, heads=4):
        super().__init__()
        self.width, self.heads = width, heads
        self.projections, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        return torch._native_multi_head_attention(
            x, x, x, self.width, self.heads, self.projections.weight, self.projections.bias,
            self.output.weight, self.output.bias, need_weights=False,
        )[0]  # fmt: skip


class NativeEncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

    def forward(self, x):
        layer, attention = self.layer, self.layer.self_attn
        return torch._transformer_encoder_layer_fwd(
            x, attention.embed_dim, attention.num_heads, attention.in_proj_weight, attention.in_proj_bias,
            attention.out_proj.weight, attention.out_proj.bias, False, False, layer.norm1.eps,
            layer.norm1.weight, layer.norm1.bias, layer.norm2.weight, layer.norm2.bias,
            layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias,
        )  # fmt: skip


@pytest.mark.parametrize("grad", GRAD_MODES)
@pytest.mark.parametrize(
    ("build", "truth"),
    [(NativeAttention, self_attention(2, 9, 32)), (NativeEncoderLayer, encoder_layer(2, 9, 32, 64))],
)
def test_fused_operators_called_by_name_count_in_full(build, truth, grad):
    module, x = build().eval(), torch.randn(2, 9, 32)
    with GRAD_MODES[grad]():
        report = nnkit.summarize(module, [x])
    assert report.totals.macs == truth
    assert not any("encoder_layer" in name or "attention" in name for name in report.totals.uncounted)


# ---- rows


@pytest.mark.parametrize("device", DEVICES)
def test_a_pool_used_twice_has_two_rows_and_the_view_has_one(device):
    module, inputs = made(ZOO["pool used twice, and a view"], device)
    rows = nnkit.summarize(module, inputs).rows
    assert [(row.path, row.output_shapes[0], row.repeated) for row in rows[1:]] == [
        ("conv1", (2, 8, 16, 16), False),
        ("relu", (2, 8, 16, 16), False),
        ("pool", (2, 8, 8, 8), False),
        ("conv2", (2, 16, 8, 8), False),
        ("relu", (2, 16, 8, 8), False),
        ("pool", (2, 16, 4, 4), True),
        ("view", (2, 256), False),
        ("head", (2, 10), False),
    ]


@pytest.mark.parametrize("device", DEVICES)
def test_twenty_steps_of_a_loop_have_twenty_rows_and_one_count_of_parameters(device):
    module, inputs = made(ZOO["loop of GRU cells"], device)
    report = nnkit.summarize(module, inputs)
    cells = [row for row in report.rows if row.path == "cell"]
    assert len(cells) == 20
    assert [row.repeated for row in cells] == [False] + 19 * [True]
    assert [row.parameters for row in cells] == [3 * 32 * (16 + 32 + 2)] + 19 * [0]
    assert {row.macs for row in cells} == {recurrent(3, 3, 16, 32)}
    assert report.totals.parameters == 3 * 32 * (16 + 32 + 2) + 330


@pytest.mark.parametrize("name", ["Llama", "encoder and decoder", "words and features", "packed LSTM"])
@pytest.mark.parametrize("device", DEVICES)
def test_the_rows_add_up(name, device):
    """What a row counts is what it does itself and what the rows beneath it count."""
    module, inputs = made(ZOO[name], device)
    rows = nnkit.summarize(module, inputs).rows
    for place, row in enumerate(rows):
        beneath = []
        for each in rows[place + 1 :]:
            if each.depth <= row.depth:
                break
            if each.depth == row.depth + 1:
                beneath.append(each.macs)
        if row.leaf:
            assert not beneath
        else:
            assert sum(beneath) <= row.macs
    assert sum(row.macs for row in rows if row.leaf) <= rows[0].macs == ZOO[name].macs
