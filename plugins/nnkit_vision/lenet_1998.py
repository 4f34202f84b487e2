"""LeNet-5 as published: sparse third layer, trainable subsampling, distances to drawn digits.

LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition",
section II.B, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf.

    f(a) = 1.7159 tanh(2a/3)                          after each layer up to F6
    C1   = f(conv 5×5)                                1×32×32 → 6×28×28
    S2   = f(coefficient · (sum of 2×2) + bias)       → 6×14×14, one coefficient and bias per map
    C3   = f(conv 5×5 of the maps in the paper's Table I)   → 16×10×10
    S4   as S2                                        → 16×5×5
    C5   = f(conv 5×5)                                → 120×1×1
    F6   = f(linear)                                  → 84
    y_i  = Σ_j (F6_j - bitmap_ij)²                    → 10, the penalty of each class

The smallest penalty wins. For a loss, -y are the class scores: `cross_entropy(-y, target)` is the
paper's equation 9 without its constant.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import LeNet1998Config

# Table I: which maps of S2 each map of C3 sees. Three in a row, four in a row, four with a gap, all.
C3_TABLE = (
    *[(i, (i + 1) % 6, (i + 2) % 6) for i in range(6)],
    *[(i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)],
    *[(i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)],
    (0, 1, 2, 3, 4, 5),
)

# The targets of F6, 7×12 pixels each, drawn in the style of the paper's Figure 3: ink is +1, paper -1.
# One row of text is one row of pixels of all ten digits, 0 to 9.
DIGITS = """
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
.##.##. ..###.. ##...## ##...## ...###. ##..... .##.... ##...## ##...## ##...##
##...## .####.. .....## .....## ..#.##. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##..##. ######. ##.###. ....##. .#####. .######
##...## ...##.. ...##.. .....## ##..##. .....## ###..## ...##.. ##...## .....##
##...## ...##.. ..##... .....## ####### .....## ##...## ...##.. ##...## .....##
##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ....##. ##...## ##...## ..##... ##...## ....##.
..###.. .###### ####### .#####. ....##. .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


def digit_bitmaps() -> Tensor:
    """Return the bitmaps of the ten digits, (10, 84), row after row."""
    rows = [line.split() for line in DIGITS.split("\n") if line]
    digits = ["".join(parts) for parts in zip(*rows, strict=True)]
    return torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in digit] for digit in digits])


def squash(a: Tensor) -> Tensor:
    """Return f(a), which maps ±1 to ±1, where its curvature is greatest."""
    return 1.7159 * torch.tanh(2 / 3 * a)


class Subsampling(nn.Module):
    """The sum of each 2×2, times a coefficient, plus a bias: (B, C, H, W) → (B, C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))
        for parameter in (self.coefficient, self.bias):
            init_by_fan_in(parameter, fan_in=4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sums."""
        return self.coefficient * (4 * F.avg_pool2d(x, 2)) + self.bias


class SparseConv2d(nn.ModuleList):
    """A 5×5 convolution whose output map i sees only the input maps `table[i]`.

    (B, C, H, W) → (B, len(table), H-4, W-4). The paper's reason: fewer connections, and maps that
    see different inputs must learn different features.
    """

    def __init__(self, table: tuple[tuple[int, ...], ...]) -> None:
        super().__init__(nn.Conv2d(len(sources), 1, kernel_size=5) for sources in table)
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps, one convolution each."""
        maps = x.chunk(x.shape[1], dim=1)  # C of (B, 1, H, W)
        pairs = zip(self, self.table, strict=True)
        return torch.cat([conv(torch.cat([maps[i] for i in sources], 1)) for conv, sources in pairs], 1)


class LeNet1998(nn.Module):
    """The LeNet-5 of 1998: (B, 1, 32, 32) → (B, 10), the penalties of the ten digits."""

    bitmaps: Tensor

    def __init__(self, config: LeNet1998Config) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, kernel_size=5)
        self.s2 = Subsampling(6)
        self.c3 = SparseConv2d(C3_TABLE)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.register_buffer("bitmaps", digit_bitmaps())
        self.apply(init_layer)

    def forward(self, image: Tensor) -> Tensor:
        """Return the penalty of each class: the squared distance between F6 and the class's bitmap."""
        x = squash(self.c1(image))  # (B, 6, 28, 28)
        x = squash(self.s2(x))  # (B, 6, 14, 14)
        x = squash(self.c3(x))  # (B, 16, 10, 10)
        x = squash(self.s4(x))  # (B, 16, 5, 5)
        x = squash(self.c5(x))  # (B, 120, 1, 1)
        x = squash(self.f6(torch.flatten(x, 1)))  # (B, 84)
        return (x.unsqueeze(1) - self.bitmaps).square().sum(dim=2)  # (B, 10, 84) → (B, 10)


def init_by_fan_in(parameter: Tensor, fan_in: int) -> None:
    """Draw uniformly from ±2.4/fan-in (section V.A of the paper)."""
    nn.init.uniform_(parameter, -2.4 / fan_in, 2.4 / fan_in)


def init_layer(module: nn.Module) -> None:
    """Draw the weights and biases of a convolution or linear layer by its fan-in."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        fan_in = math.prod(module.weight.shape[1:])
        init_by_fan_in(module.weight, fan_in)
        if module.bias is not None:
            init_by_fan_in(module.bias, fan_in)
