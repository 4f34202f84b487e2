"""U-Net: an encoder that halves the picture, a decoder that doubles it, and a bridge at each level.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
https://arxiv.org/abs/1505.04597

    e_0 = f(x),  e_i = f(pool(e_{i-1}));    d_n = e_n,  d_{i-1} = f(e_{i-1} ‖ up(d_i));    y = W d_0

f is two 3×3 convolutions with ReLU. They are padded here, so that the output is as large as the picture.
Weights are drawn with variance 2 / N for N inputs of a unit, so that no level fades (section 3 of the paper).
"""

import itertools

import torch
from torch import Tensor, nn

from nnkit_studio.configs import UNetConfig


def double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """f of the equation: (B, in, H, W) -> (B, out, H, W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Scores of each pixel: image (B, in_channels, H, W) -> (B, classes, H, W), H and W by 2**levels."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        widths = [config.features * 2**level for level in range(config.levels + 1)]
        self.entry = double_convolution(config.in_channels, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), double_convolution(above, below))
            for above, below in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * above, above, 2, stride=2) for above in reversed(widths[:-1])
        )
        self.merge = nn.ModuleList(double_convolution(2 * above, above) for above in reversed(widths[:-1]))
        self.head = nn.Conv2d(widths[0], config.classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        features = [self.entry(image)]  # (B, features, H, W)
        for down in self.down:
            features.append(down(features[-1]))  # (B, 2 C, H / 2, W / 2)
        x = features.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat((features.pop(), up(x)), dim=1))  # (B, C / 2, 2 H, 2 W)
        scores: Tensor = self.head(x)
        return scores  # (B, classes, H, W)
