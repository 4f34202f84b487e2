"""GraphSAGE: a node's own features and the mean of its neighbors', each through a linear layer.

Hamilton, Ying, Leskovec: Inductive Representation Learning on Large Graphs. NeurIPS 2017,
https://arxiv.org/abs/1706.02216, with the mean aggregator.

    h'_t = relu(W_l · mean of h_s over the edges s -> t + b + W_r h_t)    no relu after the last layer

Keys and initial values are those of PyG's GraphSAGE. Symbols: N nodes, E directed edges, F features,
C classes.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_graph.adjacency import Adjacency, mean_edges
from nnkit_graph.configs import GraphSAGEConfig


class SAGEConv(nn.Module):
    """One layer, with the averaging matrix given.

    Shapes: x (N, in_channels) -> (N, out_channels). Keys as in `torch_geometric.nn.SAGEConv`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin_l = nn.Linear(in_channels, out_channels)
        self.lin_r = nn.Linear(in_channels, out_channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # Drawn a second time, as PyG does, so that the same seed gives the same weights.
        self.lin_l.reset_parameters()
        self.lin_r.reset_parameters()

    def forward(self, x: Tensor, mean: Adjacency) -> Tensor:
        neighbors = mean @ x  # (N, in_channels)
        result: Tensor = self.lin_l(neighbors) + self.lin_r(x)  # (N, out_channels)
        return result


class GraphSAGE(nn.Module):
    """Layers of SAGEConv, then a score for each class.

    Shapes: x (N, in_channels), edge_index (2, E) -> scores (N, num_classes).
    """

    def __init__(self, config: GraphSAGEConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.convs = nn.ModuleList(
            SAGEConv(size, following) for size, following in pairwise(config.layer_sizes)
        )

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        mean = mean_edges(edge_index, None, x)
        for depth, conv in enumerate(self.convs):
            if depth > 0:
                x = F.dropout(F.relu(x), self.dropout, self.training)
            x = conv(x, mean)  # (N, F)
        return x  # (N, C)
