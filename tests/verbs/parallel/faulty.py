"""Modules whose training over many ranks isn't that of one process, each in one way, and sound ones."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F


def rank():
    return dist.get_rank() if dist.is_initialized() else 0


class Sound(nn.Module):
    """Two linear layers with all that may differ by share and must not: batch norm, dropout, in-place steps."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.rest = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(8, 4))

    def forward(self, x):
        return self.rest(self.norm(self.first(x)))


class OutputsByRank(Sound):
    def forward(self, x):
        return super().forward(x) + rank()


class DividesByTheBatch(Sound):
    def forward(self, x):
        return super().forward(x) / len(x)


class BatchStatistics(Sound):
    def forward(self, x):
        return F.batch_norm(super().forward(x), None, None, training=True)


class MixesTheBatch(Sound):
    def forward(self, x):
        return super().forward(x).softmax(0)


class DropoutInEval(Sound):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, training=True)


class UnusedOnOneRank(Sound):
    """A gate that rank 1 doesn't open: its gradient is half of what it should be."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return super().forward(x) + (self.gate if rank() == 0 else 0)


class OwnWeights(Sound):
    def __init__(self):
        super().__init__()
        nn.init.constant_(self.first.bias, rank())


class FollowsItsShare(Sound):
    """A buffer that keeps a mean of what it saw, of which no other rank hears."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen.lerp_(x.mean().detach(), 0.5)
        return super().forward(x)


class Frozen(Sound):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class NothingToSplit(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(1, 4, 3)

    def forward(self, x):
        return self.layer(x[:, None])


class Tied(nn.Module):
    """A table that is also the last layer, and a layer of which the weight is read alone: neither may be split."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.read = nn.Linear(8, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.last = nn.Linear(8, 10, bias=False)
        self.last.weight = self.table.weight

    def forward(self, x):
        y = self.table(x.argsort(1).clamp(max=9)) @ self.read.weight
        for block in self.blocks:
            y = y + block(y)
        return self.last(y)
