"""CLIP: an image and the text that describes it get embeddings that point the same way.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision",
https://arxiv.org/abs/2103.00020. Names, initialization and arithmetic are those of transformers' CLIPModel,
whose state dicts load as they are.

    u_i  = W_u vision(image_i)[class token]     e_i = u_i / ‖u_i‖
    v_j  = W_v text(text_j)[end of text]        f_j = v_j / ‖v_j‖
    s_ij = exp(t) e_i · f_j                     t is learned; pairs have the largest s_ii of row and column

Both towers are Transformers of the same blocks. In that of the text, a token sees itself and earlier ones.

    z' = attention(norm(z)) + z
    z  = W_2 g(W_1 norm(z')) + z'               g(a) = a σ(1.702 a), a quick form of the GELU

B images, S texts, T tokens of a text, P size of a patch, N patches of an image, D features of a token or a
patch, E features of an embedding.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import CLIPConfig


class Embeddings(NamedTuple):
    """What CLIP returns without similarities: text_embeds (S, E) and image_embeds (B, E) of length 1."""

    text_embeds: Tensor
    image_embeds: Tensor


class Similarities(NamedTuple):
    """What CLIP returns: the similarities (B, S), their transpose (S, B), and the embeddings."""

    logits_per_image: Tensor
    logits_per_text: Tensor
    text_embeds: Tensor
    image_embeds: Tensor


class QuickGELU(nn.Module):
    """The activation of the published weights."""

    def forward(self, a: Tensor) -> Tensor:
        """Return a σ(1.702 a)."""
        return a * torch.sigmoid(1.702 * a)


class Attention(nn.Module):
    """Self-attention of several heads: (B, T, D) → (B, T, D)."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = linear(width, width, std=(width * 2 * blocks) ** -0.5)
        self.v_proj = linear(width, width, std=(width * 2 * blocks) ** -0.5)
        self.q_proj = linear(width, width, std=(width * 2 * blocks) ** -0.5)
        self.out_proj = linear(width, width, std=width**-0.5)

    def forward(self, z: Tensor, allowed: Tensor | None, causal: bool) -> Tensor:
        """Return what each token takes from those it sees.

        allowed: (B, 1, T, T), True where a row's token sees a column's. None: it sees all, or in a causal
        tower those up to itself.
        """
        q, k, v = (
            project(z).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, D/heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=causal and allowed is None)
        mixed: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))  # (B, T, D)
        return mixed


class MLP(nn.Module):
    """Two linear layers on each token: (B, T, D) → (B, T, D)."""

    def __init__(self, width: int, blocks: int, activation: str) -> None:
        super().__init__()
        self.activation_fn = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.fc1 = linear(width, 4 * width, std=(2 * width) ** -0.5)
        self.fc2 = linear(4 * width, width, std=(width * 2 * blocks) ** -0.5)

    def forward(self, z: Tensor) -> Tensor:
        """Return W_2 g(W_1 z)."""
        y: Tensor = self.fc2(self.activation_fn(self.fc1(z)))
        return y


class Block(nn.Module):
    """Attention and MLP, each normalized before and added to what came in: (B, T, D) → (B, T, D)."""

    def __init__(self, width: int, heads: int, blocks: int, activation: str) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, blocks)
        self.layer_norm1 = nn.LayerNorm(width)
        self.mlp = MLP(width, blocks, activation)
        self.layer_norm2 = nn.LayerNorm(width)

    def forward(self, z: Tensor, allowed: Tensor | None, causal: bool) -> Tensor:
        """Return z after attention and MLP."""
        z = z + self.self_attn(self.layer_norm1(z), allowed, causal)
        return z + self.mlp(self.layer_norm2(z))


class Encoder(nn.Module):
    """The blocks of a tower: (B, T, D) → (B, T, D)."""

    def __init__(self, width: int, heads: int, blocks: int, activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(width, heads, blocks, activation) for _ in range(blocks))

    def forward(self, z: Tensor, allowed: Tensor | None = None, causal: bool = False) -> Tensor:
        """Return the features after all blocks; see `Attention` for what may be seen."""
        for block in self.layers:
            z = block(z, allowed, causal)
        return z


