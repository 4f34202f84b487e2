"""What an architecture declares not to matter: a sound network passes the check of it, a faulty one fails."""

import random

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import nnkit
from nnkit import Dim, TensorSpec
from nnkit.models.references import Reference
from nnkit.models.user_modules import NoOptions

BATCH, TIME = Dim(default=4), Dim(default=6)
X = TensorSpec("x", ("batch", "time", 8))
Y = TensorSpec("y", ("batch", "time", 8))


def check(name, kind, inputs, outputs=(), **declared):
    """Run one check of an architecture that declares this."""
    architecture = nnkit.Architecture(
        name="net",
        summary="under test",
        build=lambda config: kind(),
        config=NoOptions,
        inputs=inputs,
        outputs=outputs,
        dims={"batch": BATCH, "time": TIME, **declared.pop("dims", {})},
        **declared,
    )
    (result,) = nnkit.smoke_run(Reference(architecture, "net").resolve(), checks=[name]).checks
    return result.status, result.message


class Attends(nn.Module):
    """Attention that hides what a mask marks, by torch's own layer."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, hidden=None):
        return self.attention(x, x, x, key_padding_mask=hidden)[0]


class AttendsToPadding(Attends):
    def forward(self, x, hidden=None):
        return super().forward(x)


class AttendsByIds(Attends):
    """The same, by ids of which 0 is padding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8, padding_idx=0)

    def forward(self, ids):
        hidden = ids == 0
        hidden = hidden & ~hidden.all(1, keepdim=True)
        return super().forward(self.embedding(ids), hidden)


class AttendsToPaddingIds(AttendsByIds):
    """Hides the rows of the padding, not its columns."""

    def forward(self, ids):
        y = self.attention(*[self.embedding(ids)] * 3)[0]
        return y.masked_fill((ids == 0)[..., None], 0)


class ReadsToTheEnd(nn.Module):
    """An LSTM that stops at the end of each sequence."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True, bidirectional=True)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, (h, _) = self.lstm(packed)
        return pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], h.transpose(0, 1)


class ReadsPadding(ReadsToTheEnd):
    def forward(self, x, lengths):
        y, (h, _) = self.lstm(x)
        return y, h.transpose(0, 1)


class MeanOverTheRow(nn.Module):
    """Adds up real steps only, but divides by all: more padding makes it smaller."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, lengths):
        keep = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        return (self.linear(x) * keep[..., None]).mean(1)


LENGTHS = TensorSpec("lengths", ("batch",), "int64", sample="lengths", index_of="time")
HIDDEN = TensorSpec("hidden", ("batch", "time"), "bool", sample="mask")
IDS = TensorSpec("ids", ("batch", "time"), "int64", sample="index", index_of=10, padding=0)
STATES = [TensorSpec("y", ("batch", "time", 16)), TensorSpec("h", ("batch", 2, 8))]
MEAN = [TensorSpec("y", ("batch", 8))]


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "fault"),
    [
        (Attends, [X, HIDDEN], [Y], ""),
        (AttendsToPadding, [X, HIDDEN], [Y], "what lies behind hidden changes output y before it"),
        (AttendsByIds, [IDS], [Y], ""),
        (AttendsToPaddingIds, [IDS], [Y], "more padding by ids changes output y before it"),
        (ReadsToTheEnd, [X, LENGTHS], STATES, ""),
        (ReadsPadding, [X, LENGTHS], STATES, "what lies behind lengths changes output y before it"),
        (MeanOverTheRow, [X, LENGTHS], MEAN, "more padding by lengths changes output y before it"),
    ],
)
def test_what_lies_in_padding_changes_nothing(kind, inputs, outputs, fault):
    status, message = check("padding", kind, inputs, outputs, padding=(inputs[-1].name,))
    assert status == ("failed" if fault else "passed")
    assert fault in message


def test_an_input_that_marks_no_padding_is_refused():
    assert check("padding", Attends, [X], padding=("x",))[1].startswith("x is declared to mark padding, but")
    assert check("padding", Attends, [X])[1] == "not declared"


