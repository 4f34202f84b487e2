"""The options of the networks that generate images. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

Channels: TypeAlias = Annotated[int, Meta(ge=1, description="image channels")]


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Options of `vae`."""

    in_channels: Channels = 1
    image_size: Annotated[int, Meta(ge=1, description="height and width of the image")] = 28
    hidden_size: Annotated[int, Meta(ge=1, description="units of the layer between image and code")] = 400
    latent: Annotated[int, Meta(ge=1, description="numbers in a code")] = 20
    activation: Annotated[
        Literal["relu", "tanh"], Meta(description="activation of the hidden layers; the paper has tanh")
    ] = "relu"


@dataclass(frozen=True, kw_only=True)
class VQVAEConfig:
    """Options of `vq-vae`."""

    in_channels: Channels = 3
    hidden_channels: Annotated[int, Meta(ge=1, description="channels of the convolutions")] = 256
    num_embeddings: Annotated[int, Meta(ge=1, description="words in the codebook")] = 512
    embedding_size: Annotated[int, Meta(ge=1, description="numbers in a word")] = 64


@dataclass(frozen=True, kw_only=True)
class DCGANDiscriminatorConfig:
    """Options of `dcgan-discriminator`."""

    channels: Channels = 3
    image_size: Annotated[
        Literal[8, 16, 32, 64, 128, 256], Meta(description="height and width of the image")
    ] = 64
    features: Annotated[int, Meta(ge=1, description="channels at half the image's size, the fewest")] = 64


@dataclass(frozen=True, kw_only=True)
class DCGANConfig(DCGANDiscriminatorConfig):
    """Options of `dcgan` and `dcgan-generator`."""

    latent: Annotated[int, Meta(ge=1, description="random numbers that an image is drawn from")] = 100


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
