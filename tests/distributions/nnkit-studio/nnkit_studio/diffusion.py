"""Diffusion U-Net: the noise in a picture, which is as noisy as its timestep says.

Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models. NeurIPS 2020, https://arxiv.org/abs/2006.11239
Ho, Salimans: Classifier-Free Diffusion Guidance. 2022, https://arxiv.org/abs/2207.12598

    x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε;    ε̂ = unet(x_t, t, class),  trained to be ε

A picture without a class has the class "none", the last row of the embedding: guidance compares the two.
B batch, C channels of a level, D the width of the condition.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_studio.configs import DiffusionConfig

GROUPS = 4


class ConditionedBlock(nn.Module):
    """x (B, in, H, W), condition (B, D) -> (B, out, H, W): two convolutions with the condition between."""

    def __init__(self, in_channels: int, out_channels: int, condition: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(GROUPS, in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.condition = nn.Linear(condition, out_channels)
        self.norm_out = nn.GroupNorm(GROUPS, out_channels)
        self.conv_out = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)))  # (B, out, H, W)
        h = h + self.condition(F.silu(condition))[:, :, None, None]
        h = self.conv_out(F.silu(self.norm_out(h)))
        out: Tensor = h + self.skip(x)
        return out


class PixelAttention(nn.Module):
    """Self-attention among the pixels of x (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # (B, C, H W)
        weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(q.shape[1]), dim=-1)  # (B, H W, H W)
        mixed = (v @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])  # (B, C, H, W)
        out: Tensor = x + self.output(mixed)
        return out


class DiffusionUNet(nn.Module):
    """image (B, channels, H, W), timestep (B,) [, label (B,)] -> the noise in it, as large as the image."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        features, condition = config.features, 4 * config.features
        widths = [features * 2**level for level in range(config.levels + 1)]
        self.features, self.no_class = features, config.classes
        self.time = nn.Sequential(nn.Linear(features, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.label = nn.Embedding(config.classes + 1, condition)
        self.entry = nn.Conv2d(config.channels, features, 3, padding=1)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(ConditionedBlock(above, above, condition) for above, _ in pairs)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.middle = ConditionedBlock(widths[-1], widths[-1], condition)
        self.attention = PixelAttention(widths[-1])
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.up = nn.ModuleList(ConditionedBlock(2 * a, a, condition) for a, _ in reversed(pairs))
        self.norm = nn.GroupNorm(GROUPS, features)
        self.head = nn.Conv2d(features, config.channels, 3, padding=1)

    def forward(self, image: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        if label is None:
            label = torch.full_like(timestep, self.no_class)
        condition = self.time(waves(timestep, self.features).to(image.dtype)) + self.label(label)  # (B, D)
        x = self.entry(image)  # (B, features, H, W)
        skips = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            skips.append(block(x, condition))
            x = shrink(skips[-1])  # (B, 2 C, H / 2, W / 2)
        x = self.attention(self.middle(x, condition))
        for grow, block in zip(self.grow, self.up, strict=True):
            x = block(torch.cat((skips.pop(), grow(x)), dim=1), condition)  # (B, C / 2, 2 H, 2 W)
        noise: Tensor = self.head(F.silu(self.norm(x)))
        return noise  # (B, channels, H, W)


def waves(timestep: Tensor, width: int) -> Tensor:
    """Return cosines and sines of timesteps (B,) at wavelengths from 2π to 10000·2π: (B, width)."""
    index = torch.arange(width // 2, device=timestep.device, dtype=torch.float32)
    angles = timestep[:, None] * torch.exp(index * (-2 * math.log(10000.0) / width))  # (B, width / 2)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)
