"""AlexNet: five convolutions and three linear layers, the network that began deep vision.

Krizhevsky, Sutskever and Hinton 2012, https://papers.nips.cc/paper/4824, in the later form of one
column (Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks",
https://arxiv.org/abs/1404.5997), which is torchvision's: its state dict loads as it is. The network of
2012, with groups and local response normalization, is `alexnet_2012.py`.

    y = classifier(flatten(avgpool(features(x))))
    features    conv11/4 pool conv5 pool conv3 conv3 conv3 pool, each convolution with a ReLU
    classifier  dropout linear dropout linear linear, with ReLUs between
"""

import torch
from torch import Tensor, nn

from nnkit_vision.configs import AlexNetConfig
from nnkit_vision.pooling import AdaptiveAvgPool2d


class AlexNet(nn.Module):
    """Five convolutions and three linear layers: (B, in_channels, H, W) → (B, num_classes).

    The means over a 6×6 grid allow any size from 63×63, the smallest that survives the pools.
    """

    def __init__(self, config: AlexNetConfig) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(config.in_channels, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, config.num_classes),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the class scores (logits) of each image."""
        x = self.features(image)  # (B, 256, 6, 6) from 224×224
        x = self.avgpool(x)  # (B, 256, 6, 6)
        x = torch.flatten(x, 1)  # (B, 9216)
        logits: Tensor = self.classifier(x)
        return logits
