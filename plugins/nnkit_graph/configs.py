"""Options of the graph networks. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class NodeClassifierConfig:
    """What every network that scores nodes has."""

    in_channels: Annotated[int, Meta(ge=1, description="features of a node")] = 16
    hidden_channels: Annotated[int, Meta(ge=1, description="features of a node between layers")] = 16
    num_classes: Annotated[int, Meta(ge=1, description="classes of a node")] = 4
    num_layers: Annotated[int, Meta(ge=1, description="layers, and hops that a node sees")] = 2
    dropout: Annotated[float, Meta(ge=0, lt=1, description="share of features dropped before a layer")] = 0.5

    @property
    def layer_sizes(self) -> list[int]:
        """Features before the first layer and after each."""
        return [self.in_channels, *[self.hidden_channels] * (self.num_layers - 1), self.num_classes]


@dataclass(frozen=True, kw_only=True)
class GCNConfig(NodeClassifierConfig):
    """Options of the graph convolutional network."""

    bias: Annotated[bool, Meta(description="add a bias after each aggregation")] = True
    adjacency: Annotated[
        Literal["sparse", "dense"], Meta(description="the graph as edge_index, or as the textbook's matrix")
    ] = "sparse"
    edge_weight: Annotated[bool, Meta(description="take a weight for each edge as a third input")] = False
    normalization: Annotated[
        Literal["symmetric", "none"],
        Meta(description="Â = D^-½ (A+I) D^-½, or the bare matrix A without self-loops"),
    ] = "symmetric"
    aggregate: Annotated[
        Literal["every", "first"], Meta(description="layers that aggregate over neighbors")
    ] = "every"
    cached: Annotated[bool, Meta(description="keep the normalized graph while the same tensors come")] = False


@dataclass(frozen=True, kw_only=True)
class GNNConfig(NodeClassifierConfig):
    """Options of the message-passing network."""

    aggregation: Annotated[
        Literal["sum", "mean", "weighted-mean", "max"],
        Meta(description="what a node makes of its neighbors; weighted-mean takes a weight for each edge"),
    ] = "mean"


@dataclass(frozen=True, kw_only=True)
class GraphSAGEConfig(NodeClassifierConfig):
    """Options of GraphSAGE."""


@dataclass(frozen=True, kw_only=True)
class GATConfig(NodeClassifierConfig):
    """Options of the graph attention network."""

    hidden_channels: Annotated[int, Meta(ge=1, description="features of each head between layers")] = 8
    heads: Annotated[int, Meta(ge=1, description="heads of each layer but the last, which has one")] = 8
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="share of features, and of attention, dropped in training")
    ] = 0.6
    negative_slope: Annotated[float, Meta(ge=0, description="of the leaky relu of the scores")] = 0.2


@dataclass(frozen=True, kw_only=True)
class GINConfig(NodeClassifierConfig):
    """Options of the graph isomorphism network."""

    train_eps: Annotated[bool, Meta(description="learn ε, the extra weight of a node's own features")] = False
