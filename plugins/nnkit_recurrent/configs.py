"""The options of the recurrent networks. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """What every recurrent network has."""

    input_size: Annotated[int, Meta(ge=1, description="features of a step of the sequence")] = 28
    hidden_size: Annotated[int, Meta(ge=1, description="features of the state")] = 128
    num_layers: Annotated[
        int, Meta(ge=1, description="layers, each fed with the states of the one below")
    ] = 1
    bidirectional: Annotated[bool, Meta(description="read the sequence backwards too")] = False
    dropout: Annotated[
        float, Meta(ge=0, le=1, description="share of values dropped between layers in training")
    ] = 0.0
    num_classes: Annotated[int, Meta(ge=1, description="number of classes")] = 10
    predict: Annotated[
        Literal["last", "every"], Meta(description="classify the sequence at its end, or every step of it")
    ] = "last"
    implementation: Annotated[
        Literal["fused", "plain"],
        Meta(description="torch's kernel where it computes the equation, or the cell step by step"),
    ] = "fused"
    lengths: Annotated[bool, Meta(description="take the lengths of padded sequences as an input")] = False
    initial_state: Annotated[bool, Meta(description="take the state before the first step as an input")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class RNNConfig(RecurrentConfig):
    """Options of `rnn`."""

    nonlinearity: Annotated[
        Literal["tanh", "relu", "identity"],
        Meta(description="function of the state; identity makes it affine in the sequence"),
    ] = "tanh"


@dataclass(frozen=True, kw_only=True)
class GRUConfig(RecurrentConfig):
    """Options of `gru`."""

    reset: Annotated[
        Literal["before", "after"],
        Meta(description="reset the state before the product with it (Cho) or after (cuDNN, torch.nn)"),
    ] = "before"


@dataclass(frozen=True, kw_only=True)
class LSTMConfig(RecurrentConfig):
    """Options of `lstm`."""
