"""VGG: depth from small filters only. Two 3×3 convolutions see as far as one 5×5, at a lower cost.

Simonyan and Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
https://arxiv.org/abs/1409.1556, configurations A, B, D and E of its Table 1; with batch normalization
as torchvision adds it. Names, initialization and arithmetic are torchvision's, whose state dicts load
as they are.

    y = classifier(flatten(avgpool(features(x))))
    features    five stages of 3×3 convolutions with ReLUs, each closed by a pool that halves the size
    classifier  4096, 4096, num_classes
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnkit_vision.configs import VGGConfig
from nnkit_vision.pooling import AdaptiveAvgPool2d

WIDTHS = (64, 128, 256, 512, 512)

# Convolutions per stage.
A = (1, 1, 2, 2, 2)
B = (2, 2, 2, 2, 2)
D = (2, 2, 3, 3, 3)
E = (2, 2, 4, 4, 4)


class VGG(nn.Module):
    """Stages of 3×3 convolutions and three linear layers: (B, in_channels, H, W) → (B, num_classes).

    The means over a 7×7 grid allow any size from 32×32, which five pools halve to 1×1.
    """

    def __init__(self, depths: Sequence[int], batch_norm: bool, config: VGGConfig) -> None:
        super().__init__()
        stages = [
            stage(depth, before, width, batch_norm)
            for depth, (before, width) in zip(depths, pairwise((config.in_channels, *WIDTHS)), strict=True)
        ]
        self.features = nn.Sequential(*(layer for layers in stages for layer in layers))
        self.avgpool = AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(4096, config.num_classes),
        )
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.features(image)  # (B, 512, H/32, W/32)
        x = self.avgpool(x)  # (B, 512, 7, 7)
        x = torch.flatten(x, 1)  # (B, 25088)
        logits: Tensor = self.classifier(x)
        return logits


def stage(depth: int, in_channels: int, out_channels: int, batch_norm: bool) -> list[nn.Module]:
    """Return `depth` convolutions and a pool: (B, in_channels, H, W) → (B, out_channels, H/2, W/2)."""
    layers: list[nn.Module] = []
    for channels in (in_channels, *[out_channels] * (depth - 1)):
        layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
    return [*layers, nn.MaxPool2d(kernel_size=2, stride=2)]


def init_weights(module: nn.Module) -> None:
    """Draw a layer as torchvision does: convolutions by their fan-out, linear layers of deviation 0.01."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def vgg11(config: VGGConfig) -> VGG:
    """Return VGG-11 (configuration A)."""
    return VGG(A, False, config)


def vgg11_bn(config: VGGConfig) -> VGG:
    """Return VGG-11 with batch normalization."""
    return VGG(A, True, config)


def vgg13(config: VGGConfig) -> VGG:
    """Return VGG-13 (configuration B)."""
    return VGG(B, False, config)


def vgg13_bn(config: VGGConfig) -> VGG:
    """Return VGG-13 with batch normalization."""
    return VGG(B, True, config)


def vgg16(config: VGGConfig) -> VGG:
    """Return VGG-16 (configuration D)."""
    return VGG(D, False, config)


def vgg16_bn(config: VGGConfig) -> VGG:
    """Return VGG-16 with batch normalization."""
    return VGG(D, True, config)


def vgg19(config: VGGConfig) -> VGG:
    """Return VGG-19 (configuration E)."""
    return VGG(E, False, config)


def vgg19_bn(config: VGGConfig) -> VGG:
    """Return VGG-19 with batch normalization."""
    return VGG(E, True, config)
