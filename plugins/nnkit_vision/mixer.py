"""MLP-Mixer: no convolution and no attention, only MLPs across the patches and across their features.

Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP Architecture for Vision", https://arxiv.org/abs/2105.01601.
Names, initialization and arithmetic are timm's, whose state dicts load as they are.

    X   = [E p_1; …; E p_N]               p_i is patch i of the image; X has a row for each patch
    U   = X + mlp(norm(X)ᵀ)ᵀ              mixes tokens: the same MLP for each column, which is one feature
    Y   = U + mlp(norm(U))                mixes channels: the same MLP for each row, which is one patch
    y   = W mean(norm(Y_L))               mlp(x) = W_2 gelu(W_1 x)

B batch, H height, W width, P size of a patch, N = H/P · W/P patches, C features (channels) of a patch.
"""

import math

import torch
from torch import Tensor, nn

from nnkit_vision.configs import MixerConfig, PatchesConfig

EPS = 1e-6  # of the normalization, as in the paper's own code
TRUNCATED = 0.87962566103423978  # the deviation of a standard normal that is cut at -2 and 2


class PatchEmbedding(nn.Module):
    """One linear map of each patch: (B, in_channels, H, W) → (B, N, C)."""

    def __init__(self, in_channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Return the features of each patch, row by row."""
        x: Tensor = self.proj(image)  # (B, C, H/P, W/P)
        return x.flatten(2).transpose(1, 2)  # (B, N, C)


class MLP(nn.Module):
    """Two linear layers along the last axis, which keeps its size."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return W_2 gelu(W_1 x)."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class MixerBlock(nn.Module):
    """Mixes tokens, then channels: (B, N, C) → (B, N, C)."""

    def __init__(self, patches: int, width: int, tokens_mlp_width: int, channels_mlp_width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.mlp_tokens = MLP(patches, tokens_mlp_width)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp_channels = MLP(width, channels_mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what both MLPs add to it."""
        columns = self.norm1(x).transpose(1, 2)  # (B, C, N)
        x = x + self.mlp_tokens(columns).transpose(1, 2)  # (B, N, C)
        return x + self.mlp_channels(self.norm2(x))


class Mixer(nn.Module):
    """Patches, blocks, their mean and a linear layer: (B, in_channels, H, W) → (B, num_classes).

    Height and width are `config.image_size`, for the MLPs across the patches have a weight for each.
    """

    def __init__(
        self,
        patch_size: int,
        blocks: int,
        width: int,
        tokens_mlp_width: int,
        channels_mlp_width: int,
        config: PatchesConfig,
    ) -> None:
        super().__init__()
        self.stem = PatchEmbedding(config.in_channels, patch_size, width)
        patches = (config.image_size // patch_size) ** 2
        self.blocks = nn.Sequential(
            *(MixerBlock(patches, width, tokens_mlp_width, channels_mlp_width) for _ in range(blocks))
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = nn.Linear(width, config.num_classes)
        init_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.stem(image)  # (B, N, C)
        x = self.norm(self.blocks(x))  # (B, N, C)
        logits: Tensor = self.head(x.mean(dim=1))  # (B, C) → (B, num_classes)
        return logits


def init_weights(model: nn.Module) -> None:
    """Draw the weights as timm does: patches by LeCun's rule, MLPs by Glorot's, and a head of zeros."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            draw_by_lecun(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and name == "head":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.normal_(module.bias, std=1e-6) if "mlp" in name else nn.init.zeros_(module.bias)


def draw_by_lecun(weight: Tensor) -> None:
    """Draw from a normal that is cut at two deviations, so that an output is as large as an input.

    A uniform number becomes a normal one by the inverse of the distribution; the cut takes the first's ends.
    """
    fan_in = weight[0].numel()
    share = math.erf(math.sqrt(2))  # of a normal, within two deviations
    nn.init.uniform_(weight, -share, share)
    with torch.no_grad():
        weight.erfinv_().mul_(math.sqrt(2 / fan_in) / TRUNCATED)


def published(patch_size: int, blocks: int, width: int, config: PatchesConfig) -> Mixer:
    """Return a Mixer of the paper's Table 1: MLPs half as wide as the features, and four times as wide."""
    return Mixer(patch_size, blocks, width, width // 2, 4 * width, config)


def mixer(config: MixerConfig) -> Mixer:
    """Return the Mixer of the sizes in `config`."""
    return Mixer(
        config.patch_size,
        config.blocks,
        config.width,
        config.tokens_mlp_width,
        config.channels_mlp_width,
        config,
    )


def mixer_s_32(config: PatchesConfig) -> Mixer:
    """Return Mixer-S/32: small, patches of 32×32."""
    return published(32, 8, 512, config)


def mixer_s_16(config: PatchesConfig) -> Mixer:
    """Return Mixer-S/16: small, patches of 16×16."""
    return published(16, 8, 512, config)


def mixer_b_32(config: PatchesConfig) -> Mixer:
    """Return Mixer-B/32: base, patches of 32×32."""
    return published(32, 12, 768, config)


def mixer_b_16(config: PatchesConfig) -> Mixer:
    """Return Mixer-B/16: base, patches of 16×16."""
    return published(16, 12, 768, config)


def mixer_l_32(config: PatchesConfig) -> Mixer:
    """Return Mixer-L/32: large, patches of 32×32."""
    return published(32, 24, 1024, config)


def mixer_l_16(config: PatchesConfig) -> Mixer:
    """Return Mixer-L/16: large, patches of 16×16."""
    return published(16, 24, 1024, config)
