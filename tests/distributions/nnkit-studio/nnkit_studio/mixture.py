"""Mixture of experts: a gate sends each token to a few of many feed-forward networks.

Shazeer et al.: Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer. ICLR 2017,
https://arxiv.org/abs/1701.06538

    h = x W_g + ε ⊙ softplus(x W_n),  ε ~ N(0, I) in training;    G = softmax(the k largest of h)
    y = x + Σᵢ Gᵢ W₂ᵢ relu(W₁ᵢ norm(x));    loss = CV(Σ_tokens G)², so that no expert is idle

B batch, T time, D width, E experts, K experts of a token, H units of an expert.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_studio.configs import MixtureConfig


class Gate(nn.Module):
    """x (B, T, D) -> the weights and the indices of its experts, (B, T, K) each."""

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__()
        self.chosen = config.chosen
        self.scores = nn.Linear(config.width, config.experts, bias=False)
        self.noise = nn.Linear(config.width, config.experts, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scores(x)  # (B, T, E)
        if self.training:
            scores = scores + torch.randn_like(scores) * F.softplus(self.noise(x))
        best, experts = scores.topk(self.chosen, dim=-1)
        return best.softmax(dim=-1), experts


class Mixture(nn.Module):
    """A layer of experts: x (B, T, D) -> (B, T, D), and how much each expert was used (B, T, E)."""

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__()
        experts, width, hidden = config.experts, config.width, config.hidden
        self.norm = nn.LayerNorm(width)
        self.gate = Gate(config)
        self.inner = nn.Parameter(torch.randn(experts, hidden, width) * width**-0.5)
        self.outer = nn.Parameter(torch.randn(experts, width, hidden) * hidden**-0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        normed = self.norm(x)
        weights, experts = self.gate(normed)  # (B, T, K)
        inner, outer = self.inner[experts], self.outer[experts]  # (B, T, K, H, D), (B, T, K, D, H)
        h = torch.relu(torch.einsum("btkhd,btd->btkh", inner, normed))
        y = torch.einsum("btkdh,btkh,btk->btd", outer, h, weights)
        idle = weights.new_zeros(*x.shape[:2], len(self.inner))  # (B, T, E)
        use = idle.scatter(-1, experts, weights)
        return x + y, use


class MixtureOfExperts(nn.Module):
    """x (B, T, D), mask (B, T), True at real tokens -> (B, T, D), and the loss that balances the experts ()."""

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Mixture(config) for _ in range(config.layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        loss = x.new_zeros(())
        for layer in self.layers:
            x, use = layer(x)
            if mask is not None:
                use = use * mask[..., None]
            loss = loss + imbalance(use.sum(dim=(0, 1)))
        return x, loss


def imbalance(load: Tensor) -> Tensor:
    """Return the squared coefficient of variation of the load (E,) of experts: 0 where all are used alike."""
    return load.var(correction=0) / (load.mean() ** 2 + 1e-6)
