"""EfficientNet: one small network, scaled in depth, width and image size together.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
https://arxiv.org/abs/1905.11946. Names, initialization and arithmetic are torchvision's, whose state dicts
load as they are.

    depth d = α^φ,  width w = β^φ,  image size r = γ^φ     α = 1.2, β = 1.1, γ = 1.15
    α · β² · γ² ≈ 2, so that each step of φ costs twice the work

B0 is the network that a search found (Table 1); B1 to B7 are B0 with the w and d below. Each block is an
inverted residual (inverted_residual.py) with SiLU, x · sigmoid(x), which the paper calls swish. In training,
stochastic depth leaves out the more branches the deeper they lie.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nnkit_vision.configs import EfficientNetConfig
from nnkit_vision.inverted_residual import InvertedResidual, Norm, SqueezeExcitation, conv_norm, rounded

SILU = partial(nn.SiLU, inplace=True)


class Stage(NamedTuple):
    """A stage of B0: a row of Table 1."""

    expansion: int  # how many times more channels a block has inside
    kernel_size: int
    stride: int  # of the first block
    channels: int
    depth: int


B0 = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


class EfficientNet(nn.Module):
    """A stem, seven stages, a 1×1, the mean and a linear layer: (B, in_channels, H, W) → (B, num_classes).

    width, depth: w and d, by which the channels and the blocks of each stage of B0 are multiplied.
    """

    def __init__(self, width: float, depth: float, norm: Norm, config: EfficientNetConfig) -> None:
        super().__init__()
        channels = rounded(32 * width)
        layers: list[nn.Module] = [conv_norm(config.in_channels, channels, 3, norm, SILU, stride=2)]
        depths = [math.ceil(stage.depth * depth) for stage in B0]
        drops = [config.stochastic_depth * i / sum(depths) for i in range(sum(depths))]
        for stage, blocks in zip(B0, depths, strict=True):
            out_channels = rounded(stage.channels * width)
            stage_drops, drops = drops[:blocks], drops[blocks:]
            first = mb_conv(channels, out_channels, stage, stage.stride, norm, stage_drops[0])
            rest = (mb_conv(out_channels, out_channels, stage, 1, norm, drop) for drop in stage_drops[1:])
            layers.append(nn.Sequential(first, *rest))
            channels = out_channels
        layers.append(conv_norm(channels, 4 * channels, 1, norm, SILU))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Dropout(config.dropout, inplace=True), nn.Linear(4 * channels, config.num_classes)
        )
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.features(image)  # (B, C, H/32, W/32), C = 1280 in B0
        x = self.avgpool(x)  # (B, C, 1, 1)
        x = torch.flatten(x, 1)  # (B, C)
        logits: Tensor = self.classifier(x)
        return logits


def mb_conv(
    in_channels: int, out_channels: int, stage: Stage, stride: int, norm: Norm, drop: float
) -> InvertedResidual:
    """Return MBConv, the block: (B, in_channels, H, W) → (B, out_channels, H/stride, W/stride)."""
    expanded = stage.expansion * in_channels
    weights = SqueezeExcitation(expanded, in_channels // 4, nn.SiLU(inplace=True), nn.Sigmoid())
    return InvertedResidual(
        in_channels, expanded, out_channels, stage.kernel_size, stride, norm, SILU, weights, drop
    )


def init_weights(module: nn.Module) -> None:
    """Draw a layer as torchvision does: convolutions by their fan-out, linear layers up to 1/√outputs."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        limit = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -limit, limit)
        nn.init.zeros_(module.bias)


# torchvision's weights of B5 to B7 come from the authors, and with them the constants of their normalization.
AUTHORS_NORM = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


def efficientnet_b0(config: EfficientNetConfig) -> EfficientNet:
    """Return EfficientNet-B0, for images of 224×224."""
    return EfficientNet(1.0, 1.0, nn.BatchNorm2d, config)


def efficientnet_b1(config: EfficientNetConfig) -> EfficientNet:
    """Return EfficientNet-B1, for images of 240×240."""
    return EfficientNet(1.0, 1.1, nn.BatchNorm2d, config)


def efficientnet_b2(config: EfficientNetConfig) -> EfficientNet:
    """Return EfficientNet-B2, for images of 260×260, or 288×288 in torchvision."""
    return EfficientNet(1.1, 1.2, nn.BatchNorm2d, config)


def efficientnet_b3(config: EfficientNetConfig) -> EfficientNet:
    """Return EfficientNet-B3, for images of 300×300."""
    return EfficientNet(1.2, 1.4, nn.BatchNorm2d, config)


def efficientnet_b4(config: EfficientNetConfig) -> EfficientNet:
    """Return EfficientNet-B4, for images of 380×380."""
    return EfficientNet(1.4, 1.8, nn.BatchNorm2d, config)


def efficientnet_b5(config: EfficientNetConfig) -> EfficientNet:
    """Return EfficientNet-B5, for images of 456×456."""
    return EfficientNet(1.6, 2.2, AUTHORS_NORM, config)


def efficientnet_b6(config: EfficientNetConfig) -> EfficientNet:
    """Return EfficientNet-B6, for images of 528×528."""
    return EfficientNet(1.8, 2.6, AUTHORS_NORM, config)


def efficientnet_b7(config: EfficientNetConfig) -> EfficientNet:
    """Return EfficientNet-B7, for images of 600×600."""
    return EfficientNet(2.0, 3.1, AUTHORS_NORM, config)
