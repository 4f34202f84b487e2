"""Options of the graph networks. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class GCNConfig:
    """Options of the graph convolutional network."""

    in_channels: Annotated[int, Meta(ge=1, description="features of a node")] = 16
    hidden_channels: Annotated[int, Meta(ge=1, description="features of a node between layers")] = 16
    num_classes: Annotated[int, Meta(ge=1, description="classes of a node")] = 4
    num_layers: Annotated[int, Meta(ge=1, description="layers, and hops that a node sees")] = 2
    dropout: Annotated[float, Meta(ge=0, lt=1, description="share of features dropped before a layer")] = 0.5
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
        Literal["every", "first"], Meta(description="layers that aggregate over neighbours")
    ] = "every"
    cached: Annotated[bool, Meta(description="keep the normalised graph while the same tensors come")] = False
