"""Graph isomorphism network: sums over neighbors, which separate graphs that means and maxima can't.

Xu, Hu, Leskovec, Jegelka: How Powerful are Graph Neural Networks? ICLR 2019,
https://arxiv.org/abs/1810.00826

    h'_t = MLP((1 + ε) h_t + Σ of h_s over the edges s -> t)

The MLP has two linear layers with a relu between them; another relu comes between the layers of the
network. Keys and initial values are those of PyG's GIN. Symbols: N nodes, E directed edges,
F features, C classes.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_graph.adjacency import Adjacency, bare_edges
from nnkit_graph.configs import GINConfig


class MLP(nn.Module):
    """Two linear layers with a relu between them: (N, in_channels) -> (N, out_channels)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lins = nn.ModuleList(
            [nn.Linear(in_channels, out_channels), nn.Linear(out_channels, out_channels)]
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for lin in self.lins:
            cast("nn.Linear", lin).reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.lins
        result: Tensor = second(F.relu(first(x)))
        return result


class GINConv(nn.Module):
    """One layer, with the graph's matrix given.

    Shapes: x (N, in_channels) -> (N, out_channels). Keys as in `torch_geometric.nn.GINConv`.
    """

    eps: Tensor

    def __init__(self, in_channels: int, out_channels: int, train_eps: bool = False) -> None:
        super().__init__()
        self.nn = MLP(in_channels, out_channels)
        if train_eps:
            self.eps = nn.Parameter(torch.zeros(1))
        else:
            self.register_buffer("eps", torch.zeros(1))
        # Drawn once more, as PyG does, so that the same seed gives the same weights.
        self.nn.reset_parameters()

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        result: Tensor = self.nn((1 + self.eps) * x + adjacency @ x)  # (N, out_channels)
        return result


class GIN(nn.Module):
    """Layers of GINConv, then a score for each class.

    Shapes: x (N, in_channels), edge_index (2, E) -> scores (N, num_classes).
    """

    def __init__(self, config: GINConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.convs = nn.ModuleList(
            GINConv(size, following, config.train_eps) for size, following in pairwise(config.layer_sizes)
        )

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        adjacency = bare_edges(edge_index, None, x)
        for depth, conv in enumerate(self.convs):
            if depth > 0:
                x = F.dropout(F.relu(x), self.dropout, self.training)
            x = conv(x, adjacency)  # (N, F)
        return x  # (N, C)
