"""Vision Transformer: an image is a sentence, and its words are patches of 16×16 pixels.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
https://arxiv.org/abs/2010.11929. Names, initialization and arithmetic are torchvision's, whose state dicts
load as they are.

    z_0 = [class; E p_1; …; E p_N] + positions    p_i is patch i of the image, a vector of 3·P·P numbers
    z'  = attention(norm(z)) + z                  of several heads, each softmax(Q Kᵀ / √d) V
    z   = mlp(norm(z')) + z'                      mlp(z) = W_2 gelu(W_1 z)
    y   = W norm(z_L)[0]                          the class token after L blocks

B batch, H height, W width, P size of a patch, N = H/P · W/P patches, D features of a patch.
"""

from collections import OrderedDict
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nnkit_vision.configs import ViT14Config, ViT16Config, ViT32Config, ViTConfig

AnyConfig: TypeAlias = ViTConfig | ViT14Config | ViT16Config | ViT32Config

EPS = 1e-6  # of the normalization, as in the paper's own code


class MLP(nn.Sequential):
    """Two linear layers on each patch, (B, N, D) → (B, N, D)."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.normal_(layer.bias, std=1e-6)


class Block(nn.Module):
    """Attention and MLP, each normalized before and added to what came in: (B, N, D) → (B, N, D)."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=EPS)
        self.self_attention = nn.MultiheadAttention(width, heads, dropout=attention_dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = MLP(width, mlp_width, dropout)

    def forward(self, z: Tensor) -> Tensor:
        """Return z after attention and MLP."""
        x = self.ln_1(z)
        x, _ = self.self_attention(x, x, x, need_weights=False)
        z = self.dropout(x) + z
        return z + self.mlp(self.ln_2(z))


class Encoder(nn.Module):
    """Adds the positions and applies the blocks: (B, 1 + N, D) → (B, 1 + N, D)."""

    def __init__(
        self,
        patches: int,
        blocks: int,
        width: int,
        heads: int,
        mlp_width: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, 1 + patches, width).normal_(std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            OrderedDict(
                (f"encoder_layer_{i}", Block(width, heads, mlp_width, dropout, attention_dropout))
                for i in range(blocks)
            )
        )
        self.ln = nn.LayerNorm(width, eps=EPS)

    def forward(self, z: Tensor) -> Tensor:
        """Return the normalized features of the class token and each patch."""
        z = self.dropout(z + self.pos_embedding)
        features: Tensor = self.ln(self.layers(z))
        return features


class VisionTransformer(nn.Module):
    """Patches, a class token, a Transformer and a linear layer: (B, in_channels, H, W) → (B, num_classes).

    Height and width are `config.image_size`: each patch has a position that is learned.
    """

    def __init__(
        self, patch_size: int, blocks: int, width: int, heads: int, mlp_width: int, config: AnyConfig
    ) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(config.in_channels, width, kernel_size=patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        patches = (config.image_size // patch_size) ** 2
        self.encoder = Encoder(
            patches, blocks, width, heads, mlp_width, config.dropout, config.attention_dropout
        )
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, config.num_classes)))
        fan_in = config.in_channels * patch_size**2
        nn.init.trunc_normal_(self.conv_proj.weight, std=fan_in**-0.5)
        nn.init.zeros_(self.conv_proj.bias)
        nn.init.zeros_(self.heads.head.weight)
        nn.init.zeros_(self.heads.head.bias)
        self.register_load_state_dict_pre_hook(rename_old_keys)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.conv_proj(image)  # (B, D, H/P, W/P): one linear map of each patch
        x = x.flatten(2).transpose(1, 2)  # (B, N, D)
        token = self.class_token.expand(x.shape[0], -1, -1)  # (B, 1, D)
        z = self.encoder(torch.cat((token, x), dim=1))  # (B, 1 + N, D)
        logits: Tensor = self.heads(z[:, 0])
        return logits


def rename_old_keys(model: nn.Module, state: dict[str, Any], *_: object) -> None:
    """Rename the linear layers of the MLPs in torchvision's older files, which are its published ones."""
    for key in list(state):
        for old, new in (("mlp.linear_1.", "mlp.0."), ("mlp.linear_2.", "mlp.3.")):
            if old in key:
                state[key.replace(old, new)] = state.pop(key)


def vit(config: ViTConfig) -> VisionTransformer:
    """Return the Vision Transformer of the sizes in `config`."""
    return VisionTransformer(
        config.patch_size, config.blocks, config.width, config.heads, config.mlp_width, config
    )


def vit_b_16(config: ViT16Config) -> VisionTransformer:
    """Return ViT-B/16: base, patches of 16×16."""
    return VisionTransformer(16, 12, 768, 12, 3072, config)


def vit_b_32(config: ViT32Config) -> VisionTransformer:
    """Return ViT-B/32: base, patches of 32×32."""
    return VisionTransformer(32, 12, 768, 12, 3072, config)


def vit_l_16(config: ViT16Config) -> VisionTransformer:
    """Return ViT-L/16: large, patches of 16×16."""
    return VisionTransformer(16, 24, 1024, 16, 4096, config)


def vit_l_32(config: ViT32Config) -> VisionTransformer:
    """Return ViT-L/32: large, patches of 32×32."""
    return VisionTransformer(32, 24, 1024, 16, 4096, config)


def vit_h_14(config: ViT14Config) -> VisionTransformer:
    """Return ViT-H/14: huge, patches of 14×14."""
    return VisionTransformer(14, 32, 1280, 16, 5120, config)
