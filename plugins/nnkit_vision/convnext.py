"""ConvNeXt: a ResNet rebuilt step by step after the Transformer, with nothing but convolutions.

Liu, Mao, Wu, Feichtenhofer, Darrell and Xie 2022, "A ConvNet for the 2020s",
https://arxiv.org/abs/2201.03545. Names, initialization and arithmetic are torchvision's, whose state dicts
load as they are.

    y = x + γ ⊙ W₂ gelu(W₁ LayerNorm(depthwise 7×7 · x))     γ one number a channel, at first 10⁻⁶

The depthwise 7×7 mixes positions and nothing else, as attention does; W₁ and W₂ mix the four times wider
channels of one position, as the Transformer's MLP does. Four stages of blocks; a 4×4 convolution of stride 4
cuts the image into patches, and a 2×2 of stride 2 halves the size between stages.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import ConvNeXtConfig
from nnkit_vision.stochastic_depth import StochasticDepth

EPS = 1e-6


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization of each pixel's channels: (B, C, H, W) → (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized."""
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)  # (B, C, H, W)


class Permute(nn.Module):
    """Reorders the axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """Return a view of x whose axis i is the axis axes[i] of x."""
        return x.permute(self.axes)


class Block(nn.Module):
    """A residual block: (B, C, H, W) → (B, C, H, W). drop: how often its branch is left out in training."""

    def __init__(self, channels: int, layer_scale: float, drop: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=7, padding=3, groups=channels),
            Permute(0, 2, 3, 1),  # (B, H, W, C)
            nn.LayerNorm(channels, eps=EPS),
            nn.Linear(channels, 4 * channels),  # (B, H, W, 4·C)
            nn.GELU(),
            nn.Linear(4 * channels, channels),  # (B, H, W, C)
            Permute(0, 3, 1, 2),  # (B, C, H, W)
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), layer_scale))
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + γ ⊙ branch of x."""
        y: Tensor = self.stochastic_depth(self.layer_scale * self.block(x))
        y += x
        return y


class ConvNeXt(nn.Module):
    """Patches, four stages with halvings between them, the mean and a linear layer.

    (B, in_channels, H, W) → (B, num_classes). Stage i has `depths[i]` blocks of `widths[i]` channels.
    """

    def __init__(self, depths: Sequence[int], widths: Sequence[int], config: ConvNeXtConfig) -> None:
        super().__init__()
        blocks = sum(depths)
        drops = iter([config.stochastic_depth * i / (blocks - 1) for i in range(blocks)])
        layers: list[nn.Module] = [
            nn.Sequential(
                nn.Conv2d(config.in_channels, widths[0], kernel_size=4, stride=4), LayerNorm2d(widths[0], EPS)
            )
        ]
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if i > 0:
                layers.append(halving(widths[i - 1], width))
            layers.append(
                nn.Sequential(*(Block(width, config.layer_scale, next(drops)) for _ in range(depth)))
            )
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            LayerNorm2d(widths[-1], EPS), nn.Flatten(1), nn.Linear(widths[-1], config.num_classes)
        )
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.features(image)  # (B, widths[-1], H/32, W/32)
        x = self.avgpool(x)  # (B, widths[-1], 1, 1)
        logits: Tensor = self.classifier(x)
        return logits


def halving(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return what lies between two stages: (B, in_channels, H, W) → (B, out_channels, H/2, W/2)."""
    return nn.Sequential(
        LayerNorm2d(in_channels, EPS), nn.Conv2d(in_channels, out_channels, kernel_size=2, stride=2)
    )


def init_weights(module: nn.Module) -> None:
    """Draw a layer as torchvision does: normal, of deviation 0.02, biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def convnext_tiny(config: ConvNeXtConfig) -> ConvNeXt:
    """Return ConvNeXt-T, of the cost of ResNet-50."""
    return ConvNeXt((3, 3, 9, 3), (96, 192, 384, 768), config)


def convnext_small(config: ConvNeXtConfig) -> ConvNeXt:
    """Return ConvNeXt-S, three times as deep in its third stage."""
    return ConvNeXt((3, 3, 27, 3), (96, 192, 384, 768), config)


def convnext_base(config: ConvNeXtConfig) -> ConvNeXt:
    """Return ConvNeXt-B."""
    return ConvNeXt((3, 3, 27, 3), (128, 256, 512, 1024), config)


def convnext_large(config: ConvNeXtConfig) -> ConvNeXt:
    """Return ConvNeXt-L."""
    return ConvNeXt((3, 3, 27, 3), (192, 384, 768, 1536), config)
