"""A cell applied step by step: in a Python loop, or in a scan when the network is exported.

An export would unroll a Python loop, and the file would only work for the length it was traced at. A scan
stays a loop in the file, but is too slow to be used outside of an export.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan

State: TypeAlias = tuple[Tensor, ...]
"""The hidden state, for an LSTM also the cell state: (B, H) each, (L·D, B, H) for a stack of layers."""

Cell: TypeAlias = Callable[[Tensor, State], State]
"""The function from a step's projected input (B, G·H) and the state to the next state."""


Project: TypeAlias = Callable[[Tensor], Tensor]
"""The product with W_ih, (T, B, I) -> (T, B, G·H), that needs no state."""

PIECE = 32
"""Steps that a loop projects at once: enough for one large product, few enough to stay in the cache."""


def loop_steps(
    cell: Cell, project: Project, x: Tensor, state: State, valid: Tensor | None, reverse: bool
) -> tuple[Tensor, State]:
    """Take the steps of x (T, B, I), or from the last to the first.

    Returns the hidden state at each step (T, B, H) and the final state. Where valid (T, B, 1) is false
    the state stays as it is.
    """
    pieces = torch.split(x, PIECE)
    masks = [None] * len(x) if valid is None else valid.unbind(0)
    outputs: list[Tensor] = []
    for piece in reversed(pieces) if reverse else pieces:
        # unbind, because the backward of each projected[t] would fill a tensor as long as the piece
        steps = project(piece).unbind(0)
        for step in reversed(steps) if reverse else steps:
            t = len(x) - 1 - len(outputs) if reverse else len(outputs)
            state = _advance(cell, step, state, masks[t])
            outputs.append(state[0])
    return torch.stack(outputs[::-1] if reverse else outputs), state


def scan_steps(
    cell: Cell, project: Project, x: Tensor, state: State, valid: Tensor | None, reverse: bool
) -> tuple[Tensor, State]:
    """Do the same as `loop_steps`, in a form that exports with any number of steps."""

    def step(carry: list[Tensor], inputs: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        after = _advance(cell, inputs[0], tuple(carry), None if valid is None else inputs[1])
        return list(after), after[0].clone()  # scan wants no output that is the carry itself

    inputs = [project(x)] if valid is None else [project(x), valid]
    # nor two initial values that are one tensor
    final, output = scan(step, [part.clone() for part in state], inputs, dim=0, reverse=reverse)
    return output, tuple(final)


def _advance(cell: Cell, step: Tensor, state: State, mask: Tensor | None) -> State:
    after = cell(step, state)
    if mask is None:
        return after
    return tuple(torch.where(mask, new, old) for new, old in zip(after, state, strict=True))
