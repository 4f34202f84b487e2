"""U-Net: what is where in an image, from features at several resolutions.

Ronneberger, Fischer and Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
https://arxiv.org/abs/1505.04597, its Figure 1, with padded convolutions.

    e_0 = f(image),  e_i = f(pool(e_{i-1}))          down the left side: half the size, twice the channels
    d_L = e_L,  d_{i-1} = f([e_{i-1}, up(d_i)])      up the right side; [ ] joins along the channels
    y = W d_0                                        a score for each class at each pixel
    f(x) = relu(3×3 · relu(3×3 · x))

The left side finds out what is in the image and forgets where; the connections across the U bring back where.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import UNetConfig


class UNet(nn.Module):
    """(B, in_channels, H, W) → (B, num_classes, H, W), H and W multiples of 2^levels."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths = [config.channels * 2**level for level in range(config.levels + 1)]
        before = [config.in_channels, *widths]
        self.encoder = nn.ModuleList(
            double_conv(before[level], widths[level], config.batch_norm) for level in range(config.levels)
        )
        self.bottom = double_conv(before[config.levels], widths[config.levels], config.batch_norm)
        self.dropout = nn.Dropout(config.dropout)
        upwards = list(reversed(range(config.levels)))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], kernel_size=2, stride=2) for level in upwards
        )
        self.decoder = nn.ModuleList(
            double_conv(2 * widths[level], widths[level], config.batch_norm) for level in upwards
        )
        self.head = nn.Conv2d(config.channels, config.num_classes, kernel_size=1)
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each pixel."""
        x, across = image, []
        for block in self.encoder:  # level i begins with (B, channels·2^(i-1), H/2^i, W/2^i)
            x = block(x)  # (B, channels·2^i, H/2^i, W/2^i)
            across.append(x)
            x = F.max_pool2d(x, 2)  # (B, channels·2^i, H/2^(i+1), W/2^(i+1))
        x = self.dropout(self.bottom(x))  # (B, channels·2^levels, H/2^levels, W/2^levels)
        for up, block in zip(self.up, self.decoder, strict=True):
            x = torch.cat([across.pop(), up(x)], 1)  # (B, 2·channels·2^i, H/2^i, W/2^i)
            x = block(x)  # (B, channels·2^i, H/2^i, W/2^i)
        scores: Tensor = self.head(x)  # (B, num_classes, H, W)
        return scores


def double_conv(in_channels: int, out_channels: int, batch_norm: bool) -> nn.Sequential:
    """Return f: (B, in_channels, H, W) → (B, out_channels, H, W)."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def init_weights(module: nn.Module) -> None:
    """Draw weights of deviation √(2/N), where N numbers go into each result, as section 3 says."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        kernel = math.prod(module.kernel_size)
        # The squares of an up-convolution don't overlap, so one number of each channel goes into a result.
        numbers = module.in_channels * (1 if isinstance(module, nn.ConvTranspose2d) else kernel)
        nn.init.normal_(module.weight, std=math.sqrt(2 / numbers))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
