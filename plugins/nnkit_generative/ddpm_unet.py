"""The U-Net of DDPM: it predicts the noise in an image, given how noisy the image is.

Ho, Jain and Abbeel 2020, "Denoising Diffusion Probabilistic Models", https://arxiv.org/abs/2006.11239,
Section 4 and Appendix B. Names of parameters are those of diffusers' UNet2DModel, whose files load as they
are; initialization is that of the paper's code.

    x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε,  ε ~ N(0, I)      an image x_0 with noise up to timestep t
    loss = ‖ε - ε_θ(x_t, t)‖²                        ε_θ is this network

    block   h = conv(silu(norm(x))) + W silu(time);  y = skip(x) + conv(dropout(silu(norm(h))))
    pixels  q, k, v = W norm(x);  y = x + W_o softmax(q kᵀ / √C) v

Each level has blocks, with attention among its pixels where that is chosen, and half the resolution of the
one above. Every feature map on the way down is kept, and joins its like on the way up.

B batch, C channels, H and W height and width of a feature map, T = 4·channels numbers that encode the time.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_generative.configs import DDPMUNetConfig

EPS = 1e-6
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 3×3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def waves(timestep: Tensor, width: int) -> Tensor:
    """Return sines and cosines of timesteps (B,), with periods from 2π to 20000π: (B, width), in float32."""
    half = width // 2
    index = torch.arange(half, device=timestep.device, dtype=torch.float32)
    frequencies = torch.exp(-math.log(10000) * index / (half - 1))
    angles = timestep[:, None] * frequencies  # (B, width / 2)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class TimeEmbedding(nn.Module):
    """The time, encoded for the blocks: timesteps (B,) → (B, 4 channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear_1 = nn.Linear(channels, 4 * channels)
        self.linear_2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, timestep: Tensor) -> Tensor:
        position = waves(timestep, self.channels).to(self.linear_1.weight.dtype)  # (B, channels)
        time: Tensor = self.linear_2(F.silu(self.linear_1(position)))
        return time


class ResidualBlock(nn.Module):
    """x (B, in_channels, H, W), silu of the time (B, T) → (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, config: DDPMUNetConfig) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.groups, in_channels, eps=EPS)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.time_emb_proj = nn.Linear(4 * config.channels, out_channels)
        self.norm2 = nn.GroupNorm(config.groups, out_channels, eps=EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.conv_shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, kernel_size=1)
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out_channels, H, W)
        h = h + self.time_emb_proj(time)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        y: Tensor = self.conv_shortcut(x) + h
        return y


class PixelAttention(nn.Module):
    """Each pixel looks at all others, with one head: (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int, config: DDPMUNetConfig) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(config.groups, channels, eps=EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))
        self.register_load_state_dict_pre_hook(rename_old)

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        q, k, v = (to(pixels)[:, None] for to in (self.to_q, self.to_k, self.to_v))  # (B, 1, H W, C)
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0]  # (B, H W, C)
        return x + self.to_out(seen).transpose(1, 2).reshape(x.shape)


