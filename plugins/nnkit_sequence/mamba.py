"""Mamba: a language model whose layers are state spaces that choose what to remember.

Gu, Dao: Mamba: Linear-Time Sequence Modeling with Selective State Spaces. 2023, https://arxiv.org/abs/2312.00752

A layer reads its input u_t channel by channel into a state h_t of N numbers per channel, and reads it out:

    Δ_t, B_t, C_t = functions of u_t                        what makes it selective
    h_t = exp(Δ_t A) ⊙ h_{t-1} + Δ_t B_t u_t                A negative, so that exp(Δ_t A) is from 0 to 1
    y_t = C_t h_t + D u_t

Where Δ_t is near 0 the state stays as it is, and the token is passed over; where it is large the state is
forgotten, and the token takes its place. Around it, with x the sum of all layers before:

    u, z = W_in RMSNorm(x);   u = silu(conv(u));   x = x + W_out (y(u) ⊙ silu(z));   scores = E RMSNorm(x)

The letters A, B, C, D and Δ (here `delta`) are the paper's. Axes: b batch, t time, d width, e channels
(`expand` times d), n numbers of the state per channel, r rank of Δ, l layers, p steps of a piece.
"""

import math
from collections.abc import Callable, MutableMapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from nnkit_sequence.configs import MambaConfig

