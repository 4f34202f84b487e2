"""Siamese network: one encoder reads two pictures, and the distance of their embeddings says how alike they are.

Koch, Zemel, Salakhutdinov: Siamese Neural Networks for One-shot Image Recognition. ICML workshop 2015,
https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf

    h = encoder(picture);    p(same) = sigmoid(Σⱼ αⱼ |h_left,j - h_right,j|)

The last feature map is averaged over its places, so that pictures may have any size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnkit_studio.configs import SiameseConfig


@dataclass
class Comparison:
    """Embeddings (B, embedding) of both pictures, and the probability (B,) that they show the same."""

    left: Tensor
    right: Tensor
    same: Tensor


class Siamese(nn.Module):
    """pair: {"left": …, "right": …}, pictures (B, channels, H, W) -> `Comparison`."""

    def __init__(self, config: SiameseConfig) -> None:
        super().__init__()
        features = config.features
        self.encoder = nn.Sequential(
            nn.Conv2d(config.channels, features, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, features, H / 2, W / 2)
            nn.Conv2d(features, 2 * features, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),  # (B, 2 features, 1, 1)
            nn.Flatten(),
            nn.Linear(2 * features, config.embedding),
        )
        self.weigh = nn.Linear(config.embedding, 1)

    def forward(self, pair: dict[str, Tensor]) -> Comparison:
        left, right = self.encoder(pair["left"]), self.encoder(pair["right"])  # (B, embedding)
        same = torch.sigmoid(self.weigh((left - right).abs()).squeeze(-1))  # (B,)
        return Comparison(left, right, same)
