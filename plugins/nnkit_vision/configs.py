"""The options of the image classifiers, one dataclass per family. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

Classes: TypeAlias = Annotated[int, Meta(ge=1, description="number of classes")]
Channels: TypeAlias = Annotated[int, Meta(ge=1, description="image channels")]
Dropout: TypeAlias = Annotated[float, Meta(ge=0, le=1, description="fraction of units dropped in training")]


@dataclass(frozen=True, kw_only=True)
class SimpleCNNConfig:
    """Options of `simple-cnn`."""

    num_classes: Classes = 10
    in_channels: Channels = 3
    image_size: Annotated[
        int, Meta(ge=4, multiple_of=4, description="height and width of the image, which is halved twice")
    ] = 32


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Options of the ResNets of basic blocks: `resnet18`, `resnet34`."""

    num_classes: Classes = 10
    in_channels: Channels = 3
    stem: Annotated[
        Literal["imagenet", "cifar"],
        Meta(
            description="first layers: imagenet (7×7 convolution and pooling, 1/4 of the size) or "
            "cifar (3×3 convolution, full size)"
        ),
    ] = "imagenet"


@dataclass(frozen=True, kw_only=True)
class BottleneckResNetConfig(ResNetConfig):
    """Options of the ResNets of bottlenecks: `resnet50`, `resnet101`, `resnet152`."""

    variant: Annotated[
        Literal["v1.5", "v1"],
        Meta(
            description="where a bottleneck has its stride: v1.5 in the 3×3 convolution (torchvision), "
            "v1 in the first 1×1 (the paper); weights of one load into the other and give wrong results"
        ),
    ] = "v1.5"


@dataclass(frozen=True, kw_only=True)
class CIFARResNetConfig:
    """Options of the ResNets for CIFAR: `resnet20` to `resnet110`."""

    num_classes: Classes = 10
    in_channels: Channels = 3


@dataclass(frozen=True, kw_only=True)
class LeNetConfig:
    """Options of `lenet`."""

    num_classes: Classes = 10
    in_channels: Channels = 1
    image_size: Annotated[int, Meta(ge=16, description="height and width of the image")] = 28
    padding: Annotated[int, Meta(ge=0, description="zeros added on each side of the image")] = 2


@dataclass(frozen=True, kw_only=True)
class LeNet1998Config:
    """Options of `lenet-1998`: none, since it is the paper's network."""


@dataclass(frozen=True, kw_only=True)
class AlexNetConfig:
    """Options of `alexnet`."""

    num_classes: Classes = 1000
    in_channels: Channels = 3
    dropout: Dropout = 0.5


@dataclass(frozen=True, kw_only=True)
class AlexNet2012Config:
    """Options of `alexnet-2012`."""

    num_classes: Classes = 1000
    in_channels: Channels = 3
    dropout: Dropout = 0.5


@dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """Options of `vgg11` to `vgg19`, with batch normalization or without."""

    num_classes: Classes = 1000
    in_channels: Channels = 3
    dropout: Dropout = 0.5


@dataclass(frozen=True, kw_only=True)
class GoogLeNetConfig:
    """Options of `googlenet`."""

    num_classes: Classes = 1000
    in_channels: Channels = 3
    aux_logits: Annotated[
        bool, Meta(description="add two auxiliary heads, whose scores follow the logits in training")
    ] = False
    dropout: Dropout = 0.2
    dropout_aux: Annotated[float, Meta(ge=0, le=1, description="dropout in the auxiliary heads")] = 0.7


@dataclass(frozen=True, kw_only=True)
class GoogLeNet2014Config(GoogLeNetConfig):
    """Options of `googlenet-2014`: those of `googlenet`, with the paper's dropout."""

    dropout: Dropout = 0.4


StochasticDepth: TypeAlias = Annotated[
    float,
    Meta(ge=0, le=1, description="how often training leaves out the last block's branch; earlier ones less"),
]


@dataclass(frozen=True, kw_only=True)
class DenseNetConfig:
    """Options of `densenet121` to `densenet201`."""

    num_classes: Classes = 1000
    in_channels: Channels = 3
    dropout: Annotated[float, Meta(ge=0, le=1, description="dropout after each layer, in training")] = 0.0


