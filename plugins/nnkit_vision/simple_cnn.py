"""A small convolutional network: two convolutions, each followed by a pool, and two linear layers.

Source: the network that introduces CNNs in many tutorials; its ancestor is LeNet-5
(LeCun, Bottou, Bengio and Haffner 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf).

    h1 = pool(relu(conv1(x)))        3×32×32 → 32×16×16
    h2 = pool(relu(conv2(h1)))       32×16×16 → 64×8×8
    y  = fc2(relu(fc1(flatten(h2)))) 4096 → 128 → 10
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import SimpleCNNConfig


class SimpleCNN(nn.Module):
    """Two convolutions and two linear layers: (B, C, S, S) → (B, num_classes)."""

    def __init__(self, config: SimpleCNNConfig) -> None:
        super().__init__()
        pooled = config.image_size // 4
        self.conv1 = nn.Conv2d(config.in_channels, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.fc1 = nn.Linear(64 * pooled * pooled, 128)
        self.fc2 = nn.Linear(128, config.num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.pool(F.relu(self.conv1(image)))  # (B, 32, S/2, S/2)
        x = self.pool(F.relu(self.conv2(x)))  # (B, 64, S/4, S/4)
        # From axis 1 on, and never view(-1, n): that one moves pixels from one image to the next.
        x = torch.flatten(x, 1)  # (B, 64·S/4·S/4)
        x = F.relu(self.fc1(x))
        logits: Tensor = self.fc2(x)
        return logits
