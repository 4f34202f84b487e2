"""The options of the recurrent networks. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """The options that every recurrent network has."""

    input_size: Annotated[int, Meta(ge=1, description="features per step")] = 28
    hidden_size: Annotated[int, Meta(ge=1, description="size of the hidden state")] = 128
    num_layers: Annotated[int, Meta(ge=1, description="stacked layers")] = 1
    bidirectional: Annotated[bool, Meta(description="also read the sequence backward")] = False
    dropout: Annotated[
        float, Meta(ge=0, le=1, description="fraction of values dropped between layers in training")
    ] = 0.0
    num_classes: Annotated[int, Meta(ge=1, description="number of classes")] = 10
    predict: Annotated[
        Literal["last", "every"], Meta(description="classify the whole sequence at its end, or every step")
    ] = "last"
    implementation: Annotated[
        Literal["fused", "plain"],
        Meta(description="torch's own kernel where it has one, or the cell step by step"),
    ] = "fused"
    lengths: Annotated[bool, Meta(description="add an input with the lengths of padded sequences")] = False
    initial_state: Annotated[bool, Meta(description="add an input with the initial state")] = False


@dataclass(frozen=True, kw_only=True)
class RNNConfig(RecurrentConfig):
    """Options of `rnn`."""

    nonlinearity: Annotated[
        Literal["tanh", "relu", "identity"],
        Meta(description="nonlinearity of the state; identity makes it affine in the sequence"),
    ] = "tanh"


@dataclass(frozen=True, kw_only=True)
class GRUConfig(RecurrentConfig):
    """Options of `gru`."""

    reset: Annotated[
        Literal["before", "after"],
        Meta(description="reset the state before the product (Cho) or after it (cuDNN, torch.nn)"),
    ] = "before"


@dataclass(frozen=True, kw_only=True)
class LSTMConfig(RecurrentConfig):
    """Options of `lstm`."""
