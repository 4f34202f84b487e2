"""LeNet-5, as it is taught today: convolutions with ReLU and max pooling, then three linear layers.

After LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document
Recognition", http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf. The network of that paper itself,
with its sparse connections and its distances to bitmaps, is `lenet_1998.py`.

    h1 = pool(relu(conv1(x)))    1×28×28 → 6×14×14
    h2 = pool(relu(conv2(h1)))   6×14×14 → 16×5×5
    y  = fc3(relu(fc2(relu(fc1(flatten(h2))))))   400 → 120 → 84 → 10
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import LeNetConfig


class LeNet(nn.Module):
    """Two convolutions and three linear layers: (B, C, S, S) → (B, num_classes)."""

    def __init__(self, config: LeNetConfig) -> None:
        super().__init__()
        pooled = ((config.image_size + 2 * config.padding - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(config.in_channels, 6, kernel_size=5, padding=config.padding)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.fc1 = nn.Linear(16 * pooled * pooled, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, config.num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = F.max_pool2d(F.relu(self.conv1(image)), 2)  # (B, 6, 14, 14)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (B, 16, 5, 5)
        x = torch.flatten(x, 1)  # (B, 400)
        x = F.relu(self.fc1(x))  # (B, 120)
        x = F.relu(self.fc2(x))  # (B, 84)
        logits: Tensor = self.fc3(x)
        return logits
