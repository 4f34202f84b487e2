"""Pointer network: a recurrent decoder that outputs one of the input's elements in each step.

Vinyals, Fortunato, Jaitly: Pointer Networks. NeurIPS 2015, https://arxiv.org/abs/1506.03134

An LSTM reads the elements x_1 ... x_n; e_j is its output at element j. From its last state a second
LSTM starts, fed first with a learned vector and then with the element it has just pointed at. Its
state d_i is compared with every e_j by additive attention, and the attention itself is the answer:

    u_ij = v^T tanh(W_1 e_j + W_2 d_i)
    p(C_i = j | C_1, ..., C_{i-1}, x) = softmax_j(u_ij)

So the "vocabulary" is the input, however long it is, and a network trained on five elements can be
asked about ten. B is the batch, N the number of elements, T the steps, E the width of an element
as the LSTMs see it, M the width of e_j and d_i, A that of the attention.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_pointer.configs import PointerNetworkConfig

# The log-probability of an element that can't be chosen. Its exponential is 0 in every
# dtype; -inf would be too, but turns losses, entropies and comparisons into NaN.
IMPOSSIBLE = -1000.0

# Large enough that a sigmoid is 0 or 1 in any dtype, and still finite in float16.
SATURATING = 1e4

Tensors: TypeAlias = tuple[Tensor, ...]
Stepped: TypeAlias = tuple[Tensors, Tensors]  # what is carried on, and what is kept
Step: TypeAlias = Callable[[Tensors, Tensors], Stepped]


class AdditiveAttention(nn.Module):
    """Bahdanau's score of each key for a query: v^T tanh(W1 e_j + W2 d), no biases."""

    def __init__(self, key_size: int, query_size: int, hidden_size: int) -> None:
        super().__init__()
        self.W1 = nn.Linear(key_size, hidden_size, bias=False)
        self.W2 = nn.Linear(query_size, hidden_size, bias=False)
        self.v = nn.Linear(hidden_size, 1, bias=False)

    def project(self, keys: Tensor) -> Tensor:
        """Return W1 e_j for keys (B, N, M): the part that all queries share, (B, N, A)."""
        projected: Tensor = self.W1(keys)
        return projected

    def forward(self, projected_keys: Tensor, query: Tensor) -> Tensor:
        """Return the scores (B, N) of projected keys (B, N, A) for a query (B, M)."""
        hidden = torch.tanh(projected_keys + self.W2(query).unsqueeze(1))  # (B, N, A)
        scores: Tensor = self.v(hidden).squeeze(2)
        return scores  # (B, N)


