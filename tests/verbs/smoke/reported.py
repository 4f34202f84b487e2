"""More seeded faults, of kinds that public projects have had reported; see seeded.py.

`NEEDS` says what a module and one example can't tell: the declaration or the option without which nobody
can know that it is a fault. `WARNS` marks what may be meant, so that it is only warned of.
"""

import collections
import functools
import math
import types

import torch
from seeded import IMAGE, SEQUENCE, Base
from torch import Tensor, nn
from torch.nn import functional as F

TOKENS = ("ids: int64[batch, time=6] < 20",)


# The gradient


class ItemAsScale(Base):
    CATCH = "gradients"

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return super().forward(x) * self.scale.item()


class ParameterMadeAnew(Base):
    CATCH = "gradients"

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x):
        return super().forward(x) * nn.Parameter(2 * self.scale)


class DataOfWeight(Base):
    CATCH = "gradients"

    def forward(self, x):
        return F.linear(self.one(x), self.two.weight.data, self.two.bias)


class ArgmaxInTheMiddle(Base):
    CATCH = "gradients"

    def forward(self, x):
        return self.two(F.one_hot(self.one(x).argmax(-1), 6).to(x))


class SecondHeadUnused(Base):
    CATCH = "gradients"

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(6, 2) for _ in range(2))

    def forward(self, x):
        y = super().forward(x)
        return self.heads[0](y), self.heads[0](y)  # should be the other


class LastStepOfBothWays(nn.Module):
    """The last step of a bidirectional LSTM: its way back has seen one step alone."""

    INPUTS, CATCH = SEQUENCE, "gradients"

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 8, batch_first=True, bidirectional=True), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class NanBehindWhere(Base):
    CATCH = "finite"

    def forward(self, x):
        y = super().forward(x)
        return torch.where(y > 0, y.sqrt(), torch.zeros_like(y))


class InPlaceReluInSkip(nn.Module):
    """The shortcut carries what the block's first layer has changed in place."""

    INPUTS, CATCH = IMAGE, "in-place"

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.act, self.body = nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        y = self.stem(x)
        return y + self.body(self.act(y))


# The batch


class PositionsByBatch(nn.Module):
    INPUTS, CATCH = TOKENS, "batch-independence"

    def __init__(self):
        super().__init__()
        self.words, self.places, self.head = nn.Embedding(20, 8), nn.Embedding(50, 8), nn.Linear(8, 20)

    def forward(self, ids):
        places = torch.arange(ids.shape[0], device=ids.device)[:, None]
        return self.head(self.words(ids) + self.places(places))


class AccidentalBroadcast(Base):
    """A column against a row: each sample meets every other."""

    CATCH = "batch-independence"

    def __init__(self):
        super().__init__()
        self.value = nn.Linear(6, 1)

    def forward(self, x):
        value = self.value(x).squeeze(-1)
        return super().forward(x) - (value - value[:, None]).mean(1, keepdim=True)


class NormalizedOverBatch(Base):
    CATCH = "batch-independence"

    def forward(self, x):
        return F.normalize(super().forward(x), dim=0)


class LargestOfAll(Base):
    """A threshold from all values, samples and features alike."""

    CATCH = "batch-independence"

    def forward(self, x):
        y = super().forward(x)
        return y * (y >= y.flatten().topk(y.numel() // 2).values[-1])


class SoftmaxByRank(nn.Module):
    """The axis counted from the front, as if the input had no batch."""

    INPUTS, CATCH = ("x: float32[batch, 6]",), "batch-independence"

    def __init__(self):
        super().__init__()
        self.scores, self.values = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.scores(x).softmax(dim=0) * self.values(x)


class RecurrentOverBatch(nn.Module):
    """A GRU whose batch_first was forgotten."""

    INPUTS, CATCH = SEQUENCE, "batch-independence"

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 6)

    def forward(self, x):
        return self.gru(x)[0]


class JoinedAlongBatch(Base):
    """Twice as many rows: two views of each sample give the same."""

    CATCH, NEEDS = None, "outputs"

    def forward(self, x):
        return self.two(torch.cat([self.one(x), x]))


class StateOfFourRows(Base):
    """A state that is made for the batch of the paper; a row may also be a position, with its own bias."""

    CATCH, WARNS = "batch-sizes", True

    def __init__(self):
        super().__init__()
        self.state = nn.Parameter(torch.randn(4, 6))

    def forward(self, x):
        return super().forward(x) + self.state


class PoolThenBatchNorm(nn.Module):
    """One value per channel is left to the batch norm: a batch of one can't train."""

    INPUTS, CATCH, WARNS = IMAGE, "batch-sizes", True

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.norm(F.adaptive_avg_pool2d(self.conv(x), 1)).flatten(1))


# State


