"""A mixture of experts: each token is sent to a few of many feed-forward networks, so that most rest.

Shazeer et al.: Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer. 2017,
https://arxiv.org/abs/1701.06538; capacity and loss as in Fedus, Zoph, Shazeer: Switch Transformers. 2021,
https://arxiv.org/abs/2101.03961; experts as in Jiang et al.: Mixtral of Experts. 2024,
https://arxiv.org/abs/2401.04088

    p = softmax(W_g x),   y = Σ_i w_i E_i(x) over the k experts of highest p_i,   w_i = p_i / Σ_j p_j of these
    E(x) = W_down (silu(W_gate x) ⊙ W_up x),   or   W_down relu(W_up x)
    loss = E Σ_i f_i P_i,   f_i the share of tokens that chose expert i, P_i the mean of p_i over all tokens

Left alone, a gate soon sends everything to a few experts: those that got the most tokens learn the most, and
are chosen more often. The loss is k where all are chosen alike. Only P has a gradient, weighted by f: it
lowers the p of experts that are chosen too often.

Axes: b batch, t time, d width, m = b t tokens, k experts of a token, e experts, h units of an expert.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnkit_sequence.configs import MoEConfig

NOBODY = -1
"""What stands in place of an expert for a token that found its seats taken."""


class Mixture(NamedTuple):
    """What the layer returns: y (b, t, d), and the loss () to be added, times a hundredth or so."""

    y: Tensor
    loss: Tensor


class Gate(nn.Module):
    """x (b, t, d) -> the probability of each expert (b, t, e)."""

    def __init__(self, config: MoEConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.experts, config.hidden_size))
        draw(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight).softmax(dim=-1)


class Experts(nn.Module):
    """x (m, d), the experts of each token (m, k) and their weights (m, k) -> the weighted sums (m, d)."""

    def __init__(self, config: MoEConfig) -> None:
        super().__init__()
        experts, width, units = config.experts, config.hidden_size, config.intermediate_size
        self.gated = config.expert == "swiglu"
        rows = 2 * units if self.gated else units  # of W_gate and then of W_up, or of W_up
        self.gate_up_proj = nn.Parameter(torch.empty(experts, rows, width))
        self.down_proj = nn.Parameter(torch.empty(experts, width, units))
        draw(self.gate_up_proj)
        draw(self.down_proj)

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        if chosen.is_meta:  # no values: the shapes are those where all experts are chosen in turn
            chosen = torch.arange(chosen.numel()).view(chosen.shape) % len(self.gate_up_proj)
        y = torch.zeros_like(x)
        # Unbound once, because the backward of each up_proj[expert] would fill a tensor as large as all.
        for expert, (up, down) in enumerate(
            zip(self.gate_up_proj.unbind(0), self.down_proj.unbind(0), strict=True)
        ):
            # (c,) each: the c tokens that chose this one, and the place that it has among their choices
            token, choice = (index.to(x.device) for index in torch.where(chosen == expert))
            h = F.linear(x.index_select(0, token), up)  # (c, 2 h) or (c, h)
            if self.gated:
                gate, h = h.chunk(2, dim=-1)
                h = F.silu(gate) * h
            else:
                h = F.relu(h)
            output = F.linear(h, down) * weights[token, choice, None]  # (c, d)
            y.index_add_(0, token, output.to(y.dtype))
        return y


class MixtureOfExperts(nn.Module):
    """x (b, t, d) [, mask (b, t), False at padding] -> `Mixture`.

    Padding, and a token that got no seat at any of its experts, has y = 0. With the residual x + y around the
    layer, such a token goes on unchanged.
    """

    def __init__(self, config: MoEConfig) -> None:
        super().__init__()
        self.top_k, self.normalize = config.top_k, config.normalize
        self.capacity_factor = config.capacity_factor
        self.gate = Gate(config)
        self.experts = Experts(config)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Mixture:
        # (b, t), 1 at tokens and 0 at padding
        real = torch.ones_like(x[..., 0]) if mask is None else mask.to(x.dtype)
        probabilities = self.gate(x)  # (b, t, e)
        weights, chosen = probabilities.topk(self.top_k, dim=-1)  # (b, t, k)
        if self.normalize:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        experts = torch.arange(probabilities.shape[-1], device=x.device)  # (e,)
        uses = (chosen[..., None] == experts) * real[:, :, None, None]  # (b, t, k, e), 1 where it is chosen
        loss = imbalance(probabilities, uses.sum(dim=2), real)
        if mask is not None:
            chosen = chosen.masked_fill(~mask[:, :, None], NOBODY)
        if self.capacity_factor:
            chosen = chosen.masked_fill(~self.seated(uses, real), NOBODY)
        y = self.experts(x.flatten(0, 1), chosen.flatten(0, 1), weights.flatten(0, 1))  # (m, d)
        return Mixture(y.view_as(x), loss)

    def seated(self, uses: Tensor, real: Tensor) -> Tensor:
        """Return which of its choices each token gets (b, t, k).

        Each expert has as many seats for a sequence as it needs where all are used alike, times the factor,
        rounded up. Tokens are seated in their order in time.
        """
        before = uses.flatten(1, 2).cumsum(dim=1).view_as(uses) - uses  # (b, t, k, e): how many came before
        ahead = (before * uses).sum(dim=-1)  # (b, t, k): how many at the chosen expert
        seats = self.capacity_factor * self.top_k * real.sum(dim=1) / uses.shape[-1]  # (b,)
        return ahead < seats[:, None, None]


def draw(weight: Tensor) -> None:
    """Fill matrices with random numbers of a variance of 0.1 / inputs, a tenth of the usual, as in Switch."""
    nn.init.normal_(weight, std=(0.1 / weight.shape[-1]) ** 0.5)


def imbalance(probabilities: Tensor, uses: Tensor, real: Tensor) -> Tensor:
    """Return the loss () from the probabilities and uses (b, t, e) of the experts, where real (b, t) is 1."""
    tokens = real.sum().clamp(min=1)
    share = uses.sum(dim=(0, 1)) / tokens  # f (e,)
    mean = (probabilities * real[..., None]).sum(dim=(0, 1)) / tokens  # P (e,)
    return uses.shape[-1] * (share * mean).sum()
