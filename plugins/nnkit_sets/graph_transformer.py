"""Graph Transformer: attention as in a Transformer, from each node to its neighbors.

Shi, Huang, Feng, Zhong, Wang and Sun 2020, "Masked Label Prediction: Unified Message Passing Model for
Semi-Supervised Classification", https://arxiv.org/abs/2009.03509, section 3.1.

    q_t = W_q h_t + b_q,   k_s = W_k h_s + b_k,   v_s = W_v h_s + b_v,   e_st = W_e (features of edge s -> t)
    α_st = softmax over s of q_t · (k_s + e_st) / √D                          for each edge s -> t
    m_t  = Σ_s α_st (v_s + e_st)                                              heads side by side
    r_t  = W_r h_t + b_r
    β_t  = sigmoid(w · [m_t ; r_t ; m_t - r_t])                               how much of it stays as it was
    h'_t = relu(layer_norm(β_t r_t + (1 - β_t) m_t))

The last layer averages its heads and has neither layer norm nor ReLU. Keys and initial values are those of
PyG's TransformerConv. Symbols: N nodes, E directed edges, H heads, D features of a head, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_graph.gat import edge_softmax
from nnkit_sets.configs import GraphTransformerConfig


class TransformerConv(nn.Module):
    """One layer of attention, before norm and activation.

    Shapes: x (N, in_channels), edge_index (2, E) [, edge_attr (E, edge_dim)] -> (N, H * D), or (N, D) if its
    heads are averaged. Keys as in `torch_geometric.nn.TransformerConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        beta: bool = False,
        dropout: float = 0.0,
        edge_dim: int = 0,
    ) -> None:
        super().__init__()
        self.heads, self.concat, self.dropout = heads, concat, dropout
        width = heads * out_channels
        leaving = width if concat else out_channels
        self.lin_key = nn.Linear(in_channels, width)
        self.lin_query = nn.Linear(in_channels, width)
        self.lin_value = nn.Linear(in_channels, width)
        self.lin_edge = nn.Linear(edge_dim, width, bias=False) if edge_dim else None
        self.lin_skip = nn.Linear(in_channels, leaving)
        self.lin_beta = nn.Linear(3 * leaving, 1, bias=False) if beta else None

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """Return what each node gathers over the edges into it, with its own features."""
        source, target = edge_index  # (E,) each
        query, key, value = (
            layer(x).unflatten(1, (self.heads, -1))  # (N, H, D)
            for layer in (self.lin_query, self.lin_key, self.lin_value)
        )
        # On the CPU, index_select takes half the time of key[source].
        keys, values = key.index_select(0, source), value.index_select(0, source)  # (E, H, D)
        if self.lin_edge is not None:
            edges = self.lin_edge(edge_attr).unflatten(1, (self.heads, -1))  # (E, H, D)
            keys, values = keys + edges, values + edges
        scores = (query.index_select(0, target) * keys).sum(-1) * query.shape[2] ** -0.5  # (E, H)
        attention = edge_softmax(scores, target, x.shape[0])
        attention = F.dropout(attention, self.dropout, self.training)
        messages = values * attention[:, :, None]  # (E, H, D)
        mixed = messages.new_zeros(value.shape).index_add(0, target, messages).to(x.dtype)  # (N, H, D)
        mixed = mixed.flatten(1) if self.concat else mixed.mean(1)  # (N, H * D) or (N, D)

        own = self.lin_skip(x)
        if self.lin_beta is None:
            return mixed + own
        beta = self.lin_beta(torch.cat([mixed, own, mixed - own], dim=1)).sigmoid()  # (N, 1)
        return beta * own + (1 - beta) * mixed


class GraphTransformer(nn.Module):
    """Layers of attention, then a score for each class.

    Shapes: x (N, in_channels), edge_index (2, E) [, edge_attr (E, edge_dim)] -> scores (N, num_classes).
    """

    def __init__(self, config: GraphTransformerConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        inner = config.num_layers - 1
        sizes = [config.in_channels, *[config.hidden_channels] * inner]  # before each layer
        self.convs = nn.ModuleList(
            TransformerConv(
                size,
                config.hidden_channels // config.heads if depth < inner else config.num_classes,
                config.heads,
                concat=depth < inner,
                beta=config.beta,
                dropout=config.dropout,
                edge_dim=config.edge_dim,
            )
            for depth, size in enumerate(sizes)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.hidden_channels) for _ in range(inner))

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        """Return the class scores (logits) of each node."""
        *convs, last = self.convs
        for conv, norm in zip(convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, edge_index, edge_attr)))  # (N, hidden_channels)
            x = F.dropout(x, self.dropout, self.training)
        scores: Tensor = last(x, edge_index, edge_attr)  # (N, C)
        return scores
