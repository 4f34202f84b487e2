"""Small modules, each wrong in one way, with the check that must catch it; and what some of them need.

A class is named after its fault. `INPUTS` says what it takes, where that is not `x: float32[batch, 6]`.
"""

import math
import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

X = ("x: float32[batch, 6]",)
SEQUENCE = ("x: float32[batch, time=5, 6]",)
IMAGE = ("x: float32[batch, 3, 8, 8]",)


class Base(nn.Module):
    """Two linear layers; each subclass is wrong in one way."""

    INPUTS = X

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)))


# The gradient


class DeadParameter(Base):
    CATCH = "gradients"

    def __init__(self):
        super().__init__()
        self.unread = nn.Linear(6, 6)


class DetachedBranch(Base):
    CATCH = "gradients"

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)).detach())


class NoGradient(Base):
    CATCH = "gradients"

    def forward(self, x):
        with torch.no_grad():
            y = self.one(x)
        return self.two(y)


class ThroughNumpy(Base):
    CATCH = "gradients"

    def forward(self, x):
        y = self.one(x)
        return self.two(torch.from_numpy(np.tanh(y.detach().cpu().numpy())).to(y))


class DeadRelu(Base):
    CATCH = "gradients"

    def __init__(self):
        super().__init__()
        nn.init.constant_(self.one.bias, -100)

    def forward(self, x):
        return self.two(F.relu(self.one(x))) + x


class Frozen(Base):
    """Set not to require a gradient by a slip, after which nothing trains."""

    CATCH = "finite"

    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class InPlaceBreaksBackward(Base):
    CATCH = "finite"

    def forward(self, x):
        y = torch.exp(self.one(x))
        z = self.two(y)
        y.add_(1)
        return z * y


class RootOfZero(Base):
    CATCH = "finite"

    def forward(self, x):
        y = self.one(x)
        return self.two((y - y).square().sum(-1, keepdim=True).sqrt() + y)


class LogOfZero(Base):
    CATCH = "finite"

    def forward(self, x):
        return torch.log(F.relu(self.two(self.one(x))))


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x  # lacks the 2


class CustomBackward(Base):
    CATCH = "derivative"

    def forward(self, x):
        return self.two(WrongBackward.apply(self.one(x)))


class StraightThrough(Base):
    """The gradient of a rounding that isn't declared as one."""

    CATCH = "derivative"

    def forward(self, x):
        y = self.one(x)
        return self.two(y + (torch.round(y) - y).detach())


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class LearnsBackwards(Base):
    CATCH = "overfit"

    def forward(self, x):
        return Reversed.apply(super().forward(x))


class GradientScaled(Base):
    CATCH = "derivative"

    def forward(self, x):
        y = self.one(x)
        return self.two(y * 0.5 + y.detach() * 0.5)


# The batch


class SoftmaxOverBatch(Base):
    CATCH = "batch-independence"

    def forward(self, x):
        return super().forward(x).softmax(0)


class AttentionAcrossBatch(nn.Module):
    INPUTS, CATCH = SEQUENCE, "batch-independence"

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2)  # batch_first was forgotten

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class ViewForTranspose(nn.Module):
    INPUTS, CATCH = SEQUENCE, "batch-independence"

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):  # (B, T, C)
        batch, time, width = x.shape
        y = self.linear(x).reshape(time, batch, width)  # should be a transpose
        return y.cumsum(0).reshape(batch, time, width)


class BatchStatistics(Base):
    CATCH = "batch-independence"

    def forward(self, x):
        return F.batch_norm(super().forward(x), None, None, training=True)


class CenteredOverBatch(Base):
    CATCH = "batch-independence"

    def forward(self, x):
        y = super().forward(x)
        return y - y.mean(0)


class LargestOfBatch(Base):
    CATCH = "batch-independence"

    def forward(self, x):
        y = super().forward(x)
        return y / y.abs().max()


class HardCodedBatch(Base):
    CATCH = "batch-sizes"

    def forward(self, x):
        return super().forward(x).view(4, 6)


class OnlyEvenBatches(Base):
    CATCH = "batch-sizes"

    def forward(self, x):
        one, two = super().forward(x).chunk(2)
        return torch.cat([two * 1.0, one * 1.0]).view(2, -1, 6).flip(0).reshape(-1, 6)


class SqueezedBatch(Base):
    CATCH = "batch-sizes"

    def forward(self, x):
        y = super().forward(x).squeeze()
        return y.sum(1, keepdim=True) + y


# Placement and dtype


class ZerosOnCpu(Base):
    CATCH = "cast"

    def forward(self, x):
        return self.two(self.one(x) + torch.zeros(len(x), 6)).matmul(torch.eye(6))


class RangeOnCpu(Base):
    """Positions that are made on the CPU whatever the device: only another device shows it."""

    CATCH = "placement"

    def forward(self, x):
        places = torch.arange(6, device="cpu")
        y = super().forward(x)
        return y * places


class PlainTensor(Base):
    CATCH = "registry"

    def __init__(self):
        super().__init__()
        self.scale = torch.randn(6, 6)

    def forward(self, x):
        return super().forward(x) @ self.scale


class ListOfLayers(Base):
    CATCH = "registry"

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(6, 6) for _ in range(2)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return super().forward(x)


class DictOfTensors(Base):
    CATCH = "registry"

    def __init__(self):
        super().__init__()
        self.tables = {"a": {"scale": torch.randn(6)}}

    def forward(self, x):
        return super().forward(x) * self.tables["a"]["scale"]


class HiddenInClosure(Base):
    """A tensor that no walk over attributes finds."""

    CATCH = "round-trip"

    def __init__(self):
        super().__init__()
        scale = torch.randn(6)
        self.scaled = lambda y: y * scale

    def forward(self, x):
        return self.scaled(super().forward(x))