class TextEmbeddings(nn.Module):
    """Tokens and their positions: (S, T) → (S, T, D)."""

    def __init__(self, vocabulary: int, context: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(context, width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the sum of both."""
        positions = self.position_embedding.weight[: input_ids.shape[1]]  # (T, D)
        z: Tensor = self.token_embedding(input_ids) + positions
        return z


class TextTower(nn.Module):
    """Texts to features of their last token: (S, T) → (S, D)."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        width = config.text_width
        self.embeddings = TextEmbeddings(config.vocabulary, config.context, width)
        self.encoder = Encoder(width, config.text_heads, config.text_blocks, config.activation)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the features at the end of each text, whose token is the highest one of the vocabulary."""
        allowed = None
        if attention_mask is not None:
            real = attention_mask.bool()  # (S, T)
            time = input_ids.shape[1]
            earlier = torch.ones(time, time, dtype=torch.bool, device=input_ids.device).tril()  # (T, T)
            allowed = earlier & real[:, None, None]  # (S, 1, T, T)
            input_ids = input_ids.masked_fill(~real, 0)  # so that the end is found among the real tokens
        z = self.encoder(self.embeddings(input_ids), allowed, causal=True)  # (S, T, D)
        ends = input_ids.argmax(dim=1)  # (S,)
        last = z[torch.arange(z.shape[0], device=z.device), ends]  # (S, D)
        features: Tensor = self.final_layer_norm(last)
        return features


class VisionEmbeddings(nn.Module):
    """A class token, patches and their positions: (B, in_channels, H, W) → (B, 1 + N, D)."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        patches = (config.image_size // patch) ** 2
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = nn.Conv2d(
            config.in_channels, width, kernel_size=patch, stride=patch, bias=False
        )
        self.position_embedding = nn.Embedding(1 + patches, width)
        nn.init.normal_(self.class_embedding, std=width**-0.5)
        nn.init.normal_(self.patch_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the class token and the patches, row by row, with their positions."""
        x = self.patch_embedding(pixel_values)  # (B, D, H/P, W/P)
        x = x.flatten(2).transpose(1, 2)  # (B, N, D)
        token = self.class_embedding.expand(x.shape[0], 1, -1)  # (B, 1, D)
        return torch.cat((token, x), dim=1) + self.position_embedding.weight  # (B, 1 + N, D)


class VisionTower(nn.Module):
    """Images to features of their class token: (B, in_channels, H, W) → (B, D)."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        width = config.vision_width
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(width)  # misspelled as in transformers, whose files have that name
        self.encoder = Encoder(width, config.vision_heads, config.vision_blocks, config.activation)
        self.post_layernorm = nn.LayerNorm(width)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the features of each image."""
        z = self.pre_layrnorm(self.embeddings(pixel_values))  # (B, 1 + N, D)
        z = self.encoder(z)
        features: Tensor = self.post_layernorm(z[:, 0])  # (B, D)
        return features


class CLIP(nn.Module):
    """Texts (S, T) and images (B, in_channels, H, W) → `Similarities`, or `Embeddings` if config has none.

    attention_mask (S, T) is true at real tokens. A text that ends with its end token needs none, since no
    token sees what comes after it.
    """

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.similarity = config.similarity
        self.text_model = TextTower(config)
        self.vision_model = VisionTower(config)
        self.visual_projection = linear(
            config.vision_width, config.embedding, std=config.vision_width**-0.5, bias=False
        )
        self.text_projection = linear(
            config.text_width, config.embedding, std=config.text_width**-0.5, bias=False
        )
        scale = torch.tensor(math.log(1 / 0.07))  # a temperature of 0.07, as in the paper
        if config.similarity:
            self.logit_scale = nn.Parameter(scale)
        else:  # nothing to train, but files have it
            self.register_buffer("logit_scale", scale)
        self.register_load_state_dict_pre_hook(drop_positions)

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor | None = None
    ) -> Embeddings | Similarities:
        """Return the embeddings, and how similar each image is to each text."""
        images = self.visual_projection(self.vision_model(pixel_values))  # (B, E)
        texts = self.text_projection(self.text_model(input_ids, attention_mask))  # (S, E)
        images = images / images.norm(dim=-1, keepdim=True)
        texts = texts / texts.norm(dim=-1, keepdim=True)
        if not self.similarity:
            return Embeddings(texts, images)
        per_text = self.logit_scale.exp() * texts @ images.t()  # (S, B)
        return Similarities(per_text.t(), per_text, texts, images)


def linear(inputs: int, outputs: int, std: float, bias: bool = True) -> nn.Linear:
    """Return a linear layer with weights drawn from a normal distribution, and a bias of zeros."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=std)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def drop_positions(model: nn.Module, state: dict[str, Any], *_: object) -> None:
    """Drop the numbers of the positions, 0, 1, 2, …, which older files of transformers have too."""
    for tower in ("text_model", "vision_model"):
        state.pop(f"{tower}.embeddings.position_ids", None)