class HiddenCarried(nn.Module):
    INPUTS, CATCH = SEQUENCE, "determinism"

    def __init__(self):
        super().__init__()
        self.gru, self.hidden = nn.GRU(6, 6, batch_first=True), None

    def forward(self, x):
        if self.hidden is not None and self.hidden.shape[1] != x.shape[0]:
            self.hidden = None
        y, hidden = self.gru(x, self.hidden)
        self.hidden = hidden.detach()
        return y


class PairCarried(HiddenCarried):
    """The state of an LSTM, which is a pair."""

    CATCH = "eval-state"

    def __init__(self):
        super().__init__()
        self.gru = nn.LSTM(6, 6, batch_first=True)

    def forward(self, x):
        if self.hidden is not None and self.hidden[0].shape[1] != x.shape[0]:
            self.hidden = None
        y, self.hidden = self.gru(x, self.hidden)
        return y


class MutableDefault(Base):
    CATCH = "determinism"

    def forward(self, x, seen=[]):  # noqa: B006 - the fault
        y = self.one(x)
        seen.append(y.detach().mean())
        return self.two(y) + torch.stack(seen[-5:]).sum() * len(seen)


class CounterOfTheClass(Base):
    CATCH, calls = "determinism", 0

    def forward(self, x):
        CounterOfTheClass.calls += 1
        return super().forward(x) / CounterOfTheClass.calls


class InitializedInForward(Base):
    CATCH = "determinism"

    def forward(self, x):
        nn.init.normal_(self.two.bias)
        return super().forward(x)


class AttentionDropout(nn.Module):
    """The dropout of the functional form knows no eval mode."""

    INPUTS, CATCH = SEQUENCE, "determinism"

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(6, 18)

    def forward(self, x):
        return F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1), dropout_p=0.2)


class WeightsClamped(Base):
    """The weights are clipped at each run, also in eval mode."""

    CATCH = "eval-state"

    def forward(self, x):
        with torch.no_grad():
            self.one.weight.mul_(0.99)
        return super().forward(x)


class RateLost(Base):
    """Eval mode sets the rate of dropout to zero, and training never gets it back."""

    CATCH = "eval-state"

    def __init__(self):
        super().__init__()
        self.rate = 0.2

    def forward(self, x):
        if not self.training:
            self.rate = 0.0
        return self.two(F.dropout(self.one(x), self.rate))


class FirstResultKept(Base):
    """A cache that forgets to ask whether the input is another."""

    CATCH = "input-effect"

    def __init__(self):
        super().__init__()
        self.kept = {}

    def forward(self, x):
        if self.training:
            return super().forward(x)
        if x.shape not in self.kept:
            self.kept[x.shape] = super().forward(x).detach()
        return self.kept[x.shape]


class LayerMadeInForward(Base):
    """No optimizer that was made before has the layer."""

    CATCH = "registry"

    def __init__(self):
        super().__init__()
        self.late = None

    def forward(self, x):
        y = super().forward(x)
        if self.late is None:
            self.late = nn.Linear(y.shape[-1], 3)
        return self.late(y)


class TiedByData(nn.Module):
    """Two parameters share one memory; an optimizer moves it twice."""

    INPUTS, CATCH = TOKENS, "registry"

    def __init__(self):
        super().__init__()
        self.words, self.body, self.head = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 20, bias=False)
        self.head.weight.data = self.words.weight.data

    def forward(self, ids):
        return self.head(self.body(self.words(ids)).tanh())


class ListTimesN(Base):
    """One layer, three times: a list was multiplied."""

    CATCH, WARNS = "registry", True

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6)] * 3)

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x).tanh()
        return super().forward(x)


class TensorOfTheClass(Base):
    """All instances share it, and no `.to()` moves it."""

    CATCH = "placement"
    table = torch.linspace(0.5, 1.5, 6)

    def forward(self, x):
        return super().forward(x) * self.table


class TensorInNamespace(Base):
    CATCH = "placement"

    def __init__(self):
        super().__init__()
        self.tables = types.SimpleNamespace(scale=torch.rand(6) + 1)

    def forward(self, x):
        return super().forward(x) * self.tables.scale


class LayersInDeque(Base):
    CATCH = "placement"

    def __init__(self):
        super().__init__()
        self.layers = collections.deque([nn.Linear(6, 6)])

    def forward(self, x):
        return super().forward(self.layers[0](x))


class LayerInPartial(Base):
    CATCH = "placement"

    def __init__(self):
        super().__init__()
        self.embed = functools.partial(F.linear, weight=torch.randn(6, 6))

    def forward(self, x):
        return super().forward(self.embed(x))


# Dtypes


class MaskOfNineZeros(nn.Module):
    """A mask of -1e9, which float16 doesn't hold."""

    INPUTS, CATCH = SEQUENCE, "half"

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        scores = self.q(x) @ self.k(x).mT / math.sqrt(6)
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(hidden, -1e9).softmax(-1) @ x


