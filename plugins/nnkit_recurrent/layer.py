"""What RNN, GRU and LSTM share: layers, directions, padded sequences, and the ways to run them.

A cell is a function from one step's projected input and the state to the next state; `rnn.py`, `gru.py`
and `lstm.py` hold the three. A layer projects many steps by W_ih in one product, since that needs no
state, and then takes them:

    p_t = W_ih x_t + b        for many t at once
    s_t = cell(p_t, s_{t-1})  one after the other

That is the plain implementation. The fused one hands the stack of layers to torch's kernel, where
there is one for the equation. In an ONNX file the fused implementation is ONNX's own operator and the
plain one a Scan over the cell.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from nnkit_recurrent.onnx_operators import onnx_layer, serves_onnx_operators
from nnkit_recurrent.steps import Cell, State, loop_steps, scan_steps

Implementation: TypeAlias = Literal["fused", "plain"]
Kernel: TypeAlias = Callable[..., tuple[Tensor, ...]]


class RecurrentLayer(nn.RNNBase):
    """A stack of recurrent layers, with the parameters, names and initial values of its torch.nn counterpart.

    Called as `layer(x, state=None, lengths=None)`, with x (T, B, I), or (B, T, I) if `batch_first`.
    Returns the states of the last layer at every step (T, B, D·H), or (B, T, D·H), with the D directions
    side by side, and the final state of each layer and direction (L·D, B, H); `state` has that shape too.

    lengths: (B,), the steps of each sequence that count, at least 1. The rest is padding: it gives zeros,
        leaves the state alone, and the backward direction starts at the last step that counts, as
        packed sequences have it.
    """

    operator: ClassVar[str]
    """The name of the operator in ONNX."""
    gates_in_onnx: ClassVar[Sequence[int]]
    """Our index of each block of weight rows, in ONNX's order."""

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        implementation: Implementation = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if implementation not in ("fused", "plain"):
            raise ValueError(f"implementation is 'fused' or 'plain', got {implementation!r}")
        super().__init__(
            mode,
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            device=device,
            dtype=dtype,
        )
        self.implementation = implementation

    @property
    def directions(self) -> int:
        """1, or 2 when bidirectional."""
        return 1 + self.bidirectional

    @property
    def kernel(self) -> Kernel | None:
        """torch's function for the whole stack; None where it has none for this equation."""
        raise NotImplementedError

    @property
    def onnx_attributes(self) -> Mapping[str, int | Sequence[str] | Sequence[float]]:
        """The attributes with which ONNX's operator computes this equation."""
        return {}

    def cell(self, weight_hh: Tensor, bias_hh: Tensor) -> Cell:
        """Return the function from a step's projected input (B, G·H) and the state to the next state."""
        raise NotImplementedError

    def projection_bias(self, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
        """Return what is added to the projected input: both biases, where the equation only sums them."""
        return bias_ih + bias_hh

    def initial_state(self, x: Tensor) -> State:
        """Return the state before the first step of x (T, B, I): zeros."""
        return (x.new_zeros(self.num_layers * self.directions, x.shape[1], self.hidden_size),)

    def forward(
        self, x: Tensor, state: Tensor | State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | State]:
        if x.dim() != 3:
            raise ValueError(f"x has 3 axes (sequences, steps, features), got shape {tuple(x.shape)}")
        if self.batch_first:
            x = x.transpose(0, 1)  # (T, B, I)
        output, final = self._run(x, self._state_before(x, state), lengths)
        if self.batch_first:
            output = output.transpose(0, 1)
        return output, _one_or_all(final)

    def _state_before(self, x: Tensor, given: Tensor | State | None) -> State:
        zeros = self.initial_state(x)
        if given is None:
            return zeros
        state = (given,) if isinstance(given, Tensor) else tuple(given)
        if [part.shape for part in state] != [part.shape for part in zeros]:
            raise ValueError(
                f"the state must have the shapes {[tuple(part.shape) for part in zeros]}, "
                f"got {[tuple(part.shape) for part in state]}"
            )
        return state

    def _run(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        fused = self.implementation == "fused"
        if torch.compiler.is_exporting():
            as_operator = fused and serves_onnx_operators(x)
            return self._layer_by_layer(self._operator if as_operator else self._cells, x, state, lengths)
        if fused and self.kernel is not None:
            return self._fused(self.kernel, x, state, lengths)
        return self._layer_by_layer(self._cells, x, state, lengths)

    def _fused(self, kernel: Kernel, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        weights = [weight for layer in self.all_weights for weight in layer]
        options = (weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        if lengths is None or x.is_meta:  # without values there are no lengths, and the shapes are the same
            output, *final = kernel(x, _one_or_all(state), *options, False)
            return output, tuple(final)
        packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        by_length, back = packed.sorted_indices, packed.unsorted_indices
        state = tuple(part[:, by_length] for part in state)
        values, *final = kernel(packed.data, packed.batch_sizes, _one_or_all(state), *options)
        packed = PackedSequence(values, packed.batch_sizes, by_length, back)
        output, _ = pad_packed_sequence(packed, total_length=x.shape[0])
        return output, tuple(part[:, back] for part in final)

    def _layer_by_layer(
        self,
        run: Callable[[list[list[Tensor]], Tensor, State, Tensor | None], tuple[Tensor, State]],
        x: Tensor,
        state: State,
        lengths: Tensor | None,
    ) -> tuple[Tensor, State]:
        finals = []
        for layer in range(self.num_layers):
            rows = slice(layer * self.directions, (layer + 1) * self.directions)
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            x, final = run(self._weights(rows), x, tuple(part[rows] for part in state), lengths)
            finals.append(final)
        return x, tuple(torch.cat(parts) for parts in zip(*finals, strict=True))

    def _weights(self, rows: slice) -> list[list[Tensor]]:
        """Return W_ih, W_hh, b_ih and b_hh of each direction, biases of zero where the layer has none."""
        weights = self.all_weights[rows]
        if self.bias:
            return [[*four] for four in weights]
        zeros = weights[0][0].new_zeros(weights[0][0].shape[0])
        return [[*pair, zeros, zeros] for pair in weights]

    def _cells(
        self, weights: list[list[Tensor]], x: Tensor, state: State, lengths: Tensor | None
    ) -> tuple[Tensor, State]:
        """Run one layer by its cell, direction by direction."""
        steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        valid = None if lengths is None else (steps < lengths).unsqueeze(-1)  # (T, B, 1)
        take_steps = scan_steps if torch.compiler.is_exporting() else loop_steps
        outputs, finals = [], []
        for direction, (w_ih, w_hh, b_ih, b_hh) in enumerate(weights):
            project = partial(F.linear, weight=w_ih, bias=self.projection_bias(b_ih, b_hh))
            start = tuple(part[direction] for part in state)
            output, final = take_steps(self.cell(w_hh, b_hh), project, x, start, valid, direction == 1)
            outputs.append(output)
            finals.append(final)
        output = torch.cat(outputs, -1)  # (T, B, D·H)
        if valid is not None:
            output = output.masked_fill(~valid, 0)
        return output, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _operator(
        self, weights: list[list[Tensor]], x: Tensor, state: State, lengths: Tensor | None
    ) -> tuple[Tensor, State]:
        """Run one layer as ONNX's operator."""
        return onnx_layer(
            self.operator,
            x,
            state,
            lengths,
            weights=weights,
            gates=self.gates_in_onnx,
            attributes=self.onnx_attributes,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, implementation={self.implementation}"


def _one_or_all(state: State) -> Tensor | State:
    return state[0] if len(state) == 1 else state