class WithCache(nn.Module):
    """Attends to what is cached and to itself; the mask runs along both."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, cache, mask):
        seen = torch.cat([cache, x], 1)
        scores = self.linear(x) @ seen.transpose(1, 2)
        past, time = cache.shape[1], x.shape[1]
        later = torch.ones(time, past + time, device=x.device).triu(past + 1).bool()
        scores = scores.masked_fill(self.hidden(mask)[:, None] | later, -1e4)
        return scores.softmax(-1) @ seen, seen

    def hidden(self, mask):
        return ~mask


class CacheUnmasked(WithCache):
    def hidden(self, mask):
        return ~mask & (torch.arange(mask.shape[1], device=mask.device) >= 3)


CACHED = {
    "inputs": [
        X,
        TensorSpec("cache", ("batch", "past", 8)),
        TensorSpec("mask", ("batch", "past + time"), "bool", sample="keep"),
    ],
    "outputs": [Y, TensorSpec("seen", ("batch", "past + time", 8))],
    "constraints": ("past + time <= 12",),
}


def test_padding_and_causality_along_a_cache_and_its_continuation():
    past = {"past": Dim(default=5, min=0)}
    assert check("padding", WithCache, **CACHED, padding=("mask",), dims=past)[0] == "passed"
    assert check("padding", CacheUnmasked, **CACHED, padding=("mask",), dims=past)[0] == "failed"
    for size in (5, 0):  # 0: the cache is empty
        past = {"past": Dim(default=size, min=0)}
        assert (
            check("causality", WithCache, **CACHED, causal="time", padding=("mask",), dims=past)[0]
            == "passed"
        )
    seen = {**CACHED, "inputs": CACHED["inputs"][:2], "outputs": [Y]}
    assert check("causality", SeesLater, **seen, causal="time", dims=past)[0] == "failed"


class SeesLater(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, cache):
        return self.linear(x) + x.flip(1) + cache.sum()


class HeadsByView(nn.Module):
    """Splits the heads by a view where a transpose is needed, which mixes the steps."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        batch, time, width = x.shape
        q, k, v = (part.reshape(batch * 2, -1, 4) for part in self.qkv(x).chunk(3, -1))
        return ((q @ k.transpose(1, 2)).softmax(-1) @ v).reshape(batch, time, width)