@dataclass(frozen=True, kw_only=True)
class MobileNetV3Config:
    """Options of `mobilenet-v3-large` and `mobilenet-v3-small`."""

    num_classes: Classes = 1000
    in_channels: Channels = 3
    dropout: Dropout = 0.2


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """Options of `efficientnet-b0` and `efficientnet-b1`; those of larger ones have more dropout."""

    num_classes: Classes = 1000
    in_channels: Channels = 3
    dropout: Dropout = 0.2
    stochastic_depth: StochasticDepth = 0.2


@dataclass(frozen=True, kw_only=True)
class EfficientNetB2Config(EfficientNetConfig):
    """Options of `efficientnet-b2` and `efficientnet-b3`."""

    dropout: Dropout = 0.3


@dataclass(frozen=True, kw_only=True)
class EfficientNetB4Config(EfficientNetConfig):
    """Options of `efficientnet-b4` and `efficientnet-b5`."""

    dropout: Dropout = 0.4


@dataclass(frozen=True, kw_only=True)
class EfficientNetB6Config(EfficientNetConfig):
    """Options of `efficientnet-b6` and `efficientnet-b7`."""

    dropout: Dropout = 0.5


@dataclass(frozen=True, kw_only=True)
class ConvNeXtConfig:
    """Options of `convnext-tiny`; those of larger ones have more stochastic depth."""

    num_classes: Classes = 1000
    in_channels: Channels = 3
    layer_scale: Annotated[float, Meta(description="what each branch is multiplied by at first")] = 1e-6
    stochastic_depth: StochasticDepth = 0.1


@dataclass(frozen=True, kw_only=True)
class ConvNeXtSmallConfig(ConvNeXtConfig):
    """Options of `convnext-small`."""

    stochastic_depth: StochasticDepth = 0.4


@dataclass(frozen=True, kw_only=True)
class ConvNeXtBaseConfig(ConvNeXtConfig):
    """Options of `convnext-base` and `convnext-large`."""

    stochastic_depth: StochasticDepth = 0.5


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Options of `unet`."""

    num_classes: Annotated[int, Meta(ge=1, description="number of classes of a pixel")] = 2
    in_channels: Channels = 1
    channels: Annotated[int, Meta(ge=1, description="channels at full size, doubled at each level")] = 64
    levels: Annotated[int, Meta(ge=1, description="how many times the image is halved")] = 4
    batch_norm: Annotated[bool, Meta(description="normalize after each 3×3 convolution")] = False
    dropout: Annotated[float, Meta(ge=0, le=1, description="dropout after the lowest level, in training")] = (
        0.0
    )


PatchSize: TypeAlias = Annotated[int, Meta(ge=1, description="height and width of a patch")]
ImageSize: TypeAlias = Annotated[int, Meta(ge=1, description="height and width of the image")]
AttentionDropout: TypeAlias = Annotated[
    float, Meta(ge=0, le=1, description="fraction of attention weights dropped in training")
]


def check_patches(image_size: int, patch_size: int) -> None:
    """Raise ValueError for an image that can't be cut into patches."""
    if image_size % patch_size:
        raise ValueError(
            f"images of {image_size}×{image_size} can't be cut into patches of {patch_size}×{patch_size}"
        )


def check_heads(width: int, heads: int) -> None:
    """Raise ValueError for heads that can't share the width."""
    if width % heads:
        raise ValueError(f"{heads} heads can't share a width of {width} equally")


@dataclass(frozen=True, kw_only=True)
class PatchesConfig:
    """Options of every network that cuts its images into patches."""

    num_classes: Classes = 1000
    in_channels: Channels = 3
    image_size: ImageSize = 224


@dataclass(frozen=True, kw_only=True)
class Patches8Config(PatchesConfig):
    """Options of the networks with patches of 8×8: `resmlp-big-24`."""

    image_size: Annotated[int, Meta(ge=8, multiple_of=8, description="height and width of the image")] = 224


@dataclass(frozen=True, kw_only=True)
class Patches14Config(PatchesConfig):
    """Options of the networks with patches of 14×14."""

    image_size: Annotated[int, Meta(ge=14, multiple_of=14, description="height and width of the image")] = 224


@dataclass(frozen=True, kw_only=True)
class Patches16Config(PatchesConfig):
    """Options of the networks with patches of 16×16, such as `mixer-b-16` and `resmlp-12`."""

    image_size: Annotated[int, Meta(ge=16, multiple_of=16, description="height and width of the image")] = 224


