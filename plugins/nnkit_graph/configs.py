"""Options of the graph networks. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class NodeClassifierConfig:
    """The options that every node classifier has."""

    in_channels: Annotated[int, Meta(ge=1, description="features per node")] = 16
    hidden_channels: Annotated[int, Meta(ge=1, description="features per node between layers")] = 16
    num_classes: Annotated[int, Meta(ge=1, description="number of classes")] = 4
    num_layers: Annotated[int, Meta(ge=1, description="number of layers, and of hops a node sees")] = 2
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="fraction of features dropped before each layer")
    ] = 0.5

    @property
    def layer_sizes(self) -> list[int]:
        """Features before the first layer and after each."""
        return [self.in_channels, *[self.hidden_channels] * (self.num_layers - 1), self.num_classes]


@dataclass(frozen=True, kw_only=True)
class GCNConfig(NodeClassifierConfig):
    """Options of the graph convolutional network."""

    bias: Annotated[bool, Meta(description="add a bias after each aggregation")] = True
    adjacency: Annotated[
        Literal["sparse", "dense"], Meta(description="graph as edge_index, or as a dense matrix")
    ] = "sparse"
    edge_weight: Annotated[bool, Meta(description="add edge weights as a third input")] = False
    normalization: Annotated[
        Literal["symmetric", "none"],
        Meta(description="symmetric: D^-½ (A+I) D^-½; none: A without added self-loops"),
    ] = "symmetric"
    aggregate: Annotated[
        Literal["every", "first"], Meta(description="which layers aggregate over neighbors")
    ] = "every"
    cached: Annotated[bool, Meta(description="reuse the normalized graph for the same tensors")] = False


@dataclass(frozen=True, kw_only=True)
class GNNConfig(NodeClassifierConfig):
    """Options of the message-passing network."""

    aggregation: Annotated[
        Literal["sum", "mean", "weighted-mean", "max"],
        Meta(description="how neighbors are combined; weighted-mean adds edge weights as an input"),
    ] = "mean"


@dataclass(frozen=True, kw_only=True)
class GraphSAGEConfig(NodeClassifierConfig):
    """Options of GraphSAGE."""


@dataclass(frozen=True, kw_only=True)
class GATConfig(NodeClassifierConfig):
    """Options of the graph attention network."""

    hidden_channels: Annotated[int, Meta(ge=1, description="features per head between layers")] = 8
    heads: Annotated[int, Meta(ge=1, description="heads per layer; the last layer has one")] = 8
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="fraction of features and attention weights dropped in training")
    ] = 0.6
    negative_slope: Annotated[float, Meta(ge=0, description="slope of the leaky ReLU on the scores")] = 0.2


@dataclass(frozen=True, kw_only=True)
class GINConfig(NodeClassifierConfig):
    """Options of the graph isomorphism network."""

    train_eps: Annotated[bool, Meta(description="train ε, the extra weight of a node's own features")] = False