class MeanOfNeighbors(nn.Module):
    """A graph network; its edges name nodes, so that they are renamed with them."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, edges):
        source, target = edges
        return self.linear(x).index_add(0, target, x[source]), edges[1]


class FirstNodeIsSpecial(MeanOfNeighbors):
    def forward(self, x, edges):
        y, target = super().forward(x, edges)
        return y + x[:1], target


NODES = [TensorSpec("x", ("nodes", 8)), TensorSpec("edges", (2, "edges"), "int64", "index", "nodes")]
GRAPH = {"nodes": Dim(default=7), "edges": Dim(default=9, min=0)}
OF_NODES = [TensorSpec("y", ("nodes", 8)), TensorSpec("target", ("edges",), "int64", index_of="nodes")]


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "dims", "sound"),
    [
        (Attends, [X], [Y], ["time"], True),
        (HeadsByView, [X], [Y], ["time"], False),
        (HeadsByView, [X], (), ["time"], False),  # its output is not declared
        (MeanOfNeighbors, NODES, OF_NODES, ["nodes", "edges"], True),
        (FirstNodeIsSpecial, NODES, OF_NODES, ["nodes"], False),
        (MeanOverTheRow, [X, LENGTHS], MEAN, ["time"], True),
    ],
)
def test_the_order_along_a_dim_does_not_matter(kind, inputs, outputs, dims, sound):
    status, message = check("permutation", kind, inputs, outputs, permutation=dims, dims=GRAPH)
    assert status == ("passed" if sound else "failed")
    assert sound or message.startswith(f"with {dims[0]} in another order, output ")


class PixelByPixel(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 8)

    def forward(self, x):
        return self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelsLastByView(PixelByPixel):
    def forward(self, x):
        batch, channels, height, width = x.shape
        return self.linear(x.reshape(batch, height, width, channels)).permute(0, 3, 1, 2)


class OneRowAtATime(PixelByPixel):
    """Rows are apart from each other, columns are not."""

    def forward(self, x):
        return super().forward(x) + x.mean((1, 3), keepdim=True)


@pytest.mark.parametrize(
    ("kind", "dims", "fault"),
    [
        (PixelByPixel, ("height", "width"), ""),
        (ChannelsLastByView, ("height", "width"), "a change of height 4, width 5 changes output y elsewhere"),
        (OneRowAtATime, ("height",), ""),
        (OneRowAtATime, ("height", "width"), "a change of height 4, width 5 changes output y elsewhere"),
    ],
)
def test_each_position_depends_on_itself_only(kind, dims, fault):
    picture = {"height": Dim(default=5), "width": Dim(default=6)}
    x, y = (TensorSpec(name, ("batch", size, *picture)) for name, size in (("x", 3), ("y", 8)))
    status, message = check("pointwise", kind, [x], [y], pointwise=dims, dims=picture)
    assert status == ("failed" if fault else "passed")
    assert fault in message


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
        self.tie()

    def tie(self):
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.embedding(ids))


class Untied(Tied):
    def tie(self):
        pass


class TiedByData(Tied):
    def tie(self):
        self.head.weight.data = self.embedding.weight.data


class UntiedByAReload(Tied):
    def load_state_dict(self, *args, **options):
        self.head.weight = nn.Parameter(torch.zeros(10, 8))
        return super().load_state_dict(*args, **options)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (Tied, ""),
        (Untied, "are two parameters, not one"),
        (TiedByData, "share one memory, but are two parameters"),
        (UntiedByAReload, "are two parameters, not one after a reload"),
    ],
)
def test_tied_parameters_are_one_tensor(kind, fault):
    group = ("embedding.weight", "head.weight")
    status, message = check("tied", kind, [IDS], tied=[group])
    assert status == ("failed" if fault else "passed")
    assert fault in message
    if kind is TiedByData:
        assert "share one memory" in check("registry", kind, [IDS])[1]


def test_a_tied_parameter_that_does_not_exist_is_named():
    assert (
        "no parameter embedding.wieght"
        in check("tied", Tied, [IDS], tied=[("head.weight", "embedding.wieght")])[1]
    )


class Noisy(nn.Module):
    """Draws random numbers in the modes that a subclass says."""

    modes = (True,)

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def noise(self, x):
        return torch.randn_like(x)

    def forward(self, x):
        return self.linear(x) + (self.noise(x) if self.training in self.modes else 0)


class AlwaysNoisy(Noisy):
    modes = (True, False)


class NeverNoisy(Noisy):
    modes = ()


class NoisyBehindZeros(Noisy):
    """Its head starts at zero, as those of Vision Transformers do."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 8, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        return self.head(super().forward(x))