class PointerNetwork(nn.Module):
    """Encoder, decoder and attention; `decode` runs them. The subclasses define the inputs of `forward`."""

    def __init__(self, config: PointerNetworkConfig) -> None:
        super().__init__()
        self.mask_chosen = config.mask_chosen
        element_size = config.embedding_size or config.input_size
        memory_size = config.hidden_size * (2 if config.bidirectional else 1)
        self.embedding = (
            nn.Linear(config.input_size, element_size) if config.embedding_size else nn.Identity()
        )
        self.encoder = nn.LSTM(
            element_size,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
            bidirectional=config.bidirectional,
        )
        self.decoder = nn.LSTMCell(element_size, memory_size)
        self.attention = AdditiveAttention(memory_size, memory_size, config.hidden_size)
        self.start = nn.Parameter(torch.empty(element_size))
        bound = 1 / math.sqrt(config.hidden_size)  # as nn.LSTM draws its own
        nn.init.uniform_(self.start, -bound, bound)

    def decode(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        targets: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (B, T, N) and the indices (B, T) of the elements pointed at.

        x: elements (B, N, input_size). lengths: (B,), the number of real elements in each row.
        targets: (B, T), indices to feed back instead of the network's own choices. noise: (B, N, N),
        uniform on (0, 1), from which choices are sampled. With neither, the likeliest element is chosen.
        T equals N unless `targets` are given.

        In a row with fewer elements, the steps beyond its length point at the padding, each step at its
        own position, with probability 1. They add nothing to a loss, and targets there are ignored.
        """
        positions = torch.arange(x.shape[1], device=x.device)  # (N,)
        steps = positions if targets is None else torch.arange(targets.shape[1], device=x.device)  # (T,)
        available = torch.ones_like(x[..., 0], dtype=torch.bool)  # (B, N)
        if lengths is not None:
            available = positions < lengths.unsqueeze(1)
            x = x.masked_fill(
                ~available.unsqueeze(2), 0
            )  # whatever the padding contains, even NaN, has no effect
            if targets is not None:
                targets = torch.where(steps < lengths.unsqueeze(1), targets, steps)
        elements: Tensor = self.embedding(x)  # (B, N, E)
        memory, state = self._encode(elements, lengths)  # (B, N, M), (B, M) twice
        keys = self.attention.project(memory)  # (B, N, A)

        def step(carry: Tensors, given: Tensors) -> Stepped:
            element, hidden, cell, available = carry  # (B, E), (B, M), (B, M), (B, N)
            now, *guide = given
            hidden, cell = self.decoder(element, (hidden, cell))
            allowed = available if lengths is None else allowed_in_row(available, now, lengths)
            scores = self.attention(keys, hidden).masked_fill(~allowed, -math.inf)  # (B, N)
            log_probs = F.log_softmax(scores, dim=1).masked_fill(~allowed, IMPOSSIBLE)
            chosen = pick(scores, *guide) if targets is None else guide[0]  # (B,)
            if self.mask_chosen:
                available = available & (positions != chosen.unsqueeze(1))
            return (take(elements, chosen), hidden, cell, available), (log_probs, chosen)

        start = self.start.repeat(x.shape[0], 1)  # (B, E)
        guide = (tensor.transpose(0, 1) for tensor in (targets, noise) if tensor is not None)  # (T, B, ...)
        log_probs, indices = unroll(step, (start, *state, available), (steps, *guide))
        return log_probs.transpose(0, 1), indices.transpose(0, 1)  # (B, T, N), (B, T)

    def _encode(self, elements: Tensor, lengths: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return e_j for each element (B, N, M), and the decoder's first hidden and cell state (B, M)."""
        if lengths is not None:
            return encode_padded(self.encoder, elements, lengths)
        memory, (hidden, cell) = self.encoder(elements)
        directions = 2 if self.encoder.bidirectional else 1
        return memory, (_join(hidden[-directions:]), _join(cell[-directions:]))


class GreedyPointerNetwork(PointerNetwork):
    """Points at the likeliest element: (B, N, input_size) -> log-probabilities (B, N, N), indices (B, N)."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.decode(x, lengths)


class SampledPointerNetwork(PointerNetwork):
    """Points at an element drawn from the distribution with `noise` (B, N, N), uniform on (0, 1)."""

    def forward(self, x: Tensor, noise: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.decode(x, lengths, noise=noise)


class TeacherForcedPointerNetwork(PointerNetwork):
    """Continues from the elements in `targets` (B, T), whatever it would have pointed at: for training."""

    def forward(self, x: Tensor, targets: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.decode(x, lengths, targets)


DECODINGS: Mapping[str, type[PointerNetwork]] = {
    "greedy": GreedyPointerNetwork,
    "sampled": SampledPointerNetwork,
    "teacher-forced": TeacherForcedPointerNetwork,
}


def pointer_network(config: PointerNetworkConfig) -> PointerNetwork:
    """Return the network whose `forward` decodes as `config` says. All have the same weights."""
    return DECODINGS[config.decoding](config)


def pick(scores: Tensor, noise: Tensor | None = None) -> Tensor:
    """Return the index (B,) of the highest of the scores (B, N), or, given noise, of one drawn at random.

    Scores plus Gumbel noise, -log(-log(u)) of a uniform u, have their maximum where a draw from the
    softmax of the scores would fall.
    """
    if noise is not None:
        limits = torch.finfo(noise.dtype)
        scores = scores - torch.log(-torch.log(noise.clamp(limits.tiny, 1 - limits.eps)))
    return scores.argmax(dim=1)


def take(elements: Tensor, index: Tensor) -> Tensor:
    """Return from elements (B, N, E) the one that index (B,) names in each row: (B, E)."""
    index = index.view(-1, 1, 1).expand(-1, 1, elements.shape[2])  # (B, 1, E)
    return elements.gather(1, index).squeeze(1)


def allowed_in_row(available: Tensor, now: Tensor, lengths: Tensor) -> Tensor:
    """Return what step `now` may point at (B, N): available elements, or past the length, position `now`."""
    positions = torch.arange(available.shape[1], device=available.device)  # (N,)
    finished = (now >= lengths).unsqueeze(1)  # (B, 1)
    # Not torch.where: ONNX Runtime has no Where for booleans.
    return (available & ~finished) | (finished & (positions == now))


def random_orders(
    shape: Sequence[int], _sizes: Mapping[str, int], dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """Draw rows that are permutations of 0 to the last size minus one: example `targets`."""
    return torch.rand(tuple(shape), generator=generator).argsort(dim=-1).to(dtype)


def unroll(step: Step, carry: Tensors, given: Tensors) -> Tensors:
    """Call `step(carry, given at t) -> (carry, outputs)` for each t, axis 0 of `given`; stack the outputs.

    An export uses a scan, whose length is free. In eager mode it would be several times slower.
    """
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan

        def fresh(carry: Tensors, at_step: Tensors) -> Stepped:
            carry, output = step(carry, at_step)
            # A scan can't return a tensor twice, or return one of its inputs.
            return tuple(part.clone() for part in carry), tuple(part.clone() for part in output)

        _, stacked = scan(fresh, carry, given)
        return tuple(stacked)
    outputs = []
    # Unbound once, because indexing in each step would make backward quadratic.
    for at_step in zip(*(tensor.unbind(0) for tensor in given), strict=True):
        carry, output = step(carry, at_step)
        outputs.append(output)
    return tuple(torch.stack(steps) for steps in zip(*outputs, strict=True))


def encode_padded(lstm: nn.LSTM, x: Tensor, lengths: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run `lstm` over padded rows (B, N, E) as if each ended at its length, as packed sequences do.

    Returns its output, to be ignored at padding, and the last layer's final hidden and cell state,
    directions joined, (B, M) each. Packing needs the lengths on the CPU and doesn't export. Instead a
    further input, 1 at padding, closes the input gate and opens the forget gate, so that the cell
    state stays what it was: the last true one going forward, zero going backward.
    """
    directions = 2 if lstm.bidirectional else 1
    positions = torch.arange(x.shape[1], device=x.device)  # (N,)
    padding = (positions >= lengths.unsqueeze(1)).to(x.dtype).unsqueeze(2)  # (B, N, 1)
    zeros = x.new_zeros(directions, x.shape[0], lstm.hidden_size)
    for layer in range(lstm.num_layers):
        x, _, cell = torch.lstm(
            torch.cat((x, padding), dim=2),
            (zeros, zeros.clone()),
            _weights_with_hold(lstm, layer),
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=lstm.training,
            bidirectional=lstm.bidirectional,
            batch_first=True,
        )
    hidden = take(x[..., : lstm.hidden_size], lengths - 1)  # (B, H)
    if lstm.bidirectional:
        hidden = torch.cat((hidden, x[:, 0, lstm.hidden_size :]), dim=1)  # (B, 2H)
    return x, (hidden, _join(cell))


def _weights_with_hold(lstm: nn.LSTM, layer: int) -> list[Tensor]:
    """Return a layer's weights with one more input, which holds the cell state when it is 1."""
    size = lstm.hidden_size
    weights = []
    for suffix in ("", "_reverse") if lstm.bidirectional else ("",):
        w_ih, w_hh, b_ih, b_hh = (
            getattr(lstm, f"{name}_l{layer}{suffix}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        # The gates in torch's order: input closed, forget open, cell and output as they are.
        closed, opened = w_ih.new_full((size, 1), -SATURATING), w_ih.new_full((size, 1), SATURATING)
        hold = torch.cat((closed, opened, w_ih.new_zeros(2 * size, 1)))  # (4H, 1)
        weights += [torch.cat((w_ih, hold), dim=1), w_hh, b_ih, b_hh]
    return weights


def _join(state: Tensor) -> Tensor:
    """Lay the directions of a state (D, B, H) side by side: (B, D * H)."""
    return state.transpose(0, 1).flatten(1)