@dataclass(frozen=True, kw_only=True)
class Patches32Config(PatchesConfig):
    """Options of the networks with patches of 32×32, such as `mixer-b-32`."""

    image_size: Annotated[int, Meta(ge=32, multiple_of=32, description="height and width of the image")] = 224


@dataclass(frozen=True, kw_only=True)
class SmallPatchesConfig(PatchesConfig):
    """Options of the networks of any size, which are small by default and made for small images."""

    num_classes: Classes = 10
    image_size: ImageSize = 32
    patch_size: PatchSize = 4
    blocks: Annotated[int, Meta(ge=1, description="number of blocks")] = 6
    width: Annotated[int, Meta(ge=1, description="features of a patch")] = 128

    def __post_init__(self) -> None:
        check_patches(self.image_size, self.patch_size)


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Options of networks with attention."""

    dropout: Dropout = 0.0
    attention_dropout: AttentionDropout = 0.0


@dataclass(frozen=True, kw_only=True)
class ViT14Config(AttentionConfig, Patches14Config):
    """Options of `vit-h-14`."""


@dataclass(frozen=True, kw_only=True)
class ViT16Config(AttentionConfig, Patches16Config):
    """Options of `vit-b-16` and `vit-l-16`."""


@dataclass(frozen=True, kw_only=True)
class ViT32Config(AttentionConfig, Patches32Config):
    """Options of `vit-b-32` and `vit-l-32`."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig(AttentionConfig, SmallPatchesConfig):
    """Options of `vit`."""

    heads: Annotated[int, Meta(ge=1, description="attention heads, which share the width")] = 4
    mlp_width: Annotated[int, Meta(ge=1, description="hidden units of each MLP")] = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self.width, self.heads)


@dataclass(frozen=True, kw_only=True)
class MixerConfig(SmallPatchesConfig):
    """Options of `mixer`."""

    tokens_mlp_width: Annotated[
        int, Meta(ge=1, description="hidden units of each MLP across the patches")
    ] = 64
    channels_mlp_width: Annotated[
        int, Meta(ge=1, description="hidden units of each MLP across the features of a patch")
    ] = 512


@dataclass(frozen=True, kw_only=True)
class ResMLPConfig(SmallPatchesConfig):
    """Options of `resmlp`."""

    mlp_width: Annotated[int, Meta(ge=1, description="hidden units of each MLP")] = 512
    layer_scale: Annotated[
        float, Meta(gt=0, description="what each branch is multiplied by at first; the deeper, the smaller")
    ] = 0.1


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """Options of `clip`."""

    image_size: ImageSize = 224
    in_channels: Channels = 3
    patch_size: PatchSize = 32
    vision_width: Annotated[int, Meta(ge=1, description="features of a patch")] = 768
    vision_blocks: Annotated[int, Meta(ge=1, description="blocks of the tower of images")] = 12
    vision_heads: Annotated[int, Meta(ge=1, description="its attention heads, which share the width")] = 12
    vocabulary: Annotated[int, Meta(ge=2, description="tokens that exist; the last one ends a text")] = 49408
    context: Annotated[int, Meta(ge=1, description="the most tokens of a text")] = 77
    text_width: Annotated[int, Meta(ge=1, description="features of a token")] = 512
    text_blocks: Annotated[int, Meta(ge=1, description="blocks of the tower of texts")] = 12
    text_heads: Annotated[int, Meta(ge=1, description="its attention heads, which share the width")] = 8
    embedding: Annotated[int, Meta(ge=1, description="features of an embedding")] = 512
    activation: Annotated[
        Literal["quick_gelu", "gelu"],
        Meta(
            description="activation in the MLPs, quick_gelu (OpenAI's weights) or gelu (many later ones); "
            "weights load into either, and the wrong one gives wrong results"
        ),
    ] = "quick_gelu"
    similarity: Annotated[
        bool, Meta(description="return the similarity of each image and text, beside their embeddings")
    ] = True

    def __post_init__(self) -> None:
        check_patches(self.image_size, self.patch_size)
        check_heads(self.vision_width, self.vision_heads)
        check_heads(self.text_width, self.text_heads)
