"""The options of the multi-layer perceptrons. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Options of `mlp`."""

    in_features: Annotated[int, Meta(ge=1, description="features of a sample")] = 784
    hidden_sizes: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...],
        Meta(description="units of each hidden layer; none at all leaves one linear layer"),
    ] = (512, 512)
    num_classes: Annotated[int, Meta(ge=1, description="outputs of a sample")] = 10
    activation: Annotated[
        Literal["relu", "gelu", "silu", "elu", "leaky-relu", "tanh", "sigmoid"],
        Meta(description="what each hidden layer applies to its sums"),
    ] = "relu"
    norm: Annotated[
        Literal["none", "batch", "layer"],
        Meta(description="normalization between each hidden linear layer and its activation"),
    ] = "none"
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="fraction of hidden units dropped in training")
    ] = 0.0
    bias: Annotated[bool, Meta(description="add a bias in each linear layer")] = True