class NotPersistent(Base):
    CATCH = "round-trip"

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.randn(6), persistent=False)

    def forward(self, x):
        return super().forward(x) * self.scale


class MovedToCpu(Base):
    """To the CPU and in float32 by hand."""

    CATCH = "cast"

    def forward(self, x):
        return self.two(self.one(x).cpu().float())


class Float32HardCoded(Base):
    CATCH = "cast"

    def forward(self, x):
        return self.two(self.one(x).to(torch.float32))


class Float32Positions(Base):
    CATCH = "cast"

    def forward(self, x):
        return self.two(self.one(x) @ torch.arange(36.0).view(6, 6).cos())


class DoubleConstant(Base):
    CATCH = "cast"

    def forward(self, x):
        return self.two(self.one(x) * torch.ones(6, dtype=torch.float64)).float()


class Overflow(Base):
    """Sums of squares of large numbers, beyond what half precision holds."""

    CATCH = "half"

    def forward(self, x):
        y = 300 * self.one(x)
        return self.two(y / y.square().sum(-1, keepdim=True).sqrt())


# Repetition and state


class DropoutInEval(Base):
    CATCH = "determinism"

    def forward(self, x):
        return F.dropout(super().forward(x), 0.5)


class NoiseInEval(Base):
    CATCH = "determinism"

    def forward(self, x):
        y = super().forward(x)
        return y + 0.1 * torch.randn_like(y)


class PythonRandom(Base):
    CATCH = "determinism"

    def forward(self, x):
        return super().forward(x) * (1 + random.random())


class SkipsAtRandom(Base):
    """Leaves a layer out by a chance that torch's seed doesn't rule: a second run is another."""

    CATCH = "gradient-checkpointing"

    def __init__(self):
        super().__init__()
        self.dice = random.Random(0)

    def forward(self, x):
        if self.training and self.dice.random() < 0.8:
            return self.two(x)
        return super().forward(x)


class EvalCounter(Base):
    CATCH = "determinism"

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class StatisticsInEval(Base):
    CATCH = "eval-state"

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        y = super().forward(x)
        self.mean.mul_(0.9).add_(0.1 * y.detach().mean(0))
        return y


class ChangesItsInput(Base):
    CATCH = "inputs-unchanged"

    def forward(self, x):
        x += 1
        return super().forward(x)


class NormalizesInPlace(Base):
    CATCH = "inputs-unchanged"

    def forward(self, x):
        return super().forward(x.clamp_(-1, 1))


# What it looks at


class MaskIgnored(Base):
    INPUTS, CATCH = ("x: float32[batch, 6]", "mask: float32[batch, 6]"), "input-effect"

    def forward(self, x, mask):
        torch.where(mask > 0, x, torch.zeros_like(x))
        return super().forward(x)


class SecondInputOverwritten(Base):
    INPUTS, CATCH = ("x: float32[batch, 6]", "y: float32[batch, 6]"), "input-effect"

    def forward(self, x, y):
        y = x
        return super().forward(x + y)


class ConstantOutput(Base):
    CATCH = "input-effect"

    def forward(self, x):
        return super().forward(x * 0)


class SeesTheFuture(nn.Module):
    INPUTS, CATCH, CAUSAL = SEQUENCE, "causality", "time"

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        scores = self.q(x) @ self.k(x).mT / math.sqrt(6)
        return scores.softmax(-1) @ x  # the mask was forgotten


class ShiftedMask(nn.Module):
    INPUTS, CATCH, CAUSAL = SEQUENCE, "causality", "time"

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        scores = self.q(x) @ self.k(x).mT / math.sqrt(6)
        later = torch.ones_like(scores[0]).triu(2).bool()  # should begin at 1
        return scores.masked_fill(later, -torch.inf).softmax(-1) @ x


class NormalizesOverTime(nn.Module):
    INPUTS, CATCH, CAUSAL = SEQUENCE, "causality", "time"

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        y = self.linear(x)
        return y - y.mean(1, keepdim=True)


# What torch can't capture


class ValueBranch(Base):
    CATCH = "export"

    def forward(self, x):
        y = super().forward(x)
        return y if y.sum() > 0 else -y


class LooksAtANumber(Base):
    CATCH = "export"

    def forward(self, x):
        y = super().forward(x)
        return y * float(y.sum().item() > 0) + y


# Not caught by any: the shapes and the gradients of a sound model, and another meaning.


class SoftmaxOverWrongAxis(nn.Module):
    INPUTS, CATCH = SEQUENCE, None

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return (self.q(x) @ self.k(x).mT).softmax(-2) @ x


MEASURED = (
    DeadParameter, SoftmaxOverBatch, AttentionAcrossBatch, ViewForTranspose, BatchStatistics,
    InPlaceBreaksBackward, ChangesItsInput, ZerosOnCpu, RangeOnCpu, PlainTensor, ListOfLayers, MovedToCpu,
    RootOfZero, DetachedBranch, NoGradient, DropoutInEval, HardCodedBatch, EvalCounter, Float32HardCoded,
    MaskIgnored, DeadRelu, ThroughNumpy, ValueBranch, CustomBackward, Overflow, SoftmaxOverWrongAxis,
    SeesTheFuture, NoiseInEval, PythonRandom,
)  # fmt: skip
"""The 29 kinds of fault on which other tools were measured: timm's tests catch 7, torchtest2 18."""

ALL = [
    each
    for each in list(globals().values())
    if isinstance(each, type) and issubclass(each, nn.Module) and "CATCH" in vars(each)
]
"""Every module above."""

__all__ = ["ALL", "Base", "Tensor"]
