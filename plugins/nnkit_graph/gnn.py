"""Message-passing network: a node combines its own features with messages from its neighbors.

Gilmer, Schoenholz, Riley, Vinyals, Dahl: Neural Message Passing for Quantum Chemistry. ICML 2017,
https://arxiv.org/abs/1704.01212; in the plain form of Scarselli et al. 2009, The Graph Neural Network
Model, https://doi.org/10.1109/TNN.2008.2005605.

    m_t = aggregate of h_s over the edges s -> t        sum, mean, weighted mean or maximum
    h'_t = relu(W [h_t ; m_t] + b)                      no relu after the last layer

Symbols: N nodes, E directed edges, F features, C classes.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_graph.adjacency import bare_edges, mean_edges
from nnkit_graph.configs import GNNConfig


def aggregate(x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, aggregation: str) -> Tensor:
    """Return what each node gets from its neighbors, (N, F); zeros where it has none.

    x (N, F), edge_index (2, E), edge_weight (E,) only for `weighted-mean`.
    """
    match aggregation:
        case "sum":
            return bare_edges(edge_index, None, x) @ x
        case "mean":
            return mean_edges(edge_index, None, x) @ x
        case "weighted-mean":
            return mean_edges(edge_index, edge_weight, x) @ x
        case "max":
            source, target = edge_index
            index = target[:, None].expand(-1, x.shape[1])  # (E, F)
            return torch.zeros_like(x).scatter_reduce(0, index, x[source], "amax", include_self=False)
    raise ValueError(f"unknown aggregation {aggregation!r}")


class GNNLayer(nn.Module):
    """One round of messages: W [h ; aggregate of neighbors] + b.

    Shapes: x (N, in_channels), edge_index (2, E) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, aggregation: str = "mean") -> None:
        super().__init__()
        self.aggregation = aggregation
        self.update = nn.Linear(2 * in_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        messages = aggregate(x, edge_index, edge_weight, self.aggregation)  # (N, in_channels)
        joined = torch.cat([x, messages], dim=1)  # (N, 2 * in_channels)
        result: Tensor = self.update(joined)
        return result


class GNN(nn.Module):
    """Rounds of messages, then a score for each class.

    Shapes: x (N, in_channels), edge_index (2, E) [, edge_weight (E,)] -> scores (N, num_classes).
    """

    def __init__(self, config: GNNConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.layers = nn.ModuleList(
            GNNLayer(size, following, config.aggregation) for size, following in pairwise(config.layer_sizes)
        )

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        for depth, layer in enumerate(self.layers):
            if depth > 0:
                x = F.dropout(F.relu(x), self.dropout, self.training)
            x = layer(x, edge_index, edge_weight)  # (N, F)
        return x  # (N, C)
