"""Transformer: an encoder reads a source, a decoder writes the target and looks back at the source.

Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762. The layers have the
names, the initialization and the arithmetic of torch.nn.Transformer, whose state dict loads into them.

    attention(Q, K, V) = softmax(Q Kᵀ / √d) V                         for each head, d = D / heads
    encoder layer  x = norm(x + attention(x, x, x))                   every token of the source sees all
                   x = norm(x + W₂ relu(W₁ x))
    decoder layer  y = norm(y + attention(y, y, y))                   causal: itself and what is before it
                   y = norm(y + attention(y, x, x))                   the source
                   y = norm(y + W₂ relu(W₁ y))
    input          x = √D E[tokens] + P,   P[t, 2i] = sin(t / 10000^(2i/D)),   P[t, 2i+1] = cos(the same)
    output         scores of the next token = E y

One matrix E embeds the source, embeds the target and scores the output. W_q, W_k and W_v, each D × D, lie
one below the other in `in_proj_weight`, so that one product makes all three from one input.

B batch, S source time, T target time, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnkit_sequence.configs import TransformerConfig


class MultiheadAttention(nn.Module):
    """Attention of x (B, T, D) on memory (B, S, D), or on itself: (B, T, D).

    mask: (B, 1, 1 or T, S), True where a query may look. causal: it may not look at what comes after it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Return what each query found."""
        weight, bias, width = self.in_proj_weight, self.in_proj_bias, x.shape[-1]
        if memory is None:
            q, k, v = F.linear(x, weight, bias).chunk(3, dim=-1)  # (B, T, D) each
        else:
            q = F.linear(x, weight[:width], bias[:width])  # (B, T, D)
            k, v = F.linear(memory, weight[width:], bias[width:]).chunk(2, dim=-1)  # (B, S, D) each
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T or S, D / heads)
            for each in (q, k, v)
        )
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        out: Tensor = self.out_proj(found.transpose(1, 2).flatten(-2))
        return out  # (B, T, D)


class EncoderLayer(nn.Module):
    """x (B, S, D) → x (B, S, D)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = MultiheadAttention(width, config.heads)
        self.linear1, self.linear2 = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Let each token look at the others, and then think for itself."""
        x = self.norm1(x + self.dropout(self.self_attn(x, mask=mask)))
        return self.norm2(x + self.dropout(self.linear2(F.relu(self.linear1(x)))))


class DecoderLayer(nn.Module):
    """y (B, T, D) and memory (B, S, D), which is the encoded source → y (B, T, D)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = MultiheadAttention(width, config.heads)
        self.multihead_attn = MultiheadAttention(width, config.heads)
        self.linear1, self.linear2 = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, y: Tensor, memory: Tensor, mask: Tensor | None, memory_mask: Tensor | None) -> Tensor:
        """Let each token look back, then at the source, and then think for itself. No mask: causal."""
        y = self.norm1(y + self.dropout(self.self_attn(y, mask=mask, causal=mask is None)))
        y = self.norm2(y + self.dropout(self.multihead_attn(y, memory, memory_mask)))
        return self.norm3(y + self.dropout(self.linear2(F.relu(self.linear1(y)))))


class Stack(nn.Module):
    """Layers one after the other; torch.nn.Transformer has one more norm behind them, the paper none."""

    def __init__(self, layers: list[nn.Module], config: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(config.width) if config.final_norm else nn.Identity()

    def forward(self, x: Tensor, *context: Tensor | None) -> Tensor:
        """Give `context`, which is memory and masks, to every layer."""
        for layer in self.layers:
            x = layer(x, *context)
        return self.norm(x)


def positions(time: int, like: Tensor) -> Tensor:
    """Return sines and cosines with wavelengths from 2π to 10000 · 2π, one pair after the other: (time, D).

    Computed in float32 or better, since bfloat16 has no odd integer above 256.
    """
    width, kind = like.shape[-1], torch.promote_types(like.dtype, torch.float32)
    step = torch.arange(time, device=like.device, dtype=kind)[:, None]  # (time, 1)
    wave = torch.arange(0, width, 2, device=like.device, dtype=kind)  # (D / 2,)
    angle = step * torch.exp(wave * (-math.log(10000.0) / width))  # (time, D / 2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2).to(like.dtype)  # (time, D)


class Transformer(nn.Module):
    """source (B, S) and target (B, T) → scores of the token after each of the target (B, T, vocabulary).

    The masks (B, S) and (B, T) are True at real tokens and False at padding.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Stack([EncoderLayer(config) for _ in range(config.layers)], config)
        self.decoder = Stack([DecoderLayer(config) for _ in range(config.layers)], config)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)  # √D E[token] has the size of P

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the scores (logits)."""
        return self.decode(target, self.encode(source, source_mask), target_mask, source_mask)

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Return the memory (B, S, D) of a source (B, S): once, however long the target gets."""
        memory: Tensor = self.encoder(self.embed(source), over_heads(source_mask))
        return memory

    def decode(
        self,
        target: Tensor,
        memory: Tensor,
        target_mask: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the scores (B, T, vocabulary) of the token after each of the target (B, T)."""
        mask = over_heads(target_mask)  # (B, 1, 1, T)
        if mask is not None:
            step = torch.arange(target.shape[1], device=target.device)
            mask = mask & (step[:, None] >= step)  # (B, 1, T, T): real, and not after it
        y = self.decoder(self.embed(target), memory, mask, over_heads(source_mask))  # (B, T, D)
        scores: Tensor = self.head(y)
        return scores

    def embed(self, tokens: Tensor) -> Tensor:
        """Return √D E[tokens] + P for tokens (B, T): (B, T, D)."""
        x = self.embedding(tokens)
        x = x * math.sqrt(x.shape[-1]) + positions(tokens.shape[1], x)
        embedded: Tensor = self.dropout(x)
        return embedded


def over_heads(mask: Tensor | None) -> Tensor | None:
    """Return a mask of tokens (B, S) as one for all heads and queries: (B, 1, 1, S)."""
    return None if mask is None else mask[:, None, None]
