"""A decoder like Llama 3, as an ordinary module: nnkit needs its file, a name in the file, and its input.

    nnkit summary examples/llama.py:llama_70b --input "tokens: int64[batch, time=2048]"

Grattafiori et al.: The Llama 3 Herd of Models, 2024, https://arxiv.org/abs/2407.21783

    x = x + attention(norm(x)),  x = x + W_down(silu(W_gate norm(x)) * W_up norm(x))
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Causal attention whose queries share keys and values in groups, with rotary positions."""

    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.head = width // heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.head, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.head, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # x: (B, T, D)
        q, k, v = (
            proj(x).unflatten(-1, (-1, self.head)).transpose(1, 2)  # (B, heads, T, head)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))  # (B, T, D)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of features of (…, T, head) by the angle of its position."""
    one, other = x.chunk(2, dim=-1)
    return torch.cat([one * cos - other * sin, other * cos + one * sin], dim=-1)


class FeedForward(nn.Module):
    """Two linear layers with a gate between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and feed-forward layers, each applied to the normalized input and added to the input."""

    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, heads, kv_heads)
        self.mlp_norm = nn.RMSNorm(width)
        self.mlp = FeedForward(width, hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.mlp(self.mlp_norm(x))


class Llama(nn.Module):
    """From tokens (B, T) to logits (B, T, vocabulary)."""

    def __init__(
        self,
        vocabulary: int = 128_256,
        width: int = 4096,
        layers: int = 32,
        heads: int = 32,
        kv_heads: int = 8,
        hidden: int = 14_336,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Block(width, heads, kv_heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.head = width // heads

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)  # (B, T, D)
        time = torch.arange(tokens.shape[1], device=tokens.device)
        rates = 500_000 ** -(torch.arange(0, self.head, 2, device=tokens.device) / self.head)
        angles = torch.outer(time, rates)  # (T, head / 2)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.norm(x))


def llama_8b(layers: int = 32) -> Llama:
    """8,030,261,248 parameters."""
    return Llama(layers=layers)


def llama_70b(layers: int = 80) -> Llama:
    """70,553,706,496 parameters."""
    return Llama(width=8192, layers=layers, heads=64, hidden=28_672)


def llama_405b(layers: int = 126) -> Llama:
    """405,853,388,800 parameters."""
    return Llama(width=16_384, layers=layers, heads=128, hidden=53_248)
