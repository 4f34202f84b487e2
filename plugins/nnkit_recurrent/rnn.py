"""Elman's recurrent network (Elman, Finding structure in time, 1990).

    h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)      φ = tanh, relu or the identity
    y_t = log softmax(W_o h_t + b_o)

x (B, T, I), h (B, H). With the identity each state is an affine function of the sequence, and no number
of such layers is more; that is the network of the tutorial, which leaves tanh out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nnkit_recurrent.classifier import PaddedSequenceClassifier, SequenceClassifier, classifier
from nnkit_recurrent.configs import RNNConfig
from nnkit_recurrent.layer import Implementation, Kernel, RecurrentLayer
from nnkit_recurrent.steps import Cell, State

Nonlinearity: TypeAlias = Literal["tanh", "relu", "identity"]


def _identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": _identity,
}
KERNELS: dict[str, Kernel] = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}
ONNX_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "identity": "Affine"}


class RNN(RecurrentLayer):
    """torch.nn.RNN, with the identity as a third nonlinearity. Shapes and calls: see `RecurrentLayer`."""

    operator = "RNN"
    gates_in_onnx = (0,)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Nonlinearity = "tanh",
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        implementation: Implementation = "fused",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in ACTIVATIONS:
            raise ValueError(f"nonlinearity is one of {', '.join(ACTIVATIONS)}, got {nonlinearity!r}")
        super().__init__(
            "RNN_RELU" if nonlinearity == "relu" else "RNN_TANH",  # the weights of the identity are tanh's
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
        self.nonlinearity: Nonlinearity = nonlinearity

    @property
    def kernel(self) -> Kernel | None:
        return KERNELS.get(self.nonlinearity)

    @property
    def onnx_attributes(self) -> Mapping[str, int | Sequence[str] | Sequence[float]]:
        activations = {"activations": [ONNX_ACTIVATIONS[self.nonlinearity]] * self.directions}
        if self.nonlinearity != "identity":
            return activations
        ones, zeros = [1.0] * self.directions, [0.0] * self.directions
        return {**activations, "activation_alpha": ones, "activation_beta": zeros}  # 1·x + 0

    def cell(self, weight_hh: Tensor, bias_hh: Tensor) -> Cell:  # the projection has the bias
        activation = ACTIVATIONS[self.nonlinearity]
        weight = weight_hh.t().contiguous()

        def step(projected: Tensor, state: State) -> State:
            (h,) = state
            return (activation(torch.addmm(projected, h, weight)),)

        return step

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity}"


def rnn(config: RNNConfig) -> SequenceClassifier | PaddedSequenceClassifier:
    """Return the classifier that `config` describes."""
    layer = RNN(
        config.input_size,
        config.hidden_size,
        config.num_layers,
        config.nonlinearity,
        batch_first=True,
        dropout=config.dropout,
        bidirectional=config.bidirectional,
        implementation=config.implementation,
    )
    return classifier(layer, config)
