"""The options of the networks of sets. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

Features: TypeAlias = Annotated[int, Meta(ge=1, description="features of an element")]
Sizes: TypeAlias = tuple[Annotated[int, Meta(ge=1)], ...]


@dataclass(frozen=True, kw_only=True)
class DeepSetsConfig:
    """Options of `deepsets`."""

    in_features: Features = 3
    phi_sizes: Annotated[Sizes, Meta(min_length=1, description="units of each layer of φ")] = (64, 64)
    rho_sizes: Annotated[Sizes, Meta(description="units of each hidden layer of ρ")] = (64,)
    num_outputs: Annotated[int, Meta(ge=1, description="outputs of ρ")] = 10
    pooling: Annotated[
        Literal["sum", "mean", "max", "none"],
        Meta(description="what makes one vector of all elements; none: ρ is applied to each, after mixing"),
    ] = "sum"
    mixing: Annotated[
        Literal["none", "mean", "max", "mean1", "max1"],
        Meta(
            description="what each layer of φ sees beside an element: none, or the mean or maximum of all, "
            "through a matrix of its own or the one of the element (mean1, max1)"
        ),
    ] = "none"
    activation: Annotated[Literal["relu", "elu", "tanh"], Meta(description="between the layers")] = "relu"
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="fraction dropped before each layer of ρ in training")
    ] = 0.0

    def __post_init__(self) -> None:
        if self.pooling == "none" and self.mixing == "none":
            raise ValueError("without pooling and without mixing, no element would know of another")


@dataclass(frozen=True, kw_only=True)
class SetTransformerConfig:
    """Options of `set-transformer`."""

    in_features: Features = 2
    num_outputs: Annotated[int, Meta(ge=1, description="vectors that come out: seeds of the pooling")] = 4
    out_features: Annotated[int, Meta(ge=1, description="features of each vector that comes out")] = 4
    hidden_features: Annotated[int, Meta(ge=1, description="features inside, a multiple of heads")] = 128
    heads: Annotated[int, Meta(ge=1, description="heads of each attention")] = 4
    encoder: Annotated[
        Literal["isab", "sab"],
        Meta(description="blocks of the encoder: isab attends through inducing points, sab to all pairs"),
    ] = "isab"
    num_inds: Annotated[int, Meta(ge=1, description="inducing points of an isab")] = 32
    encoder_blocks: Annotated[int, Meta(ge=1, description="blocks before the pooling")] = 2
    decoder_blocks: Annotated[int, Meta(ge=0, description="sab blocks after the pooling")] = 2
    layer_norm: Annotated[bool, Meta(description="normalize twice in each attention block")] = False

    def __post_init__(self) -> None:
        if self.hidden_features % self.heads:
            raise ValueError(f"{self.hidden_features} hidden features can't be split over {self.heads} heads")


@dataclass(frozen=True, kw_only=True)
class GraphTransformerConfig:
    """Options of `graph-transformer`."""

    in_channels: Annotated[int, Meta(ge=1, description="features per node")] = 16
    hidden_channels: Annotated[
        int, Meta(ge=1, description="features per node between layers, a multiple of heads")
    ] = 64
    num_classes: Annotated[int, Meta(ge=1, description="number of classes")] = 4
    num_layers: Annotated[int, Meta(ge=1, description="number of layers, and of hops a node sees")] = 3
    heads: Annotated[int, Meta(ge=1, description="heads per layer; the last layer averages them")] = 4
    edge_dim: Annotated[int, Meta(ge=0, description="features per edge, as a third input; 0: none")] = 0
    beta: Annotated[bool, Meta(description="gate the residual connection; without, it is a sum")] = True
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="fraction of features and attention weights dropped in training")
    ] = 0.3

    def __post_init__(self) -> None:
        if self.hidden_channels % self.heads:
            raise ValueError(f"{self.hidden_channels} hidden channels can't be split over {self.heads} heads")
