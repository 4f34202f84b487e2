"""Deep Sets: a function of a set is a sum over its elements between two networks.

Zaheer, Kottur, Ravanbakhsh, Poczos, Salakhutdinov and Smola 2017, "Deep Sets",
https://arxiv.org/abs/1703.06114.

    f(X) = ρ(pool_i φ(x_i))               invariant: the order of X doesn't matter (theorem 2)
    h_i ← σ(Γ h_i - Λ pool_j h_j)         equivariant: outputs follow the order (lemma 3)

The sum may be a mean or a maximum. By `mixing`, the layers of φ are the equivariant ones, so that an element
knows of the others before they are pooled; with Λ = Γ they are σ(Γ (h_i - pool_j h_j)). Names are those of
the authors' code (`phi`, `ro`, `Gamma`, `Lambda`). Symbols: B batch, N elements, F features.
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from nnkit_sets.configs import DeepSetsConfig

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU, "tanh": nn.Tanh}


def pool(x: Tensor, mask: Tensor | None, pooling: str) -> Tensor:
    """Return one vector for each set: (B, N, F), mask (B, N) → (B, F). An empty set gives zeros."""
    if mask is None:
        return x.amax(1) if pooling == "max" else x.mean(1) if pooling == "mean" else x.sum(1)
    padding = ~mask[:, :, None]  # (B, N, 1)
    if pooling == "max":
        highest = x.masked_fill(padding, float("-inf")).amax(1)
        return highest.masked_fill(padding.all(1), 0)
    total = x.masked_fill(padding, 0).sum(1)
    if pooling == "sum":
        return total
    return total / mask.sum(1, keepdim=True).clamp(min=1)  # divided by (B, 1), the size of each set


class PermEqui(nn.Module):
    """An equivariant layer before its activation: (B, N, in_features) → (B, N, out_features)."""

    def __init__(self, in_features: int, out_features: int, mixing: str) -> None:
        super().__init__()
        self.pooling = mixing.removesuffix("1")
        self.Gamma = nn.Linear(in_features, out_features)
        self.Lambda = None if mixing.endswith("1") else nn.Linear(in_features, out_features, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return Γ x_i - Λ pool_j x_j for each element."""
        pooled = pool(x, mask, self.pooling)[:, None]  # (B, 1, in_features)
        if self.Lambda is None:
            return self.Gamma(x - pooled)
        return self.Gamma(x) - self.Lambda(pooled)


class DeepSets(nn.Module):
    """φ on the elements, pooling, and ρ on the set.

    Shapes: x (B, N, in_features) [, mask (B, N), True at elements] → (B, num_outputs); without
    pooling (B, N, num_outputs).
    """

    def __init__(self, config: DeepSetsConfig) -> None:
        super().__init__()
        self.pooling = config.pooling
        activation = ACTIVATIONS[config.activation]
        phi: list[nn.Module] = []
        for before, after in pairwise([config.in_features, *config.phi_sizes]):
            alone = config.mixing == "none"
            layer = nn.Linear(before, after) if alone else PermEqui(before, after, config.mixing)
            phi += [layer, activation()]
        ro: list[nn.Module] = []
        for before, after in pairwise([config.phi_sizes[-1], *config.rho_sizes, config.num_outputs]):
            dropout = [nn.Dropout(config.dropout)] if config.dropout > 0 else []
            ro += [*dropout, nn.Linear(before, after), activation()]
        self.phi = nn.ModuleList(phi)
        self.ro = nn.Sequential(*ro[:-1])  # no activation after the last layer

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return ρ of what is pooled, or of each element."""
        for layer in self.phi:
            x = layer(x, mask) if isinstance(layer, PermEqui) else layer(x)  # (B, N, units)
        if self.pooling != "none":
            x = pool(x, mask, self.pooling)  # (B, units)
        outputs: Tensor = self.ro(x)  # (B, num_outputs), or (B, N, num_outputs)
        return outputs
