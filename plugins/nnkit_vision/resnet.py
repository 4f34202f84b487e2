"""ResNet: each block learns what to add to its input, so that depth never makes a network worse.

He, Zhang, Ren and Sun 2015, "Deep Residual Learning for Image Recognition",
https://arxiv.org/abs/1512.03385. Names, initialization and arithmetic are torchvision's, whose
state dicts load as they are.

    y = relu(F(x) + x)       where the shape stays
    y = relu(F(x) + W_s x)   where a stage begins: W_s is a strided 1×1 convolution (option B)

    basic block   F = bn(3×3 · relu(bn(3×3 · x)))
    bottleneck    F = bn(1×1 · relu(bn(3×3 · relu(bn(1×1 · x))))), four times wider on leaving

Four stages of 64, 128, 256 and 512 channels; the first keeps the size, each other halves it. The
bottleneck halves in its 3×3 convolution (v1.5, torchvision's) or in its first 1×1 (v1, the paper's).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from nnkit_vision.configs import BottleneckResNetConfig, ResNetConfig

Block: TypeAlias = Callable[[int, int, int], nn.Module]
Shortcut: TypeAlias = Callable[[int, int, int], nn.Module | None]


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3×3 convolution that keeps the size, apart from its stride."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 1×1 convolution: a linear map of each pixel's channels."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)


def conv7x7(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return the 7×7 convolution that begins an ImageNet network and halves the size."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=7, stride=2, padding=3, bias=False)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Return the projection W_s of a shortcut, or None where the input can be added unchanged."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: (B, in_channels, H, W) → (B, out_channels, H/stride, W/stride).

    The ResNets for CIFAR use this block too, with a `shortcut` that has no parameters.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, shortcut: Shortcut = projection
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + shortcut of x)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        y: Tensor = self.relu(out)  # typed here: calling a module returns Any
        return y


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut.

    (B, in_channels, H, W) → (B, out_channels, H/stride, W/stride). The 3×3 works on a quarter of
    `out_channels`. The stride is there (`v1.5`) or in the first 1×1 (`v1`), which drops three pixels in four
    before any layer has seen them. Its shortcut is no parameter: only ResNets for ImageNet use this block.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, variant: Literal["v1.5", "v1"] = "v1.5"
    ) -> None:
        super().__init__()
        channels = out_channels // 4
        first, middle = (stride, 1) if variant == "v1" else (1, stride)
        self.conv1 = conv1x1(in_channels, channels, first)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, middle)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + shortcut of x)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        y: Tensor = self.relu(out)  # typed here: calling a module returns Any
        return y


class ResNet(nn.Module):
    """A stem, four stages of residual blocks, the mean over the image and a linear layer.

    (B, in_channels, H, W) → (B, num_classes). `block(in_channels, out_channels, stride)` makes one
    block; stage i has `depths[i]` of them and `widths[i]` channels. The sizes in `forward` are those
    of the ImageNet stem; the CIFAR stem keeps the size, and every stage is four times as large.
    """

    def __init__(
        self, block: Block, depths: Sequence[int], widths: Sequence[int], config: ResNetConfig
    ) -> None:
        super().__init__()
        small = config.stem == "cifar"
        self.conv1 = conv3x3(config.in_channels, 64) if small else conv7x7(config.in_channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = stage(block, depths[0], 64, widths[0], stride=1)
        self.layer2 = stage(block, depths[1], widths[0], widths[1], stride=2)
        self.layer3 = stage(block, depths[2], widths[1], widths[2], stride=2)
        self.layer4 = stage(block, depths[3], widths[2], widths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(widths[3], config.num_classes)
        init_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.relu(self.bn1(self.conv1(image)))  # (B, 64, H/2, W/2)
        x = self.maxpool(x)  # (B, 64, H/4, W/4)
        x = self.layer1(x)  # (B, widths[0], H/4, W/4)
        x = self.layer2(x)  # (B, widths[1], H/8, W/8)
        x = self.layer3(x)  # (B, widths[2], H/16, W/16)
        x = self.layer4(x)  # (B, widths[3], H/32, W/32)
        x = self.avgpool(x)  # (B, widths[3], 1, 1)
        x = torch.flatten(x, 1)  # (B, widths[3])
        logits: Tensor = self.fc(x)
        return logits


def stage(block: Block, depth: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Return `depth` blocks; the first one strides and widens."""
    rest = (block(out_channels, out_channels, 1) for _ in range(depth - 1))
    return nn.Sequential(block(in_channels, out_channels, stride), *rest)


def init_convolutions(model: nn.Module) -> None:
    """Draw each convolution by its fan-out, as He et al. 2015 (https://arxiv.org/abs/1502.01852) do.

    Fan-out keeps the size of the gradients. With torch's own default, a ResNet-18 that has learned 32
    images by heart misclassifies about a quarter of them in evaluation, where it uses running statistics.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def basic_resnet(depths: Sequence[int], config: ResNetConfig) -> ResNet:
    """Return a ResNet of basic blocks."""
    return ResNet(BasicBlock, depths, (64, 128, 256, 512), config)


def bottleneck_resnet(depths: Sequence[int], config: BottleneckResNetConfig) -> ResNet:
    """Return a ResNet of bottlenecks, with their stride where `config.variant` puts it."""
    block = partial(Bottleneck, variant=config.variant)
    return ResNet(block, depths, (256, 512, 1024, 2048), config)


def resnet18(config: ResNetConfig) -> ResNet:
    """Return ResNet-18."""
    return basic_resnet((2, 2, 2, 2), config)


def resnet34(config: ResNetConfig) -> ResNet:
    """Return ResNet-34."""
    return basic_resnet((3, 4, 6, 3), config)


def resnet50(config: BottleneckResNetConfig) -> ResNet:
    """Return ResNet-50."""
    return bottleneck_resnet((3, 4, 6, 3), config)


def resnet101(config: BottleneckResNetConfig) -> ResNet:
    """Return ResNet-101."""
    return bottleneck_resnet((3, 4, 23, 3), config)


def resnet152(config: BottleneckResNetConfig) -> ResNet:
    """Return ResNet-152."""
    return bottleneck_resnet((3, 8, 36, 3), config)
