"""Transformer: an encoder reads the source, a decoder writes the target and looks back at the source.

Vaswani et al.: Attention Is All You Need. NeurIPS 2017, https://arxiv.org/abs/1706.03762

    attention(Q, K, V) = softmax(Q Kᵀ / √d) V
    encoder: x = norm(x + attention(x, x, x)),  x = norm(x + W₂ relu(W₁ x))
    decoder: the same, causal, with attention(y, x, x) in between;    scores = E y

One embedding E serves source, target and the scores. B batch, S source time, T target time, D width.
"""

import math

import torch
from torch import Tensor, nn

from nnkit_studio.configs import TransformerConfig


class Attention(nn.Module):
    """Multi-head attention of queries (B, T, D) on keys (B, S, D); allowed: (B or 1, 1, T or 1, S)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor, allowed: Tensor | None) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T or S, D / heads)
            for layer, x in ((self.query, queries), (self.key, keys), (self.value, keys))
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, heads, T, S)
        if allowed is not None:
            # Finite, so that a row without any key is no NaN.
            scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        mixed = scores.softmax(dim=-1) @ v  # (B, heads, T, D / heads)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(-2))
        return out  # (B, T, D)


class Sublayer(nn.Module):
    """norm(x + dropout(change)): what surrounds attention and feed-forward layers."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, change: Tensor) -> Tensor:
        out: Tensor = self.norm(x + self.dropout(change))
        return out


def feed_forward(config: TransformerConfig) -> nn.Sequential:
    """W₂ relu(W₁ x): (B, T, D) -> (B, T, D)."""
    return nn.Sequential(
        nn.Linear(config.width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.width)
    )


class EncoderLayer(nn.Module):
    """x (B, S, D) -> (B, S, D)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.feed_forward = feed_forward(config)
        self.after_attention, self.after_feed_forward = Sublayer(config), Sublayer(config)

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        x = self.after_attention(x, self.attention(x, x, allowed))
        return self.after_feed_forward(x, self.feed_forward(x))


class DecoderLayer(nn.Module):
    """y (B, T, D), and the source x (B, S, D) -> (B, T, D)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.attention_to_source = Attention(config.width, config.heads)
        self.feed_forward = feed_forward(config)
        self.after_attention, self.after_source = Sublayer(config), Sublayer(config)
        self.after_feed_forward = Sublayer(config)

    def forward(self, y: Tensor, x: Tensor, allowed: Tensor, source_allowed: Tensor | None) -> Tensor:
        y = self.after_attention(y, self.attention(y, y, allowed))
        y = self.after_source(y, self.attention_to_source(y, x, source_allowed))
        return self.after_feed_forward(y, self.feed_forward(y))


def positions(time: int, width: int, like: Tensor) -> Tensor:
    """Return sines and cosines of wavelengths from 2π to 10000·2π: (time, width)."""
    steps = torch.arange(time, device=like.device, dtype=torch.float32)[:, None]  # (time, 1)
    wave = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)  # (width / 2,)
    angles = steps * torch.exp(wave * (-math.log(10000.0) / width))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(like.dtype)


class Transformer(nn.Module):
    """source (B, S), target (B, T) -> scores of the next token after each of the target: (B, T, vocabulary).

    The masks (B, S) and (B, T) are True at real tokens and False at padding.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def embed(self, tokens: Tensor) -> Tensor:
        """Return √D E[tokens] + positions for tokens (B, T): (B, T, D)."""
        x = self.embedding(tokens)
        width = x.shape[-1]
        return self.dropout(x * math.sqrt(width) + positions(tokens.shape[1], width, x))

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        source_allowed = None if source_mask is None else source_mask[:, None, None]  # (B, 1, 1, S)
        steps = torch.arange(target.shape[1], device=target.device)
        allowed = (steps[:, None] >= steps)[None, None]  # (1, 1, T, T)
        if target_mask is not None:
            allowed = allowed & target_mask[:, None, None]  # (B, 1, T, T)
        x, y = self.embed(source), self.embed(target)  # (B, S, D), (B, T, D)
        for layer in self.encoder:
            x = layer(x, source_allowed)
        for layer in self.decoder:
            y = layer(y, x, allowed, source_allowed)
        scores: Tensor = self.head(y)
        return scores  # (B, T, vocabulary)
