"""A tagger of words, as an ordinary module: nnkit needs its file, a name in the file, and its input.

nnkit summary examples/tagger.py:small --input "words: int64[batch, time=20]"

x = x + conv(norm(x)),  x = x + W_down(silu(W_gate norm(x)) * W_up norm(x))
"""

from torch import Tensor, nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    """Two linear layers with a gate between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Neighbors(nn.Module):
    """Each feature of a word is mixed with those of the words at its sides."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel_size=3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)  # (B, T, D)


class Block(nn.Module):
    """Neighbors and feed-forward layers, each applied to the normalized input and added to the input."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.neighbors_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.neighbors = Neighbors(width)
        self.mlp = FeedForward(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.neighbors(self.neighbors_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Tagger(nn.Module):
    """From words (B, T) to scores of their tags (B, T, tags)."""

    def __init__(
        self, vocabulary: int = 30_000, width: int = 256, layers: int = 4, hidden: int = 704, tags: int = 17
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Block(width, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, tags, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words)  # (B, T, D)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))  # (B, T, tags)


def small(layers: int = 4) -> Tagger:
    """For a laptop."""
    return Tagger(layers=layers)


def large(layers: int = 24) -> Tagger:
    """For a machine with an accelerator."""
    return Tagger(width=1024, layers=layers, hidden=2816)