class PlacesInModelDtype(nn.Module):
    """Rotary positions counted in bfloat16: far ones are the same."""

    INPUTS, CATCH = ("x: float32[batch, time=320, 8]",), "cast"

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        places = torch.arange(x.shape[1], device=x.device).to(x.dtype)[:, None]
        angles = places * 10.0 ** -torch.arange(4, device=x.device).to(x.dtype)
        q, k, v = self.qkv(x).chunk(3, -1)
        return F.scaled_dot_product_attention(_turn(q, angles), _turn(k, angles), v)


def _turn(x: Tensor, angles: Tensor) -> Tensor:
    one, two = x.chunk(2, -1)
    return torch.cat([one * angles.cos() - two * angles.sin(), one * angles.sin() + two * angles.cos()], -1)


# What it looks at


class KeyIgnored(Base):
    """One entry of a dict has no effect."""

    CATCH = "input-effect"
    INPUTS = ("batch.x: float32[batch, 6]", "batch.y: float32[batch, 6]")

    @staticmethod
    def example() -> list[object]:
        return [{"x": torch.randn(4, 6), "y": torch.randn(4, 6)}]

    def forward(self, batch):
        return super().forward(batch["x"] + batch.get("z", 0))


class CacheIgnored(nn.Module):
    """The past is taken, joined to, and given back, but not looked at."""

    CATCH = "input-effect"
    INPUTS = ("x: float32[batch, time=3, 6]", "past.0: float32[batch, past=2, 6]")

    def __init__(self):
        super().__init__()
        self.q, self.kv = nn.Linear(6, 6), nn.Linear(6, 6)

    @staticmethod
    def example() -> list[object]:
        return [torch.randn(4, 3, 6), [torch.randn(4, 2, 6)]]

    def forward(self, x, past):
        present = self.kv(x)
        torch.cat([past[0], present], 1)
        return (self.q(x) @ present.mT).softmax(-1) @ present


class OptionalMaskIgnored(nn.Module):
    CATCH = "input-effect"
    INPUTS = ("x: float32[batch, time=5, 6]", "mask: bool[batch, time=5]")

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6)

    @staticmethod
    def example() -> list[object]:
        return [torch.randn(4, 5, 6), torch.rand(4, 5) > 0.3]

    def forward(self, x, mask=None):
        scores = self.q(x) @ self.k(x).mT
        if mask is not None:
            scores.masked_fill(~mask[:, None], -torch.inf)  # should be assigned, or in place
        return scores.softmax(-1) @ x


class KeywordForgotten(Base):
    """A keyword argument that never reaches the layer."""

    CATCH = "input-effect"
    INPUTS = ("x: float32[batch, 6]", "bias: float32[batch, 6]")

    def forward(self, x, bias=None):
        return self._run(x)

    def _run(self, x, bias=None):
        y = super().forward(x)
        return y if bias is None else y + bias


# What only a declaration tells


class MaskOnQueries(nn.Module):
    """The mask of the padding hides rows of the attention where it should hide columns."""

    INPUTS, CATCH, NEEDS = TOKENS, None, "ids: … padding 0"

    def __init__(self):
        super().__init__()
        self.words, self.k = nn.Embedding(20, 6), nn.Linear(6, 6)

    def forward(self, ids):
        x = self.words(ids)
        scores = (x @ self.k(x).mT).masked_fill((ids == 0)[:, :, None], -1e4)
        return scores.softmax(-1) @ x


class HeadsByView(nn.Module):
    """Heads by a view without a transpose mix the time; the same without positions would permute with it."""

    INPUTS, CATCH, NEEDS = ("x: float32[batch, time=6, 6]",), None, "permutation"

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        q, k, v = (y.reshape(len(x) * 2, -1, 3) for y in (self.q(x), self.k(x), x))
        return ((q @ k.mT).softmax(-1) @ v).reshape(x.shape)


class ChannelsByView(nn.Module):
    """Channels last by a view: pixels become channels."""

    INPUTS, CATCH, NEEDS = IMAGE, None, "pointwise"

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 6)

    def forward(self, x):
        batch, channels, height, width = x.shape
        return self.linear(x.reshape(batch, height, width, channels)).permute(0, 3, 1, 2)


class FixedLength(nn.Module):
    """It runs at one length alone, which may be meant."""

    INPUTS, CATCH, NEEDS = SEQUENCE, None, "x: … time"

    def __init__(self):
        super().__init__()
        self.linear, self.mix = nn.Linear(6, 6), nn.Linear(5, 5)

    def forward(self, x):
        return self.mix(self.linear(x).mT).mT


class SigmoidTwice(Base):
    """It learns, and badly: another meaning."""

    CATCH, NEEDS = None, "a look at the results"

    def forward(self, x):
        return super().forward(x).sigmoid().sigmoid()


ALL = [
    each
    for each in list(globals().values())
    if isinstance(each, type) and issubclass(each, nn.Module) and each.__module__ == __name__
]
"""Every module above."""