class Idle(nn.Module):
    """Its dropout is switched off, as an option of its plugin allows."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.0))

    def forward(self, x):
        return self.layers(x)


def test_dropout_that_is_switched_off_is_no_fault():
    assert check("stochastic", Idle, [X], [Y], stochastic="training") == (
        "skipped",
        "every rate of dropout is 0",
    )


@pytest.mark.parametrize(
    ("kind", "when", "fault"),
    [
        (Noisy, "training", ""),
        (NoisyBehindZeros, "training", ""),
        (AlwaysNoisy, "always", ""),
        (AlwaysNoisy, "training", "differs between two runs"),
        (Noisy, "always", "no output depends on the seed in eval mode"),
        (NeverNoisy, "training", "no output depends on the seed in training mode"),
    ],
)
def test_random_numbers_follow_the_seed(kind, when, fault):
    status, message = check("stochastic", kind, [X], [Y], stochastic=when)
    assert status == ("warned" if kind is NeverNoisy else "failed" if fault else "passed")
    assert fault in message


class Counting(Noisy):
    """Draws from a generator that is the same for all its copies."""

    def noise(self, x):
        return torch.full_like(x, GENERATOR.random())


GENERATOR = random.Random(0)


def test_a_generator_of_its_own_does_not_follow_the_seed():
    status, message = check("stochastic", Counting, [X], [Y], stochastic="training")
    assert (status, message) == ("failed", "output y differs between two runs with one seed")


def test_a_model_that_always_draws_is_checked_with_one_seed():
    results = {
        name: check(name, AlwaysNoisy, [X], [Y], stochastic="always")
        for name in ("determinism", "round-trip", "input-effect", "derivative", "batch-independence")
    }
    assert {name: status for name, (status, _) in results.items()} == {
        "determinism": "passed",
        "round-trip": "passed",
        "input-effect": "passed",
        "derivative": "passed",
        "batch-independence": "skipped",
    }
    assert check("determinism", AlwaysNoisy, [X], [Y])[0] == "failed"


class Quantizes(nn.Module):
    """Rounds in the forward pass, and passes the gradient straight through."""

    def forward(self, x):
        return x + (x.sign() - x).detach()


class AroundQuantizer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.quantizer, self.last = nn.Linear(8, 8), Quantizes(), nn.Linear(8, 8)

    def forward(self, x):
        return self.last(self.quantizer(self.first(x)))


class WrongAroundQuantizer(AroundQuantizer):
    """Its gradient is half of what it should be, outside of the quantizer."""

    def forward(self, x):
        y = super().forward(x)
        return (y + y.detach()) / 2


def test_the_derivative_is_checked_around_a_straight_through_gradient():
    assert check("derivative", AroundQuantizer, [X], [Y])[0] == "failed"
    status, message = check("derivative", AroundQuantizer, [X], [Y], straight_through=("quantizer",))
    assert (status, message.partition(",")[2]) == ("passed", " with quantizer held constant")
    assert check("derivative", WrongAroundQuantizer, [X], [Y], straight_through=("quantizer",))[0] == "failed"
    assert check("derivative", AroundQuantizer, [X], [Y], straight_through=("",))[0] == "skipped"
    assert "no submodule coder" in check("derivative", AroundQuantizer, [X], straight_through=("coder",))[1]


@pytest.mark.parametrize(
    ("name", "options", "checked"),
    [
        ("gcn", {}, "permutation"),
        ("gcn", {"adjacency": "dense"}, "permutation"),
        ("gat", {}, "permutation"),
        ("pointnet-segmentation", {}, "permutation"),
        ("pointnet-vanilla", {}, "stochastic"),
        ("pointer-network", {"padded": True, "decoding": "sampled"}, "padding"),
        ("lstm", {"lengths": True, "bidirectional": True, "predict": "every"}, "padding"),
        ("gru", {"lengths": True, "reset": "before"}, "padding"),
        ("rnn", {"lengths": True, "initial_state": True}, "padding"),
        ("googlenet", {"height": 32, "width": 32}, "stochastic"),
    ],
)
def test_what_the_zoo_declares_holds(name, options, checked):
    (result,) = nnkit.smoke_run(name, **options, checks=[checked]).checks
    assert result.status == "passed", result.message


class LastStep(nn.Module):
    """Causal, but its output has no axis on which that shows."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x):
        return self.layer(x)[:, -1]


def test_causality_of_an_output_without_the_dim_is_not_said_to_hold():
    assert check("causality", LastStep, [X], causal="time") == ("skipped", "no output runs along time")


class Padded(nn.Module):
    """Looks tokens up, of which torch gives one no gradient."""

    def __init__(self):
        super().__init__()
        self.embedding, self.last = nn.Embedding(4, 8, padding_idx=1), nn.Linear(8, 8)

    def forward(self, ids):
        return self.last(self.embedding(ids))


class WrongPadded(Padded):
    """Its gradient is half of what it should be, for all tokens."""

    def forward(self, ids):
        y = super().forward(ids)
        return (y + y.detach()) / 2


class PaddedAndNormalized(Padded):
    """Its table is made of two parameters."""

    def __init__(self):
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.embedding)


def test_the_row_of_padding_has_no_gradient_and_that_is_no_fault():
    ids = TensorSpec("ids", ("batch", "time"), "int64", sample="index", index_of=4)
    assert check("derivative", Padded, [ids], [Y])[0] == "passed"
    assert check("derivative", PaddedAndNormalized, [ids], [Y])[0] == "passed"
    assert check("derivative", WrongPadded, [ids], [Y])[0] == "failed"
