"""Set Transformer: elements of a set attend to each other, and seeds pool them by attention.

Lee, Lee, Kim, Kosiorek, Choi and Teh 2019, "Set Transformer: A Framework for Attention-based
Permutation-Invariant Neural Networks", https://arxiv.org/abs/1810.00825.

    MAB(X, Y)  = O + relu(W_o O + b_o),   O = Q + attention(Q, K, V)        Q of X, K and V of Y
    SAB(X)     = MAB(X, X)                       each element attends to all: N² pairs
    ISAB(X)    = MAB(X, MAB(I, X))               through M inducing points I, which are learned: 2 N M pairs
    PMA_k(X)   = MAB(S, X)                       k seeds S, which are learned, each gather what concerns them
    f(X)       = W SAB(SAB(PMA_k(ISAB(ISAB(X))))) + b

Each O may be followed by a layer norm. attention has H heads, each softmax(Q_h K_hᵀ / √D) V_h where D is the
width of all heads together. Names are those of the authors' code. Symbols: B batch, N elements, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_sets.configs import SetTransformerConfig


class MAB(nn.Module):
    """Multi-head attention block: queries (B or 1, M, dim_q), keys (B, N, dim_k) → (B, M, dim)."""

    def __init__(self, dim_q: int, dim_k: int, dim: int, heads: int, layer_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.scale = dim**-0.5  # of the whole width, as in the paper and the authors' code
        self.fc_q = nn.Linear(dim_q, dim)
        self.fc_k = nn.Linear(dim_k, dim)
        self.fc_v = nn.Linear(dim_k, dim)
        self.ln0 = nn.LayerNorm(dim) if layer_norm else None
        self.ln1 = nn.LayerNorm(dim) if layer_norm else None
        self.fc_o = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return what each query makes of the keys; those where mask (B, N) is False are left out."""
        q = self.fc_q(queries).expand(keys.shape[0], -1, -1)  # (B, M, D); learned ones have no batch
        q, k, v = (self.split(each) for each in (q, self.fc_k(keys), self.fc_v(keys)))
        kept = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, N)
        o = q + F.scaled_dot_product_attention(q, k, v, kept, scale=self.scale)  # (B, H, M, D / H)
        o = o.transpose(1, 2).flatten(2)  # (B, M, D)
        o = o if self.ln0 is None else self.ln0(o)
        o = o + F.relu(self.fc_o(o))
        return o if self.ln1 is None else self.ln1(o)

    def split(self, x: Tensor) -> Tensor:
        """Give each head its features: (B, M, D) → (B, H, M, D / H)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class SAB(nn.Module):
    """Set attention block: (B, N, dim_in) → (B, N, dim)."""

    def __init__(self, dim_in: int, dim: int, config: SetTransformerConfig) -> None:
        super().__init__()
        self.mab = MAB(dim_in, dim_in, dim, config.heads, config.layer_norm)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return each element after it has attended to all."""
        result: Tensor = self.mab(x, x, mask)
        return result


class ISAB(nn.Module):
    """Induced set attention block: (B, N, dim_in) → (B, N, dim)."""

    def __init__(self, dim_in: int, dim: int, config: SetTransformerConfig) -> None:
        super().__init__()
        self.I = nn.Parameter(torch.empty(1, config.num_inds, dim))
        nn.init.xavier_uniform_(self.I)
        self.mab0 = MAB(dim, dim_in, dim, config.heads, config.layer_norm)
        self.mab1 = MAB(dim_in, dim, dim, config.heads, config.layer_norm)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return each element after it has attended to the summary that the inducing points make."""
        h = self.mab0(self.I, x, mask)  # (B, num_inds, dim)
        result: Tensor = self.mab1(x, h)  # (B, N, dim); no inducing point is padding
        return result


class PMA(nn.Module):
    """Pooling by multi-head attention: (B, N, dim) → (B, num_outputs, dim)."""

    def __init__(self, dim: int, config: SetTransformerConfig) -> None:
        super().__init__()
        self.S = nn.Parameter(torch.empty(1, config.num_outputs, dim))
        nn.init.xavier_uniform_(self.S)
        self.mab = MAB(dim, dim, dim, config.heads, config.layer_norm)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return what each seed gathers."""
        result: Tensor = self.mab(self.S, x, mask)
        return result


class SetTransformer(nn.Module):
    """The network of Lee et al.

    Shapes: x (B, N, in_features) [, mask (B, N), True at elements] → (B, num_outputs, out_features).
    """

    def __init__(self, config: SetTransformerConfig) -> None:
        super().__init__()
        dim = config.hidden_features
        block = ISAB if config.encoder == "isab" else SAB
        widths = [config.in_features, *[dim] * (config.encoder_blocks - 1)]  # before each block
        self.enc = nn.ModuleList(block(width, dim, config) for width in widths)
        self.dec = nn.Sequential(
            PMA(dim, config),
            *(SAB(dim, dim, config) for _ in range(config.decoder_blocks)),
            nn.Linear(dim, config.out_features),
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the vectors that the set is pooled to."""
        for block in self.enc:
            x = block(x, mask)  # (B, N, D)
        pma, *rest = self.dec
        x = pma(x, mask)  # (B, num_outputs, D)
        for layer in rest:
            x = layer(x)  # (B, num_outputs, D), after the last (B, num_outputs, out_features)
        return x
