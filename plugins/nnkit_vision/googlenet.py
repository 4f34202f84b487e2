"""GoogLeNet (Inception v1): every layer looks at four scales at once and joins what it sees.

Szegedy et al. 2014, "Going Deeper with Convolutions", https://arxiv.org/abs/1409.4842, in torchvision's
form, whose state dicts load as they are: batch normalization (eps 10⁻³) after each convolution, and a
3×3 where the paper has a 5×5 (https://github.com/pytorch/vision/issues/906). The paper's own network is
`googlenet_2014.py`.

    inception(x) = cat(1×1 · x,  3×3 · 1×1 · x,  5×5 · 1×1 · x,  1×1 · pool(x))

The 1×1 before each wide convolution makes it cheap: it sees fewer channels. In training, two auxiliary
heads classify from halfway up; their losses are added with weight 0.3.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import GoogLeNetConfig

# conv(in_channels, out_channels, kernel_size=…, stride=…, padding=…), its ReLU included
Conv: TypeAlias = Callable[..., nn.Module]
Head: TypeAlias = Callable[[int], nn.Module]


class GoogLeNetOutput(NamedTuple):
    """What a GoogLeNet with auxiliary heads returns in training, in torchvision's order."""

    logits: Tensor
    aux2: Tensor
    aux1: Tensor


class ConvNorm(nn.Module):
    """A convolution without bias, batch normalization and a ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(bn(conv(x)))."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Widths(NamedTuple):
    """How many channels the branches of one inception have: a row of the paper's Table 1."""

    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    pool: int


class Inception(nn.Module):
    """Four branches side by side: (B, in_channels, H, W) → (B, one + three + five + pool, H, W).

    `wide` is the kernel of the third branch: 5 in the paper, 3 in torchvision.
    """

    def __init__(self, in_channels: int, widths: Widths, conv: Conv, wide: int) -> None:
        super().__init__()
        self.branch1 = conv(in_channels, widths.one, kernel_size=1)
        self.branch2 = nn.Sequential(
            conv(in_channels, widths.reduce3, kernel_size=1),
            conv(widths.reduce3, widths.three, kernel_size=3, padding=1),
        )
        self.branch3 = nn.Sequential(
            conv(in_channels, widths.reduce5, kernel_size=1),
            conv(widths.reduce5, widths.five, kernel_size=wide, padding=wide // 2),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1),
            conv(in_channels, widths.pool, kernel_size=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return what the branches see, joined along the channels."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class AuxiliaryHead(nn.Module):
    """A classifier halfway up: (B, in_channels, H, W) → (B, num_classes), through `pool` to 4×4."""

    def __init__(
        self, in_channels: int, num_classes: int, dropout: float, conv: Conv, pool: nn.Module
    ) -> None:
        super().__init__()
        self.pool = pool
        self.conv = conv(in_channels, 128, kernel_size=1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.conv(self.pool(x))  # (B, 128, 4, 4)
        x = F.relu(self.fc1(torch.flatten(x, 1)))  # (B, 1024)
        logits: Tensor = self.fc2(self.dropout(x))
        return logits


class Inceptions(nn.Module):
    """What both GoogLeNets share: stem, nine inceptions, classifier: (B, C, H, W) → (B, num_classes).

    conv: makes a convolution with its ReLU. wide: the kernel of the inceptions' third branch.
    last_pool: the kernel of the last pool. head: makes an auxiliary head over so many channels.
    """

    def __init__(self, config: GoogLeNetConfig, conv: Conv, wide: int, last_pool: int, head: Head) -> None:
        super().__init__()
        inception = partial(Inception, conv=conv, wide=wide)
        self.conv1 = conv(config.in_channels, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        self.conv2 = conv(64, 64, kernel_size=1)
        self.conv3 = conv(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        self.inception3a = inception(192, Widths(64, 96, 128, 16, 32, 32))
        self.inception3b = inception(256, Widths(128, 128, 192, 32, 96, 64))
        self.maxpool3 = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        self.inception4a = inception(480, Widths(192, 96, 208, 16, 48, 64))
        self.inception4b = inception(512, Widths(160, 112, 224, 24, 64, 64))
        self.inception4c = inception(512, Widths(128, 128, 256, 24, 64, 64))
        self.inception4d = inception(512, Widths(112, 144, 288, 32, 64, 64))
        self.inception4e = inception(528, Widths(256, 160, 320, 32, 128, 128))
        self.maxpool4 = nn.MaxPool2d(kernel_size=last_pool, stride=2, ceil_mode=True)
        self.inception5a = inception(832, Widths(256, 160, 320, 32, 128, 128))
        self.inception5b = inception(832, Widths(384, 192, 384, 48, 128, 128))
        self.aux1 = head(512) if config.aux_logits else None
        self.aux2 = head(528) if config.aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(1024, config.num_classes)

    def stem(self, image: Tensor) -> Tensor:
        """Return the image at an eighth of its size: (B, C, H, W) → (B, 192, H/8, W/8)."""
        x = self.maxpool1(self.conv1(image))  # (B, 64, H/4, W/4)
        x = self.conv3(self.conv2(x))  # (B, 192, H/4, W/4)
        pooled: Tensor = self.maxpool2(x)
        return pooled

    def forward(self, image: Tensor) -> Tensor | GoogLeNetOutput:
        """Return the class scores (logits); in training with the auxiliary heads also theirs."""
        x = self.stem(image)  # (B, 192, H/8, W/8)
        x = self.inception3b(self.inception3a(x))  # (B, 480, H/8, W/8)
        x = low = self.inception4a(self.maxpool3(x))  # (B, 512, H/16, W/16)
        x = self.inception4c(self.inception4b(x))  # (B, 512, H/16, W/16)
        x = high = self.inception4d(x)  # (B, 528, H/16, W/16)
        x = self.maxpool4(self.inception4e(x))  # (B, 832, H/32, W/32)
        x = self.inception5b(self.inception5a(x))  # (B, 1024, H/32, W/32)
        x = torch.flatten(self.avgpool(x), 1)  # (B, 1024)
        logits: Tensor = self.fc(self.dropout(x))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return GoogLeNetOutput(logits, aux2=self.aux2(high), aux1=self.aux1(low))
        return logits


class GoogLeNet(Inceptions):
    """torchvision's GoogLeNet: (B, in_channels, H, W) → (B, num_classes).

    With `aux_logits`, training returns (logits, aux2, aux1); evaluation always returns the logits alone.
    """

    def __init__(self, config: GoogLeNetConfig) -> None:
        def head(in_channels: int) -> AuxiliaryHead:
            pool = nn.AdaptiveAvgPool2d((4, 4))
            return AuxiliaryHead(in_channels, config.num_classes, config.dropout_aux, ConvNorm, pool)

        super().__init__(config, ConvNorm, wide=3, last_pool=2, head=head)
        self.apply(init_weights)


def init_weights(module: nn.Module) -> None:
    """Draw weights as torchvision does: normal, of deviation 0.01."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.01, a=-2, b=2)
