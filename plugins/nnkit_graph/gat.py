"""Graph attention network: a node weighs its neighbors by how well they match it.

Veličković, Cucurull, Casanova, Romero, Liò, Bengio: Graph Attention Networks. ICLR 2018,
https://arxiv.org/abs/1710.10903

    e_ts = leaky_relu(a_dst · W h_t + a_src · W h_s)     for each edge s -> t, and for s = t
    α_ts = softmax of e_ts over s
    h'_t = elu(Σ_s α_ts W h_s + b)                       heads side by side; no elu after the last layer

Keys and initial values are those of PyG's GATConv. Each node attends to itself once, which
replaces any self-loop of the graph. Symbols: N nodes, E directed edges, H heads, D features of a head,
C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_graph.adjacency import dtype_of_sums
from nnkit_graph.configs import GATConfig


def edge_softmax(scores: Tensor, target: Tensor, num_nodes: int) -> Tensor:
    """Return the softmax of scores (E, H) over the edges into each target (E,), never in half precision."""
    scores = scores.to(dtype_of_sums(scores.dtype))
    index = target[:, None].expand_as(scores)  # (E, H)
    # The maximum only keeps exp in range; it cancels, so no gradient goes through it.
    lowest = scores.new_full((num_nodes, scores.shape[1]), float("-inf"))
    highest = lowest.scatter_reduce(0, index, scores.detach(), "amax")  # (N, H)
    weight = (scores - highest.index_select(0, target)).exp()  # (E, H)
    total = torch.zeros_like(lowest).index_add(0, target, weight)  # (N, H)
    return weight / total.index_select(0, target)


class GATConv(nn.Module):
    """One layer of attention; its heads stand side by side.

    Shapes: x (N, in_channels), edge_index (2, E) -> (N, heads * out_channels). Keys as in
    `torch_geometric.nn.GATConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 1,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.out_channels = heads, out_channels
        self.negative_slope, self.dropout = negative_slope, dropout
        self.lin = nn.Linear(in_channels, heads * out_channels, bias=False)
        self.att_src = nn.Parameter(torch.empty(1, heads, out_channels))
        self.att_dst = nn.Parameter(torch.empty(1, heads, out_channels))
        self.bias = nn.Parameter(torch.empty(heads * out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.lin.weight)
        bound = (6 / (self.heads + self.out_channels)) ** 0.5
        nn.init.uniform_(self.att_src, -bound, bound)
        nn.init.uniform_(self.att_dst, -bound, bound)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        num_nodes = x.shape[0]
        h = self.lin(x).view(num_nodes, self.heads, self.out_channels)  # (N, H, D)
        from_source = (h * self.att_src).sum(-1)  # (N, H)
        from_target = (h * self.att_dst).sum(-1)  # (N, H)

        is_loop = edge_index[0] == edge_index[1]  # (E,)
        nodes = torch.arange(num_nodes, device=x.device)
        source, target = torch.cat([edge_index, torch.stack([nodes, nodes])], dim=1)  # (E + N,) each
        dropped = torch.cat([is_loop, torch.zeros_like(nodes, dtype=torch.bool)])  # (E + N,)

        scores = F.leaky_relu(from_source[source] + from_target[target], self.negative_slope)  # (E + N, H)
        scores = scores.masked_fill(dropped[:, None], float("-inf"))
        attention = edge_softmax(scores, target, num_nodes)
        attention = F.dropout(attention, self.dropout, self.training)
        messages = h[source] * attention[:, :, None]  # (E + N, H, D)
        mixed = messages.new_zeros(h.shape).index_add(0, target, messages)  # (N, H, D)
        result: Tensor = mixed.to(h.dtype).flatten(1) + self.bias
        return result  # (N, H * D)


class GAT(nn.Module):
    """The network of Veličković et al.: several heads in every layer but the last.

    Shapes: x (N, in_channels), edge_index (2, E) -> scores (N, num_classes).
    """

    def __init__(self, config: GATConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        width = config.heads * config.hidden_channels
        sizes = [config.in_channels, *[width] * (config.num_layers - 1)]  # before each layer
        inner = [(config.hidden_channels, config.heads)] * (config.num_layers - 1)
        self.convs = nn.ModuleList(
            GATConv(size, channels, heads, config.negative_slope, config.dropout)
            for size, (channels, heads) in zip(sizes, [*inner, (config.num_classes, 1)], strict=True)
        )

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        for depth, conv in enumerate(self.convs):
            if depth > 0:
                x = F.elu(x)
            x = F.dropout(x, self.dropout, self.training)
            x = conv(x, edge_index)  # (N, H * D)
        return x  # (N, C)
