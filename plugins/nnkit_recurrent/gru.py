"""The gated recurrent unit (Cho et al., 2014).

    r_t = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)                 reset gate
    z_t = σ(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)                 update gate
    n_t = tanh(W_in x_t + b_in + W_hn (r_t ⊙ h_{t-1}) + b_hn)      candidate, reset before the product
    n_t = tanh(W_in x_t + b_in + r_t ⊙ (W_hn h_{t-1} + b_hn))      candidate, reset after it
    h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}

x (B, T, I), h (B, H). Cho resets before; cuDNN and torch.nn after, so that one product serves all three
gates. The two are different functions, and the weights of one don't fit the other. From a state of zeros
the first step, without b_hn, can't tell them apart.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nnkit_recurrent.classifier import PaddedSequenceClassifier, SequenceClassifier, classifier
from nnkit_recurrent.configs import GRUConfig
from nnkit_recurrent.layer import Implementation, Kernel, RecurrentLayer
from nnkit_recurrent.steps import Cell, State

Reset: TypeAlias = Literal["before", "after"]


class GRU(RecurrentLayer):
    """torch.nn.GRU, and by default Cho's, with the same weights. Shapes and calls: see `RecurrentLayer`.

    reset: "before" as Cho has it, "after" as torch.nn has it. Torch has a kernel only for the latter.
    """

    operator = "GRU"
    gates_in_onnx = (1, 0, 2)  # z, r, n there; r, z, n here

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        reset: Reset = "before",
        implementation: Implementation = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if reset not in ("before", "after"):
            raise ValueError(f"reset is 'before' or 'after', got {reset!r}")
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            implementation=implementation,
            device=device,
            dtype=dtype,
        )
        self.reset = reset

    @property
    def kernel(self) -> Kernel | None:
        return torch.gru if self.reset == "after" else None

    @property
    def onnx_attributes(self) -> Mapping[str, int | Sequence[str] | Sequence[float]]:
        return {"linear_before_reset": int(self.reset == "after")}

    def projection_bias(self, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
        return bias_ih + bias_hh if self.reset == "before" else bias_ih

    def cell(self, weight_hh: Tensor, bias_hh: Tensor) -> Cell:
        sizes = [2 * self.hidden_size, self.hidden_size]  # both gates, candidate

        def reset_before(projected: Tensor, state: State) -> State:
            (h,) = state
            gates, candidate = torch.split(projected, sizes, dim=1)
            r, z = torch.sigmoid(torch.addmm(gates, h, weight_gates)).chunk(2, dim=1)
            n = torch.tanh(torch.addmm(candidate, r * h, weight_candidate))
            return (blend(n, h, z),)

        def reset_after(projected: Tensor, state: State) -> State:
            (h,) = state
            gates, candidate = torch.split(projected, sizes, dim=1)
            hidden_gates, hidden_candidate = torch.split(torch.addmm(bias_hh, h, weight), sizes, dim=1)
            r, z = torch.sigmoid(gates + hidden_gates).chunk(2, dim=1)
            n = torch.tanh(candidate + r * hidden_candidate)
            return (blend(n, h, z),)

        if self.reset == "after":
            weight = weight_hh.t().contiguous()
            return reset_after
        weight_gates, weight_candidate = (part.t().contiguous() for part in torch.split(weight_hh, sizes))
        return reset_before

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, reset={self.reset}"


def blend(n: Tensor, h: Tensor, z: Tensor) -> Tensor:
    """Return (1 - z) ⊙ n + z ⊙ h in the dtype of the state h, which stays float32 under autocast."""
    return torch.lerp(n.to(h.dtype), h, z.to(h.dtype))


def gru(config: GRUConfig) -> SequenceClassifier | PaddedSequenceClassifier:
    """Return the classifier that `config` describes."""
    layer = GRU(
        config.input_size,
        config.hidden_size,
        config.num_layers,
        batch_first=True,
        dropout=config.dropout,
        bidirectional=config.bidirectional,
        reset=config.reset,
        implementation=config.implementation,
    )
    return classifier(layer, config)
