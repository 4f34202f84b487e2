"""The options of the networks that generate images. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from msgspec import Meta

Channels: TypeAlias = Annotated[int, Meta(ge=1, description="image channels")]

# ---- vae, vq-vae


# ---- dcgan


# ---- ddpm-unet


@dataclass(frozen=True, kw_only=True)
class DDPMUNetConfig:
    """Options of `ddpm-unet`."""

    in_channels: Channels = 3
    channels: Annotated[int, Meta(ge=4, multiple_of=2, description="channels of the first level")] = 128
    levels: Annotated[int, Meta(ge=1, le=8, description="resolutions, each half of the one before")] = 4
    multipliers: Annotated[
        tuple[int, ...], Meta(description="channels of each level, as a multiple of those of the first layer")
    ] = (1, 2, 2, 2)
    attention: Annotated[
        tuple[int, ...], Meta(description="levels with attention among pixels; 0 is the full resolution")
    ] = (1,)
    blocks: Annotated[int, Meta(ge=1, description="residual blocks in a level")] = 2
    groups: Annotated[int, Meta(ge=1, description="groups of channels that are normalized together")] = 32
    dropout: Annotated[float, Meta(ge=0, lt=1, description="fraction of values dropped in training")] = 0.1
    num_classes: Annotated[
        int, Meta(ge=0, description="classes of images; with 0 the network takes no label")
    ] = 0

    def __post_init__(self) -> None:
        if len(self.multipliers) != self.levels:
            raise ValueError(f"multipliers has {len(self.multipliers)} entries for {self.levels} levels")
        if min(self.multipliers) < 1:
            raise ValueError(f"multipliers must be at least 1, got {min(self.multipliers)}")
        if self.channels % self.groups:
            raise ValueError(f"channels must be a multiple of groups, got {self.channels} and {self.groups}")
        if unknown := set(self.attention) - set(range(self.levels)):
            raise ValueError(f"attention must name levels from 0 to {self.levels - 1}, got {unknown.pop()}")
