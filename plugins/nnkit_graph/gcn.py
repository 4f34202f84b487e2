"""Graph convolutional network: each layer mixes a node's features with its neighbors'.

Kipf, Welling: Semi-Supervised Classification with Graph Convolutional Networks. ICLR 2017,
https://arxiv.org/abs/1609.02907

    H_0 = X,    H_k = relu(Â H_{k-1} W_k + b_k),    scores = Â H_{K-1} W_K + b_K

    Â = D^-½ (A + I) D^-½ is the graph with self-loops, normalized by degrees on both sides.

Â (X W) = (Â X) W: features go through W before Â, or after it where W makes more of them, so that fewer are
aggregated. Keys and initial values are those of PyG's GCN. Symbols: N nodes, E directed edges, F features,
C classes.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_graph.adjacency import (
    Adjacency,
    AdjacencyCache,
    EdgeList,
    bare_edges,
    normalize_edges,
    normalize_matrix,
)
from nnkit_graph.configs import GCNConfig
from nnkit_graph.inference import may_overwrite, scores_in_two_buffers


class GCNConv(nn.Module):
    """One graph convolution: Â X W + b, with Â given.

    Shapes: x (N, in_channels) -> (N, out_channels). Without an adjacency it is a linear layer.
    Source: Kipf and Welling 2017, equation 2; keys as in `torch_geometric.nn.GCNConv`.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.widens = out_channels > in_channels
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.lin.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, adjacency: Adjacency | None) -> Tensor:
        if adjacency is not None and self.widens:
            x = adjacency @ x  # (N, in_channels)
        x = self.lin(x)  # (N, out_channels)
        if adjacency is not None and not self.widens:
            x = adjacency @ x  # (N, out_channels)
        return x if self.bias is None else x + self.bias


class GCNLayers(nn.Module):
    """The layers that both forms of the network share."""

    def __init__(self, config: GCNConfig) -> None:
        super().__init__()
        self.config = config
        self.convs = nn.ModuleList(
            GCNConv(size, following, config.bias) for size, following in pairwise(config.layer_sizes)
        )

    def scores(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        """Return the scores (N, C) for x (N, F) and Â, or A where the network isn't normalized."""
        for depth, conv in enumerate(self.convs):
            if depth > 0:
                x = F.relu(x)
                x = F.dropout(x, self.config.dropout, self.training)
            x = conv(x, adjacency if self.aggregates(depth) else None)  # (N, F)
        return x  # (N, C)

    def aggregates(self, depth: int) -> bool:
        """Return whether the layer at this depth, from 0, sums over neighbors."""
        return depth == 0 or self.config.aggregate == "every"


class GCN(GCNLayers):
    """The network of Kipf and Welling, and by options the two other forms with the same name.

    Shapes: x (N, in_channels), edge_index (2, E) [, edge_weight (E,)] -> scores (N, num_classes).
    """

    def __init__(self, config: GCNConfig) -> None:
        super().__init__(config)
        self._cache = AdjacencyCache()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        edges = self._edges(x, edge_index, edge_weight)
        drops = self.training and self.config.dropout > 0
        convs = [conv for conv in self.convs if type(conv) is GCNConv]
        if not drops and len(convs) == len(self.convs) and may_overwrite(x, convs):
            rows = edges.compress(x)
            if rows is not None:
                matrices = [rows if self.aggregates(depth) else None for depth in range(len(convs))]
                return scores_in_two_buffers(x, convs, matrices)
        return self.scores(x, edges)

    def _edges(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> EdgeList:
        """Return the graph, normalized once for all layers."""
        form = normalize_edges if self.config.normalization == "symmetric" else bare_edges
        learned = edge_weight is not None and edge_weight.requires_grad
        if not self.config.cached or learned or torch.compiler.is_compiling():
            return form(edge_index, edge_weight, x)
        key = (edge_index, edge_weight, x.shape[0], x.dtype)
        edges = self._cache.get(*key)
        if edges is None:
            # A tensor made in inference mode can't be used in training, which may come next.
            with torch.inference_mode(False), torch.no_grad():
                edges = form(edge_index, edge_weight, x)
                edges.compress(x)
            self._cache.put(edges, *key)
        return edges


class DenseGCN(GCNLayers):
    """The same network for a graph given as a dense matrix.

    Shapes: x (N, in_channels), adjacency (N, N) -> scores (N, num_classes).
    """

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        normalized = self.config.normalization == "symmetric"
        return self.scores(x, normalize_matrix(adjacency) if normalized else adjacency)


def gcn(config: GCNConfig) -> GCNLayers:
    """Return the network for the form in which the graph is given."""
    return DenseGCN(config) if config.adjacency == "dense" else GCN(config)
