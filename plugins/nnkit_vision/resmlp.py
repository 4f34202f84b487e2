"""ResMLP: patches exchange what they know by one linear layer, without normalization.

Touvron et al. 2021, "ResMLP: Feedforward networks for image classification with data-efficient training",
https://arxiv.org/abs/2105.03404. Names, initialization and arithmetic are timm's, whose state dicts load as
they are; so do the authors' own.

    X     = [E p_1; …; E p_N]                     p_i is patch i of the image; X has a row for each patch
    aff(X) = α ⊙ X + β                            in place of normalization: no statistics at all
    Z     = X + s_1 ⊙ (A aff(X))                  across the patches; A is N×N, with a bias
    Y     = Z + s_2 ⊙ (C_2 gelu(C_1 aff(Z)))      across the features of each patch
    y     = W mean(aff(Y_L))                      s_1 and s_2 start small: the deeper the network, the smaller

B batch, H height, W width, P size of a patch, N = H/P · W/P patches, D features of a patch.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nnkit_vision.configs import PatchesConfig, ResMLPConfig
from nnkit_vision.mixer import MLP, PatchEmbedding, init_weights


class Affine(nn.Module):
    """A scale and a shift of each feature: (B, N, D) → (B, N, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return α ⊙ x + β."""
        return torch.addcmul(self.beta, self.alpha, x)


class ResMLPBlock(nn.Module):
    """A linear layer across the patches, then an MLP across the features: (B, N, D) → (B, N, D)."""

    def __init__(self, patches: int, width: int, mlp_width: int, layer_scale: float) -> None:
        super().__init__()
        self.ls1 = nn.Parameter(torch.full((width,), layer_scale))
        self.ls2 = nn.Parameter(torch.full((width,), layer_scale))
        self.norm1 = Affine(width)
        self.linear_tokens = nn.Linear(patches, patches)
        self.norm2 = Affine(width)
        self.mlp_channels = MLP(width, mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what both branches add to it."""
        columns = self.norm1(x).transpose(1, 2)  # (B, D, N)
        x = x + self.ls1 * self.linear_tokens(columns).transpose(1, 2)  # (B, N, D)
        return x + self.ls2 * self.mlp_channels(self.norm2(x))


class ResMLP(nn.Module):
    """Patches, blocks, their mean and a linear layer: (B, in_channels, H, W) → (B, num_classes).

    Height and width are `config.image_size`, for the layers across the patches have a weight for each pair.
    """

    def __init__(
        self,
        patch_size: int,
        blocks: int,
        width: int,
        mlp_width: int,
        layer_scale: float,
        config: PatchesConfig,
    ) -> None:
        super().__init__()
        self.stem = PatchEmbedding(config.in_channels, patch_size, width)
        patches = (config.image_size // patch_size) ** 2
        self.blocks = nn.Sequential(
            *(ResMLPBlock(patches, width, mlp_width, layer_scale) for _ in range(blocks))
        )
        self.norm = Affine(width)
        self.head = nn.Linear(width, config.num_classes)
        init_weights(self)
        self.register_load_state_dict_pre_hook(rename_keys_of_authors)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.stem(image)  # (B, N, D)
        x = self.norm(self.blocks(x))  # (B, N, D)
        logits: Tensor = self.head(x.mean(dim=1))  # (B, D) → (B, num_classes)
        return logits


def rename_keys_of_authors(model: nn.Module, state: dict[str, Any], *_: object) -> None:
    """Rename what the authors' files (facebookresearch/deit) have, which timm renames too.

    For example, blocks.0.attn.weight is blocks.0.linear_tokens.weight, for no attention is in it.
    """
    if "patch_embed.proj.weight" not in state:
        return
    names = {"patch_embed.": "stem.", "attn.": "linear_tokens.", "mlp.": "mlp_channels.", "gamma_": "ls"}
    for key in list(state):
        tensor, name = state.pop(key), key
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        is_affine = name.endswith((".alpha", ".beta"))  # (D,) there
        state[name] = tensor.reshape(1, 1, -1) if is_affine else tensor


def resmlp(config: ResMLPConfig) -> ResMLP:
    """Return the ResMLP of the sizes in `config`."""
    return ResMLP(
        config.patch_size, config.blocks, config.width, config.mlp_width, config.layer_scale, config
    )


def resmlp_12(config: PatchesConfig) -> ResMLP:
    """Return ResMLP-S12."""
    return ResMLP(16, 12, 384, 1536, 1e-4, config)


def resmlp_24(config: PatchesConfig) -> ResMLP:
    """Return ResMLP-S24."""
    return ResMLP(16, 24, 384, 1536, 1e-5, config)


def resmlp_36(config: PatchesConfig) -> ResMLP:
    """Return ResMLP-S36."""
    return ResMLP(16, 36, 384, 1536, 1e-6, config)


def resmlp_big_24(config: PatchesConfig) -> ResMLP:
    """Return ResMLP-B24: twice as wide, patches of 8×8."""
    return ResMLP(8, 24, 768, 3072, 1e-6, config)
