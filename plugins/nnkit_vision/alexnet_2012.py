"""The AlexNet of 2012: two groups of channels, one per GPU, and local response normalization.

Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural
Networks", https://papers.nips.cc/paper/4824.

    b_i = a_i / (2 + 10⁻⁴ Σ_j a_j²)^0.75      over the five channels j around i
    y   = classifier(flatten(features(x)))

The second, fourth and fifth convolution see only the channels of their own group; the third sees all.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from nnkit_vision.configs import AlexNet2012Config
from nnkit_vision.normalization import LocalResponseNorm

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def local_response_norm() -> LocalResponseNorm:
    """Return the paper's normalization: k = 2, n = 5, α = 10⁻⁴, β = 0.75.

    torch divides its alpha by n, which the paper doesn't.
    """
    return LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def drawn(layer: Layer, bias: float) -> Layer:
    """Return `layer` as section 5 of the paper begins it: weights of deviation 0.01, biases all 0 or all 1.

    Ones give the ReLUs positive inputs from the start.
    """
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer


class AlexNet2012(nn.Module):
    """Five convolutions and three linear layers: (B, in_channels, 227, 227) → (B, num_classes).

    The paper says 224, but its first layer's 55×55 outputs need 227.
    """

    def __init__(self, config: AlexNet2012Config) -> None:
        super().__init__()
        self.features = nn.Sequential(
            drawn(nn.Conv2d(config.in_channels, 96, kernel_size=11, stride=4), bias=0),
            nn.ReLU(inplace=True),
            local_response_norm(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            drawn(nn.Conv2d(96, 256, kernel_size=5, padding=2, groups=2), bias=1),
            nn.ReLU(inplace=True),
            local_response_norm(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            drawn(nn.Conv2d(256, 384, kernel_size=3, padding=1), bias=0),
            nn.ReLU(inplace=True),
            drawn(nn.Conv2d(384, 384, kernel_size=3, padding=1, groups=2), bias=1),
            nn.ReLU(inplace=True),
            drawn(nn.Conv2d(384, 256, kernel_size=3, padding=1, groups=2), bias=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.classifier = nn.Sequential(
            drawn(nn.Linear(256 * 6 * 6, 4096), bias=1),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            drawn(nn.Linear(4096, 4096), bias=1),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            drawn(nn.Linear(4096, config.num_classes), bias=0),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.features(image)  # (B, 256, 6, 6)
        x = torch.flatten(x, 1)  # (B, 9216)
        logits: Tensor = self.classifier(x)
        return logits
