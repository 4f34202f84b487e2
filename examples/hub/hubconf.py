"""Entrypoints for torch.hub, and for nnkit: `nnkit summary examples/hub:mlp`."""

from torch import nn

dependencies = ["torch"]


def mlp(width: int = 8, depth: int = 1) -> nn.Module:
    """Linear layers with ReLU between them."""
    hidden = [layer for _ in range(depth) for layer in (nn.ReLU(), nn.Linear(width, width))]
    return nn.Sequential(nn.Linear(4, width), *hidden, nn.ReLU(), nn.Linear(width, 2))


def linear() -> nn.Module:
    """One linear layer."""
    return nn.Linear(4, 2)