Within: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From decay, inflow (b, p, n, e) and h_0 (b, n, e) to the p states h_t = decay_t ⊙ h_{t-1} + inflow_t."""

PIECE = 8
"""Steps that the loop prepares at once: few enough that their states stay in the cache."""


class Prediction(NamedTuple):
    """Scores (b, t, vocabulary) of each next token, and what is kept: (l, b, e, k-1), (l, b, n, e)."""

    scores: Tensor
    next_conv_state: Tensor
    next_ssm_state: Tensor


def step_by_step(decay: Tensor, inflow: Tensor, h: Tensor) -> Tensor:
    """Take the steps one after the other."""
    states = []
    # Unbound once, because indexing in each step would make backward quadratic.
    for decay_t, inflow_t in zip(decay.unbind(1), inflow.unbind(1), strict=True):
        h = torch.addcmul(inflow_t, decay_t, h)
        states.append(h)
    return torch.stack(states, 1)


def all_at_once(decay: Tensor, inflow: Tensor, h: Tensor) -> Tensor:
    """Take p steps in log2(p) rounds, each of which joins every step with those before it.

    Two steps in a row are one: its decay is the product of both decays, its inflow the second's plus what
    the second leaves of the first's. After the round with gap 1, entry t does the work of steps t-1 and t;
    after gap 2, of steps t-3 to t; in the end, of all steps from the first to t. Only products of decays
    appear, and they are from 0 to 1: nothing overflows, as quotients of them would.
    """
    gap = 1
    while gap < decay.shape[1]:
        later = decay[:, gap:]
        inflow = torch.cat((inflow[:, :gap], torch.addcmul(inflow[:, gap:], later, inflow[:, :-gap])), 1)
        decay = torch.cat((decay[:, :gap], later * decay[:, :-gap]), 1)
        gap *= 2
    return torch.addcmul(inflow, decay, h[:, None])


def selective_scan(
    delta: Tensor, A: Tensor, B: Tensor, C: Tensor, u: Tensor, h: Tensor, within: Within, length: int
) -> tuple[Tensor, Tensor]:
    """Return C_t h_t of all steps (b, t, e), and the last h (b, n, e).

    delta, u: (b, t, e). A: (n, e). B, C: (b, t, n). h: (b, n, e), the state before. The steps are taken in
    pieces of `length`, each by `within`. Channels are the last axis, since n is too short to be a fast one.
    """

    def piece(h: Tensor, delta: Tensor, delta_u: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        decay = torch.exp(delta[:, :, None] * A)  # (b, p, n, e)
        inflow = B[..., None] * delta_u[:, :, None]  # (b, p, n, e)
        states = within(decay, inflow, h)  # (b, p, n, e)
        y = C[:, :, None] @ states  # (b, p, 1, e)
        return states[:, -1], y[:, :, 0]

    # In half precision too the state is of float32, because it sums over all steps.
    wide = torch.float64 if u.dtype == torch.float64 else torch.float32
    A, h = A.to(wide), h.to(wide)
    steps = tuple(each.to(wide) for each in (delta, delta * u, B, C))
    if torch.compiler.is_exporting():
        y, h = exported_loop(piece, h, steps, 1 if within is step_by_step else length)
    else:
        outputs = []
        for inputs in zip(*(each.split(length, 1) for each in steps), strict=True):
            h, y = piece(h, *inputs)
            outputs.append(y)
        y = torch.cat(outputs, 1)
    return y.to(u.dtype), h.to(u.dtype)


def exported_loop(
    piece: Callable[..., tuple[Tensor, Tensor]], h: Tensor, steps: Sequence[Tensor], length: int
) -> tuple[Tensor, Tensor]:
    """Do the same in a form that exports with any number of steps, and is too slow to be used elsewhere.

    An export would unroll the loop above, and the file would only work for the length it was traced at. The
    last pieces are filled up with steps whose delta is 0: their decay is 1 and their inflow 0, so that the
    state stays as it is.
    """
    batch, time, channels = steps[0].shape
    # A further piece, because torch would take a number of pieces of 1 for a constant.
    count = time if length == 1 else (time + length - 1) // length + 1
    pieces = []
    for each in steps:
        padded = F.pad(each, (0, 0, 0, count * length - time))  # (b, count p, ·)
        pieces.append(padded.view(batch, count, length, each.shape[2]).transpose(0, 1))  # (count, b, p, ·)

    def step(h: Tensor, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        h, y = piece(h, *inputs)
        return owned(h), owned(y)

    h, y = scan(step, owned(h), [owned(each) for each in pieces])
    y = y.transpose(0, 1).reshape(batch, count * length, channels)
    return owned(y.narrow(1, 0, time)), h  # [:, :time] would be exported for full pieces only


def owned(tensor: Tensor) -> Tensor:
    """Return a copy whose strides follow from its shape alone: a scan takes and returns no views."""
    return tensor.clone(memory_format=torch.contiguous_format)


class Mixer(nn.Module):
    """The selective state space: x (b, t, d), what was kept of the steps before -> (b, t, d), what to keep.

    mask: (b, t, 1), 0 at padding, whose values are never read.
    """

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        width, channels, states = config.hidden_size, config.expand * config.hidden_size, config.state_size
        rank = config.time_step_rank or math.ceil(width / 16)
        self.sizes = (rank, states, states)  # of delta, B and C
        self.within, self.length = {
            "loop": (step_by_step, PIECE),
            "chunked": (all_at_once, config.chunk_size),
        }[config.scan]
        self.in_proj = nn.Linear(width, 2 * channels, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, config.conv_kernel, groups=channels)
        self.x_proj = nn.Linear(channels, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(channels, 1))  # (e, n)
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, width, bias=False)
        self._initialize(config)

    def _initialize(self, config: MambaConfig) -> None:
        """Draw what isn't drawn as torch does: delta from 0.001 to 0.1, and a sum of layers of variance 1."""
        rank = self.sizes[0]
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():
            delta = torch.empty_like(self.dt_proj.bias).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            self.dt_proj.bias.copy_(delta.expm1().log())  # the inverse of softplus
            self.out_proj.weight.div_(math.sqrt(config.num_hidden_layers))

    def forward(
        self, x: Tensor, mask: Tensor | None, conv_state: Tensor, ssm_state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        u, z = self.in_proj(x if mask is None else x * mask).chunk(2, dim=-1)  # (b, t, e) each
        window = torch.cat((conv_state, u.transpose(1, 2)), dim=2)  # (b, e, k-1 + t)
        u = F.silu(self.conv1d(window)).transpose(1, 2)  # (b, t, e)
        if mask is not None:
            u = u * mask
        delta, B, C = self.x_proj(u).split(self.sizes, dim=-1)  # (b, t, r), (b, t, n), (b, t, n)
        delta = F.softplus(self.dt_proj(delta))  # (b, t, e)
        A = -torch.exp(self.A_log).t()  # (n, e)
        y, ssm_state = selective_scan(delta, A, B, C, u, ssm_state, self.within, self.length)
        y = (y + self.D * u) * F.silu(z)
        return self.out_proj(y), window[:, :, x.shape[1] :], ssm_state


class Block(nn.Module):
    """A layer: x (b, t, d), what was kept -> x (b, t, d), what to keep."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-5)
        self.mixer = Mixer(config)

    def forward(
        self, x: Tensor, mask: Tensor | None, conv_state: Tensor, ssm_state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        change, conv_state, ssm_state = self.mixer(self.norm(x), mask, conv_state, ssm_state)
        return x + change, conv_state, ssm_state


class Backbone(nn.Module):
    """All layers: tokens (b, t), mask (b, t), what was kept -> x (b, t, d), what to keep; see `Mamba`."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm_f = nn.RMSNorm(config.hidden_size, eps=1e-5)
        nn.init.normal_(self.embeddings.weight, std=0.02)
        self.channels = config.expand * config.hidden_size
        self.states, self.kept_inputs = config.state_size, config.conv_kernel - 1

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        conv_state: Tensor | None = None,
        ssm_state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = self.embeddings(tokens)  # (b, t, d)
        layers, batch = len(self.layers), tokens.shape[0]
        if mask is not None:
            mask = mask[:, :, None].to(x.dtype)  # (b, t, 1)
        if conv_state is None:
            conv_state = x.new_zeros(layers, batch, self.channels, self.kept_inputs)
        if ssm_state is None:
            ssm_state = x.new_zeros(layers, batch, self.states, self.channels)
        kept = []
        for layer, *before in zip(self.layers, conv_state.unbind(0), ssm_state.unbind(0), strict=True):
            x, *after = layer(x, mask, *before)
            kept.append(after)
        conv_state, ssm_state = (torch.stack(parts) for parts in zip(*kept, strict=True))
        return self.norm_f(x), conv_state, ssm_state


class Mamba(nn.Module):
    """tokens (b, t) [, mask (b, t), what was kept of the tokens before] -> `Prediction`.

    mask: False at padding. conv_state (l, b, e, k-1), ssm_state (l, b, n, e): the last k - 1 inputs of each
    convolution and the last h, as the call before returned them. Without them, nothing came before.
    """

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.lm_head.weight = self.backbone.embeddings.weight
        self.register_load_state_dict_pre_hook(accept_published_names)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        conv_state: Tensor | None = None,
        ssm_state: Tensor | None = None,
    ) -> Prediction:
        x, conv_state, ssm_state = self.backbone(tokens, mask, conv_state, ssm_state)
        return Prediction(self.lm_head(x), conv_state, ssm_state)


def accept_published_names(
    _network: nn.Module, state: MutableMapping[str, Tensor], prefix: str, *_: object
) -> None:
    """Rename what is named otherwise in the authors' files (`embedding`), and in those of a MambaModel.

    The latter is the backbone. It has no head, nor needs one: the head is the embedding.
    """
    for name in [name for name in state if name.startswith(prefix)]:
        own = name.removeprefix(prefix).replace("embedding.", "embeddings.")
        if own.startswith(("embeddings.", "layers.", "norm_f.")):
            own = f"backbone.{own}"
        state[prefix + own] = state.pop(name)
