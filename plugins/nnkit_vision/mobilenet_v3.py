"""MobileNetV3: inverted residuals that a search arranged for the latency of a phone.

Howard et al. 2019, "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244, its Tables 1 and 2. Names,
initialization and arithmetic are torchvision's, whose state dicts load as they are.

    y = classifier(mean(head(blocks(stem(x)))))
    hswish(x) = x · relu6(x + 3) / 6            close to x · sigmoid(x), without an exponential
    block       an inverted residual, see inverted_residual.py; its gate is relu6(x + 3) / 6, too

The last 1×1 that widens comes before the mean, the one that mixes after it, where it costs one pixel's work.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nnkit_vision.configs import MobileNetV3Config
from nnkit_vision.inverted_residual import InvertedResidual, SqueezeExcitation, conv_norm, rounded

NORM = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
RELU = partial(nn.ReLU, inplace=True)
HSWISH = partial(nn.Hardswish, inplace=True)


class Row(NamedTuple):
    """A block: a row of the paper's table, in the order of its columns."""

    kernel_size: int
    expanded: int
    out_channels: int
    squeeze: bool  # SE: weighs the channels
    hswish: bool  # NL: HS, else RE
    stride: int


LARGE = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 2),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 2),
    Row(5, 960, 160, True, True, 1),
    Row(5, 960, 160, True, True, 1),
)

SMALL = (
    Row(3, 16, 16, True, False, 2),
    Row(3, 72, 24, False, False, 2),
    Row(3, 88, 24, False, False, 1),
    Row(5, 96, 40, True, True, 2),
    Row(5, 240, 40, True, True, 1),
    Row(5, 240, 40, True, True, 1),
    Row(5, 120, 48, True, True, 1),
    Row(5, 144, 48, True, True, 1),
    Row(5, 288, 96, True, True, 2),
    Row(5, 576, 96, True, True, 1),
    Row(5, 576, 96, True, True, 1),
)


class MobileNetV3(nn.Module):
    """A stem, the blocks of `rows`, a 1×1, the mean and two linear layers with `hidden` units between them.

    (B, in_channels, H, W) → (B, num_classes).
    """

    def __init__(self, rows: Sequence[Row], hidden: int, config: MobileNetV3Config) -> None:
        super().__init__()
        channels = 16
        layers: list[nn.Module] = [conv_norm(config.in_channels, channels, 3, NORM, HSWISH, stride=2)]
        for row in rows:
            layers.append(block(channels, row))
            channels = row.out_channels
        layers.append(conv_norm(channels, 6 * channels, 1, NORM, HSWISH))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, hidden),
            nn.Hardswish(inplace=True),
            nn.Dropout(config.dropout, inplace=True),
            nn.Linear(hidden, config.num_classes),
        )
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.features(image)  # (B, C, H/32, W/32), C = 960 (large) or 576 (small)
        x = self.avgpool(x)  # (B, C, 1, 1)
        x = torch.flatten(x, 1)  # (B, C)
        logits: Tensor = self.classifier(x)
        return logits


def block(in_channels: int, row: Row) -> InvertedResidual:
    """Return the block of a row: (B, in_channels, H, W) → (B, out_channels, H/stride, W/stride)."""
    squeeze_excitation = None
    if row.squeeze:
        squeezed = rounded(row.expanded // 4)
        squeeze_excitation = SqueezeExcitation(row.expanded, squeezed, nn.ReLU(), nn.Hardsigmoid())
    return InvertedResidual(
        in_channels,
        row.expanded,
        row.out_channels,
        row.kernel_size,
        row.stride,
        NORM,
        HSWISH if row.hswish else RELU,
        squeeze_excitation,
    )


def init_weights(module: nn.Module) -> None:
    """Draw a layer as torchvision does: convolutions by their fan-out, linear layers of deviation 0.01."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def mobilenet_v3_large(config: MobileNetV3Config) -> MobileNetV3:
    """Return MobileNetV3-Large (Table 1)."""
    return MobileNetV3(LARGE, 1280, config)


def mobilenet_v3_small(config: MobileNetV3Config) -> MobileNetV3:
    """Return MobileNetV3-Small (Table 2)."""
    return MobileNetV3(SMALL, 1024, config)
