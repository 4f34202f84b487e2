"""ONNX's own operators RNN, GRU and LSTM, used instead of a layer in an export."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nnkit_recurrent.steps import State


def serves_onnx_operators(x: Tensor) -> bool:
    """Whether x is traced for ONNX with a dtype that ONNX Runtime's recurrent operators have kernels for."""
    return torch.onnx.is_in_onnx_export() and x.dtype in (torch.float32, torch.float16)


def onnx_layer(
    name: str,
    x: Tensor,
    state: State,
    lengths: Tensor | None,
    *,
    weights: Sequence[Sequence[Tensor]],
    gates: Sequence[int],
    attributes: Mapping[str, int | Sequence[str] | Sequence[float]],
) -> tuple[Tensor, State]:
    """Run one layer over x (T, B, I) as ONNX's operator RNN, GRU or LSTM: returns (T, B, D·H) and the state.

    weights: W_ih, W_hh, b_ih and b_hh of each direction. gates: our index of each of ONNX's gates.
    """
    time, batch, _ = x.shape
    directions, _, hidden_size = state[0].shape

    def in_onnx_order(weight: Tensor) -> Tensor:
        blocks = [weight[gate * hidden_size : (gate + 1) * hidden_size] for gate in gates]
        return torch.cat(blocks) if len(blocks) > 1 else weight

    w_ih, w_hh, b_ih, b_hh = (
        torch.stack([in_onnx_order(weight) for weight in both]) for both in zip(*weights, strict=True)
    )
    output, *final = torch.onnx.ops.symbolic_multi_out(
        name,
        (
            x,
            w_ih,
            w_hh,
            torch.cat([b_ih, b_hh], 1),
            None if lengths is None else lengths.to(torch.int32),
            *state,
        ),
        {
            "hidden_size": hidden_size,
            "direction": "bidirectional" if directions == 2 else "forward",
            **attributes,
        },
        dtypes=[x.dtype] * (1 + len(state)),
        shapes=[(time, directions, batch, hidden_size), *(part.shape for part in state)],
    )
    return output.transpose(1, 2).flatten(2), tuple(final)  # (T, D, B, H) -> (T, B, D·H)