def rename_old(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Read files written before diffusers renamed its layers, as google/ddpm-cifar10-32 is."""
    for old, new in OLD_NAMES.items():
        for part in ("weight", "bias"):
            if f"{prefix}{old}.{part}" in state:
                state[f"{prefix}{new}.{part}"] = state.pop(f"{prefix}{old}.{part}")


class Downsample(nn.Module):
    """A strided convolution, padded only behind as in TensorFlow: (B, C, H, W) → (B, C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return y


class Upsample(nn.Module):
    """Each pixel four times, and a convolution: (B, C, H, W) → (B, C, 2H, 2W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y


class Level(nn.Module):
    """The blocks of one resolution, each followed by attention where `attends`."""

    def __init__(
        self, in_channels: Sequence[int], out_channels: int, attends: bool, config: DDPMUNetConfig
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            PixelAttention(out_channels, config) if attends else nn.Identity() for _ in in_channels
        )
        self.resnets = nn.ModuleList(ResidualBlock(each, out_channels, config) for each in in_channels)


class Down(Level):
    """x (B, in_channels, H, W), time → the feature map behind each block, and the one of half the size."""

    def __init__(
        self, in_channels: int, out_channels: int, attends: bool, halves: bool, config: DDPMUNetConfig
    ) -> None:
        super().__init__([in_channels, *[out_channels] * (config.blocks - 1)], out_channels, attends, config)
        self.downsamplers = nn.ModuleList([Downsample(out_channels)] if halves else [])

    def forward(self, x: Tensor, time: Tensor) -> list[Tensor]:
        maps = []
        for block, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(block(x, time))  # (B, out_channels, H, W)
            maps.append(x)
        return maps + [halve(x) for halve in self.downsamplers]


class Up(Level):
    """x (B, in_channels, H, W), maps of the way down, time → (B, out_channels, H, W), or of twice the size.

    Each block takes the last of the maps that is left.
    """

    def __init__(
        self,
        in_channels: int,
        joining: Sequence[int],
        out_channels: int,
        attends: bool,
        doubles: bool,
        config: DDPMUNetConfig,
    ) -> None:
        before = [in_channels, *[out_channels] * (len(joining) - 1)]
        super().__init__([a + b for a, b in zip(before, joining, strict=True)], out_channels, attends, config)
        self.upsamplers = nn.ModuleList([Upsample(out_channels)] if doubles else [])

    def forward(self, x: Tensor, maps: list[Tensor], time: Tensor) -> Tensor:
        for block, attention in zip(self.resnets, self.attentions, strict=True):
            x = torch.cat((x, maps.pop()), dim=1)  # (B, in_channels + joining, H, W)
            x = attention(block(x, time))  # (B, out_channels, H, W)
        for double in self.upsamplers:
            x = double(x)  # (B, out_channels, 2H, 2W)
        return x


class Middle(nn.Module):
    """A block, attention and a block at the lowest resolution: (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int, config: DDPMUNetConfig) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([PixelAttention(channels, config)])
        self.resnets = nn.ModuleList(ResidualBlock(channels, channels, config) for _ in range(2))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        (attention,), (first, second) = self.attentions, self.resnets
        y: Tensor = second(attention(first(x, time)), time)
        return y


class DDPMUNet(nn.Module):
    """image (B, in_channels, H, W), timestep (B,) [, label (B,)] → the noise in it, as large as the image."""

    def __init__(self, config: DDPMUNetConfig) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        lowest = len(widths) - 1
        self.conv_in = conv3x3(config.in_channels, config.channels)
        self.time_embedding = TimeEmbedding(config.channels)
        if config.num_classes:
            self.class_embedding = nn.Embedding(config.num_classes, 4 * config.channels)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        kept = [config.channels]  # channels of the feature maps on the way down
        for level, width in enumerate(widths):
            attends, halves = level in config.attention, level < lowest
            self.down_blocks.append(Down(kept[-1], width, attends, halves, config))
            kept += [width] * (config.blocks + halves)
        self.mid_block = Middle(widths[-1], config)
        in_channels = widths[-1]
        for level, width in reversed(list(enumerate(widths))):
            joining = [kept.pop() for _ in range(config.blocks + 1)]
            self.up_blocks.append(
                Up(in_channels, joining, width, level in config.attention, level > 0, config)
            )
            in_channels = width
        self.conv_norm_out = nn.GroupNorm(config.groups, config.channels, eps=EPS)
        self.conv_out = conv3x3(config.channels, config.in_channels)
        init(self)

    def forward(self, image: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the noise that the image has at its timestep, for images of a class if there are labels."""
        time = self.time_embedding(timestep)  # (B, T)
        if label is not None:
            time = time + self.class_embedding(label)
        time = F.silu(time)  # as each block takes it
        maps = [self.conv_in(image)]  # (B, channels, H, W)
        for down in self.down_blocks:
            maps += down(maps[-1], time)  # each level at half the size of the one before
        x = self.mid_block(maps[-1], time)  # (B, widths[-1], H / 2^lowest, W / 2^lowest)
        for up in self.up_blocks:
            x = up(x, maps, time)  # back to (B, channels, H, W)
        noise: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return noise  # (B, in_channels, H, W)


def init(model: nn.Module) -> None:
    """Draw weights as the paper's code does: at first each block is its shortcut, and the noise is 0.

    All are Xavier-uniform, but the last layer of each block, of each attention and of the network is zero.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if name.endswith(("conv2", "to_out.0", "conv_out")):
                nn.init.zeros_(module.weight)
