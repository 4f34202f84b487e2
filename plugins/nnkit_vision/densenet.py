"""DenseNet: each layer reads the outputs of all layers before it, so that no feature is computed twice.

Huang, Liu, van der Maaten and Weinberger 2016, "Densely Connected Convolutional Networks",
https://arxiv.org/abs/1608.06993, in the form DenseNet-BC. Names, initialization and arithmetic are
torchvision's, whose state dicts load as they are.

    x_l = H_l([x_0, x_1, …, x_{l-1}])            [ ] joins along the channels
    H_l = 3×3 · relu(bn(1×1 · relu(bn(x))))      B: the 1×1 reduces to 4k channels
    transition = pool(1×1 · relu(bn(x)))         C: half the channels, half the size

Each layer adds only k channels, the growth rate. Four dense blocks keep the size; the transitions between
them halve it. Normalization comes before the convolution: each reader scales what it reads in its own way.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import DenseNetConfig


class DenseLayer(nn.Module):
    """H_l: (B, in_channels, H, W) → (B, growth, H, W)."""

    def __init__(self, in_channels: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * growth, growth, kernel_size=3, padding=1, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return the new features of a layer that reads x."""
        x = self.conv1(self.relu1(self.norm1(x)))  # (B, 4·growth, H, W)
        features: Tensor = self.conv2(self.relu2(self.norm2(x)))  # (B, growth, H, W)
        return F.dropout(features, self.dropout, self.training) if self.dropout else features


class DenseBlock(nn.ModuleDict):
    """`depth` layers: (B, in_channels, H, W) → (B, in_channels + depth·growth, H, W)."""

    def __init__(self, depth: int, in_channels: int, growth: int, dropout: float) -> None:
        super().__init__(
            (f"denselayer{i + 1}", DenseLayer(in_channels + i * growth, growth, dropout))
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x and the features of every layer, joined along the channels."""
        features = [x]
        for layer in self.values():
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


def transition(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return what lies between two blocks: (B, in_channels, H, W) → (B, out_channels, H/2, W/2)."""
    layers: list[tuple[str, nn.Module]] = [
        ("norm", nn.BatchNorm2d(in_channels)),
        ("relu", nn.ReLU(inplace=True)),
        ("conv", nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)),
        ("pool", nn.AvgPool2d(kernel_size=2, stride=2)),
    ]
    return nn.Sequential(OrderedDict(layers))


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between them, and a linear layer on the mean over the image.

    (B, in_channels, H, W) → (B, num_classes). growth: how many channels a layer adds. depths: how many
    layers each block has. stem: the channels of the first convolution.
    """

    def __init__(self, growth: int, depths: Sequence[int], stem: int, config: DenseNetConfig) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module(
            "conv0", nn.Conv2d(config.in_channels, stem, kernel_size=7, stride=2, padding=3, bias=False)
        )
        self.features.add_module("norm0", nn.BatchNorm2d(stem))
        self.features.add_module("relu0", nn.ReLU(inplace=True))
        self.features.add_module("pool0", nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
        channels = stem
        for i, depth in enumerate(depths, 1):
            block = DenseBlock(depth, channels, growth, config.dropout)
            self.features.add_module(f"denseblock{i}", block)
            channels += depth * growth
            if i < len(depths):
                self.features.add_module(f"transition{i}", transition(channels, channels // 2))
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, config.num_classes)
        self.apply(init_weights)
        self.register_load_state_dict_pre_hook(rename_old_keys)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.features(image)  # (B, C, H/32, W/32), C = 1024 in densenet121
        x = F.relu(x, inplace=True)
        x = F.adaptive_avg_pool2d(x, (1, 1))  # (B, C, 1, 1)
        x = torch.flatten(x, 1)  # (B, C)
        logits: Tensor = self.classifier(x)
        return logits


def init_weights(module: nn.Module) -> None:
    """Draw a layer as torchvision does: convolutions by their fan-in, linear layers without bias."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def rename_old_keys(module: nn.Module, state_dict: dict[str, Any], *_: object) -> None:
    """Rename `norm.1` to `norm1` and so on: torchvision's published files are older than its names."""
    for key in list(state_dict):
        renamed = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)
        if renamed != key:
            state_dict[renamed] = state_dict.pop(key)


def densenet121(config: DenseNetConfig) -> DenseNet:
    """Return DenseNet-121."""
    return DenseNet(32, (6, 12, 24, 16), 64, config)


def densenet161(config: DenseNetConfig) -> DenseNet:
    """Return DenseNet-161, which is wider: the growth rate is 48."""
    return DenseNet(48, (6, 12, 36, 24), 96, config)


def densenet169(config: DenseNetConfig) -> DenseNet:
    """Return DenseNet-169."""
    return DenseNet(32, (6, 12, 32, 32), 64, config)


def densenet201(config: DenseNetConfig) -> DenseNet:
    """Return DenseNet-201."""
    return DenseNet(32, (6, 12, 48, 32), 64, config)
