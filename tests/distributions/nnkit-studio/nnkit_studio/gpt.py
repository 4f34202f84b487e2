"""GPT-2 with a cache: the keys and values of earlier tokens are given, so that only new tokens are computed.

Radford et al.: Language Models are Unsupervised Multitask Learners. 2019,
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf

    x = E[tokens] + P[past, past + 1, …];    x = x + attention(norm(x)),  x = x + W₂ gelu(W₁ norm(x))
    scores = E norm(x)

B batch, P past tokens, T new tokens, D width, H heads.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nnkit_studio.configs import GPTConfig


class KeyValue(NamedTuple):
    """What a layer keeps of the tokens it has seen: two tensors (B, H, P, D / H)."""

    key: Tensor
    value: Tensor


class Prediction(NamedTuple):
    """What GPT returns: scores (B, T, vocabulary) of each next token, and the cache, P + T tokens long."""

    scores: Tensor
    present: list[KeyValue]


class CachedAttention(nn.Module):
    """Attention of the new tokens x (B, T, D) on past and new ones; allowed: (B or 1, 1, T, P + T)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, past: KeyValue | None, allowed: Tensor) -> tuple[Tensor, KeyValue]:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, D / H)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, T, D / H) each
        if past is not None:
            k, v = torch.cat((past.key, k), dim=2), torch.cat((past.value, v), dim=2)  # (B, H, P + T, D / H)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, H, T, P + T)
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        mixed = (weights @ v).transpose(1, 2).flatten(-2)  # (B, T, D)
        return self.output(mixed), KeyValue(k, v)


class Block(nn.Module):
    """x (B, T, D) and its past -> x (B, T, D) and its present."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.width
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CachedAttention(config)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, past: KeyValue | None, allowed: Tensor) -> tuple[Tensor, KeyValue]:
        change, present = self.attention(self.attention_norm(x), past, allowed)
        x = x + self.dropout(change)
        x = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return x, present


class GPT(nn.Module):
    """tokens (B, T), what was cached of P tokens before, mask (B, P + T) -> `Prediction`.

    The mask is False at tokens that nobody may look at, such as padding.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.head.weight = self.embedding.weight

    def forward(
        self, tokens: Tensor, cache: list[KeyValue] | None = None, mask: Tensor | None = None
    ) -> Prediction:
        past, time = cache[0].key.shape[2] if cache else 0, tokens.shape[1]
        everything = torch.arange(past + time, device=tokens.device)
        new = everything[past:]
        allowed = (new[:, None] >= everything)[None, None]  # (1, 1, T, P + T)
        if mask is not None:
            allowed = allowed & mask[:, None, None]  # (B, 1, T, P + T)
        x = self.dropout(self.embedding(tokens) + self.positions(new))  # (B, T, D)
        present = []
        for index, block in enumerate(self.blocks):
            x, seen = block(x, cache[index] if cache else None, allowed)
            present.append(seen)
        return Prediction(self.head(self.norm(x)), present)
