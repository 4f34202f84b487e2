"""Long short-term memory (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000).

    i_t = σ(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)         input gate
    f_t = σ(W_if x_t + b_if + W_hf h_{t-1} + b_hf)         forget gate
    g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)      candidate
    o_t = σ(W_io x_t + b_io + W_ho h_{t-1} + b_ho)         output gate
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    h_t = o_t ⊙ tanh(c_t)

x (B, T, I), h and c (B, H).
"""

import torch
from torch import Tensor

from nnkit_recurrent.classifier import PaddedSequenceClassifier, SequenceClassifier, classifier
from nnkit_recurrent.configs import LSTMConfig
from nnkit_recurrent.layer import Implementation, Kernel, RecurrentLayer
from nnkit_recurrent.steps import Cell, State


class LSTM(RecurrentLayer):
    """torch.nn.LSTM; its state is the pair (h, c). Shapes and calls: see `RecurrentLayer`."""

    operator = "LSTM"
    gates_in_onnx = (0, 3, 1, 2)  # i, o, f, g there; i, f, g, o here

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
        implementation: Implementation = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "LSTM",
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

    @property
    def kernel(self) -> Kernel | None:
        return torch.lstm

    def initial_state(self, x: Tensor) -> State:
        (h,) = super().initial_state(x)
        return h, torch.zeros_like(h)

    def cell(self, weight_hh: Tensor, bias_hh: Tensor) -> Cell:  # the projection has the bias
        weight = weight_hh.t().contiguous()

        def step(projected: Tensor, state: State) -> State:
            h, c = state
            i, f, g, o = torch.addmm(projected, h, weight).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            return h, c

        return step


def lstm(config: LSTMConfig) -> SequenceClassifier | PaddedSequenceClassifier:
    """Return the classifier that `config` describes."""
    layer = LSTM(
        config.input_size,
        config.hidden_size,
        config.num_layers,
        batch_first=True,
        dropout=config.dropout,
        bidirectional=config.bidirectional,
        implementation=config.implementation,
    )
    return classifier(layer, config)
