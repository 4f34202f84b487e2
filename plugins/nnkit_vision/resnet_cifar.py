"""The ResNets of 20 to 110 layers for CIFAR: thin, three stages, shortcuts without parameters.

He, Zhang, Ren and Sun 2015, section 4.2, https://arxiv.org/abs/1512.03385.

    y = relu(F(x) + x)       where the shape stays
    y = relu(F(x) + pad(x))  where a stage begins: every second pixel, zeros for the new channels
                             (option A)

A 3×3 convolution, then three stages of n basic blocks with 16, 32 and 64 channels at 32, 16 and 8
pixels, the mean over the image and a linear layer: 6n + 2 layers with weights.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import CIFARResNetConfig
from nnkit_vision.resnet import BasicBlock, conv3x3, init_convolutions, stage


class ZeroPadShortcut(nn.Module):
    """Every second pixel, zeros for the new channels: (B, C, H, W) → (B, C + new_channels, ⌈H/2⌉, ⌈W/2⌉)."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.new_channels = new_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the shortcut of x."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.new_channels))

    def extra_repr(self) -> str:
        """Show the one option."""
        return f"new_channels={self.new_channels}"


def zero_pad(in_channels: int, out_channels: int, stride: int) -> ZeroPadShortcut | None:
    """Return the shortcut of option A, or None where the input can be added as it is."""
    return None if stride == 1 else ZeroPadShortcut(out_channels - in_channels)


class CIFARResNet(nn.Module):
    """Three stages of `blocks` basic blocks: (B, in_channels, H, W) → (B, num_classes)."""

    def __init__(self, blocks: int, config: CIFARResNetConfig) -> None:
        super().__init__()
        block = partial(BasicBlock, shortcut=zero_pad)
        self.conv1 = conv3x3(config.in_channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = stage(block, blocks, 16, 16, stride=1)
        self.layer2 = stage(block, blocks, 16, 32, stride=2)
        self.layer3 = stage(block, blocks, 32, 64, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(64, config.num_classes)
        init_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.relu(self.bn1(self.conv1(image)))  # (B, 16, H, W)
        x = self.layer1(x)  # (B, 16, H, W)
        x = self.layer2(x)  # (B, 32, H/2, W/2)
        x = self.layer3(x)  # (B, 64, H/4, W/4)
        x = self.avgpool(x)  # (B, 64, 1, 1)
        x = torch.flatten(x, 1)  # (B, 64)
        logits: Tensor = self.fc(x)
        return logits


def resnet20(config: CIFARResNetConfig) -> CIFARResNet:
    """Return ResNet-20."""
    return CIFARResNet(3, config)


def resnet32(config: CIFARResNetConfig) -> CIFARResNet:
    """Return ResNet-32."""
    return CIFARResNet(5, config)


def resnet44(config: CIFARResNetConfig) -> CIFARResNet:
    """Return ResNet-44."""
    return CIFARResNet(7, config)


def resnet56(config: CIFARResNetConfig) -> CIFARResNet:
    """Return ResNet-56."""
    return CIFARResNet(9, config)


def resnet110(config: CIFARResNetConfig) -> CIFARResNet:
    """Return ResNet-110."""
    return CIFARResNet(18, config)
