"""The options of the ten networks, small by default. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from nnkit import Meta

Features: TypeAlias = Annotated[int, Meta(ge=4, multiple_of=4, description="channels of the first level")]
Channels: TypeAlias = Annotated[int, Meta(ge=1, description="channels of a picture")]
Classes: TypeAlias = Annotated[int, Meta(ge=1, description="number of classes")]
Levels: TypeAlias = Annotated[int, Meta(ge=1, le=6, description="how often the picture is halved")]
Layers: TypeAlias = Annotated[int, Meta(ge=1, description="layers on top of each other")]
Vocabulary: TypeAlias = Annotated[int, Meta(ge=2, description="number of tokens")]
Dropout: TypeAlias = Annotated[float, Meta(ge=0, lt=1, description="share of values dropped in training")]
Size: TypeAlias = Annotated[int, Meta(ge=4, multiple_of=4, description="rows and columns of a picture")]
Latent: TypeAlias = Annotated[int, Meta(ge=1, description="numbers in a code")]
Heads: TypeAlias = Annotated[int, Meta(ge=1, description="heads of each attention")]


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Options of `unet`."""

    in_channels: Channels = 1
    classes: Classes = 2
    features: Features = 8
    levels: Levels = 3


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Options of `transformer`."""

    vocabulary: Vocabulary = 100
    width: Annotated[int, Meta(ge=2, multiple_of=2, description="features of a token")] = 32
    heads: Heads = 4
    hidden: Annotated[int, Meta(ge=1, description="units of a feed-forward layer")] = 64
    layers: Layers = 2
    dropout: Dropout = 0.1

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Options of `vae`."""

    channels: Channels = 1
    size: Size = 28
    features: Features = 8
    latent: Latent = 8


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Options of `diffusion-unet`."""

    channels: Channels = 3
    features: Features = 16
    levels: Levels = 2
    timesteps: Annotated[int, Meta(ge=1, description="steps from a picture to noise")] = 1000
    classes: Classes = 10


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Options of `detector`."""

    channels: Channels = 3
    classes: Classes = 20
    features: Features = 16


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Options of `gpt`."""

    vocabulary: Vocabulary = 128
    context: Annotated[int, Meta(ge=2, description="the most tokens, past ones included")] = 64
    width: Annotated[int, Meta(ge=1, description="features of a token")] = 32
    heads: Heads = 4
    layers: Layers = 2
    dropout: Dropout = 0.1

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)


@dataclass(frozen=True, kw_only=True)
class SiameseConfig:
    """Options of `siamese`."""

    channels: Channels = 1
    features: Features = 8
    embedding: Annotated[int, Meta(ge=1, description="numbers in an embedding")] = 32


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Options of `mixture-of-experts`."""

    width: Annotated[int, Meta(ge=2, description="features of a token")] = 16
    hidden: Annotated[int, Meta(ge=1, description="units of an expert")] = 32
    experts: Annotated[int, Meta(ge=1, description="experts in a layer")] = 4
    chosen: Annotated[int, Meta(ge=1, description="experts that a token is sent to")] = 2
    layers: Layers = 2

    def __post_init__(self) -> None:
        if self.chosen > self.experts:
            raise ValueError(f"chosen is at most experts, got {self.chosen} of {self.experts}")


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig:
    """Options of `wavenet`."""

    levels: Annotated[int, Meta(ge=2, description="values of a quantized sample")] = 256
    channels: Annotated[int, Meta(ge=1, description="channels of the layers")] = 16
    skip_channels: Annotated[int, Meta(ge=1, description="channels of the sum that is the output")] = 32
    dilations: Annotated[tuple[int, ...], Meta(description="distance of the two taps, layer by layer")] = (
        1,
        2,
        4,
        8,
    )
    speakers: Annotated[int, Meta(ge=1, description="number of speakers")] = 10
    speaker_width: Annotated[int, Meta(ge=1, description="numbers that describe a speaker")] = 8


@dataclass(frozen=True, kw_only=True)
class GANConfig:
    """Options of `gan`."""

    channels: Channels = 1
    size: Size = 16
    features: Features = 8
    latent: Latent = 16


def check_heads(width: int, heads: int) -> None:
    """Raise ValueError where the heads can't share the features."""
    if width % heads:
        raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
