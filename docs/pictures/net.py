"""The network of the smoke-run picture: it trains without an error, and has three bugs.

It changes its input in place, trains no `skip`, and attends across the batch instead of over time.
"""

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """A classifier of sequences: batch × time × 16 to batch × 4."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(16, 32)
        self.score = nn.Linear(32, 1)
        self.skip = nn.Linear(16, 32)
        self.classify = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x -= x.mean(dim=1, keepdim=True)
        hidden = torch.relu(self.encode(x)) + self.skip(x).detach()
        attention = self.score(hidden).softmax(dim=0)
        return self.classify((attention * hidden).sum(dim=1))
