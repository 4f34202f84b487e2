"""The options of the point-cloud networks."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

InChannels = Annotated[int, Meta(ge=1, description="coordinates per point")]
Dropout = Annotated[
    float, Meta(ge=0, lt=1, description="fraction of the head's activations dropped in training")
]
ReturnTransform = Annotated[
    bool, Meta(description="also return the feature transform, for the orthogonality loss")
]


@dataclass(frozen=True, kw_only=True)
class PointNetConfig:
    """Options of `pointnet`."""

    num_classes: Annotated[int, Meta(ge=1, description="number of shape classes")] = 40
    in_channels: InChannels = 3
    dropout: Dropout = 0.3
    return_transform: ReturnTransform = False


@dataclass(frozen=True, kw_only=True)
class PointNetVanillaConfig:
    """Options of `pointnet-vanilla`."""

    num_classes: Annotated[int, Meta(ge=1, description="number of shape classes")] = 40
    in_channels: InChannels = 3
    dropout: Dropout = 0.3


@dataclass(frozen=True, kw_only=True)
class PointNetSegmentationConfig:
    """Options of `pointnet-segmentation`."""

    num_classes: Annotated[int, Meta(ge=1, description="number of part classes, predicted per point")] = 50
    in_channels: InChannels = 3
    return_transform: ReturnTransform = False
