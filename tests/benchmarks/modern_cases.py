"""Pairs of a network of the modern zoo and its reference, of the same size and with the same weights.

Each case is a function of `quick` (as small as it goes, to see that it works) that returns a `Pair`.
"""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest  # noqa: F401 (makes torchvision importable where its compiled operators can't be loaded)

import nnkit


class Pair(NamedTuple):
    """Two networks, and for each the call that returns the output whose square is trained."""

    ours: nn.Module
    theirs: nn.Module
    call_ours: Callable[[], Tensor]
    call_theirs: Callable[[], Tensor]


# ---- mlp


def mlp(quick: bool) -> Pair:
    """The perceptron beside a plain sequence of torch's layers."""
    width = 16 if quick else 512
    theirs = nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    ours = nnkit.build("mlp", hidden_sizes=(width, width))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(256, 784)
    return Pair(ours, theirs, lambda: ours(x), lambda: theirs(x))


# ---- transformer, bert


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet


# ---- mamba, moe


# ---- densenet, mobilenet-v3, efficientnet, convnext, unet


# ---- vit, mixer, resmlp, clip


# ---- vae, vq-vae, dcgan


# ---- ddpm-unet


# ---- deepsets, set-transformer, graph-transformer


def deepsets(quick: bool) -> Pair:
    """Deep Sets beside PyG's aggregation, which takes the elements of all sets in one list."""
    from torch_geometric.nn.aggr import DeepSetsAggregation

    width, batch, elements = (8, 2, 5) if quick else (256, 64, 100)
    ours = nnkit.build("deepsets", phi_sizes=(width, width), rho_sizes=(width,))
    theirs = DeepSetsAggregation(nn.Sequential(*copy.deepcopy(ours.phi)), copy.deepcopy(ours.ro))
    x = torch.randn(batch, elements, 3)
    index = torch.arange(batch).repeat_interleave(elements)
    return Pair(ours, theirs, lambda: ours(x), lambda: theirs(x.flatten(0, 1), index, dim_size=batch))


def set_transformer(quick: bool) -> Pair:
    """The Set Transformer beside the same blocks of PyG's, which have one projection and one layer more each."""
    from torch_geometric.nn.aggr.utils import (
        InducedSetAttentionBlock,
        PoolingByMultiheadAttention,
        SetAttentionBlock,
    )

    width, batch, elements = (8, 2, 5) if quick else (128, 16, 300)
    ours = nnkit.build("set-transformer", in_features=width, hidden_features=width)
    options = {"heads": 4, "layer_norm": False}
    theirs = nn.Sequential(
        *(InducedSetAttentionBlock(width, 32, **options) for _ in range(2)),
        PoolingByMultiheadAttention(width, 4, **options),
        *(SetAttentionBlock(width, **options) for _ in range(2)),
        nn.Linear(width, 4),
    )
    x = torch.randn(batch, elements, width)
    return Pair(ours, theirs, lambda: ours(x), lambda: theirs(x))


def graph_transformer(quick: bool) -> Pair:
    """The Graph Transformer beside layers of PyG's TransformerConv."""
    from torch_geometric.nn import TransformerConv

    class PyG(nn.Module):
        """The same network of PyG's layers."""

        def __init__(self) -> None:
            super().__init__()
            options = {"heads": 4, "beta": True, "dropout": 0.3}
            self.convs = nn.ModuleList([
                TransformerConv(64, width // 4, **options),
                TransformerConv(width, width // 4, **options),
                TransformerConv(width, 7, concat=False, **options),
            ])  # fmt: skip
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            """Return the scores."""
            for conv, norm in zip(self.convs, self.norms, strict=False):
                x = norm(conv(x, edge_index)).relu()
                x = nn.functional.dropout(x, 0.3, self.training)
            return self.convs[-1](x, edge_index)

    width, nodes, edges = (8, 10, 20) if quick else (64, 2700, 10_600)
    ours = nnkit.build("graph-transformer", in_channels=64, hidden_channels=width, num_classes=7)
    theirs = PyG()
    theirs.load_state_dict(ours.state_dict())
    x, edge_index = torch.randn(nodes, 64), torch.randint(nodes, (2, edges))
    return Pair(ours, theirs, lambda: ours(x, edge_index), lambda: theirs(x, edge_index))


CASES: dict[str, Callable[[bool], Pair]] = {
    "mlp": mlp,
    # transformer, bert
    # gpt2, llama
    # seq2seq-attention, tcn, wavenet
    # mamba, moe
    # densenet, mobilenet-v3, efficientnet, convnext, unet
    # vit, mixer, resmlp, clip
    # vae, vq-vae, dcgan
    # ddpm-unet
    "deepsets": deepsets,
    "set-transformer": set_transformer,
    "graph-transformer": graph_transformer,
}
