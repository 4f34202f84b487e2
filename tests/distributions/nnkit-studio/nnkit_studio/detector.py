"""FCOS: a fully convolutional detector. Each place of a pyramid says what is there, and how large it is.

Tian, Shen, Chen, He: FCOS: Fully Convolutional One-Stage Object Detection. ICCV 2019,
https://arxiv.org/abs/1904.01355. The pyramid: Lin et al., CVPR 2017, https://arxiv.org/abs/1612.03144

    c₃, c₄, c₅ = backbone(x);    p₅ = W c₅,   pᵢ = W cᵢ + up(pᵢ₊₁)
    scores, centerness = head(pᵢ);   box = exp(sᵢ head(pᵢ)): distances to left, top, right and bottom

Level pᵢ has one place for each 2ⁱ × 2ⁱ pixels. All levels share the heads; only the scale sᵢ is their own.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_studio.configs import DetectorConfig

LEVELS = ("p3", "p4", "p5")


class Level(NamedTuple):
    """The predictions at one level, with h × w places.

    scores: (B, classes, h, w). boxes: (B, 4, h, w), in places. centerness: (B, 1, h, w).
    """

    scores: Tensor
    boxes: Tensor
    centerness: Tensor


def halve(in_channels: int, out_channels: int) -> nn.Sequential:
    """(B, in, H, W) -> (B, out, H / 2, W / 2)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def tower(features: int) -> nn.Sequential:
    """Two convolutions that keep the shape (B, features, h, w)."""
    layers = [
        layer
        for _ in range(2)
        for layer in (nn.Conv2d(features, features, 3, padding=1), nn.GroupNorm(4, features), nn.ReLU())
    ]
    return nn.Sequential(*layers)


class Detector(nn.Module):
    """image (B, channels, H, W) -> a `Level` each for p3, p4 and p5."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        features = config.features
        self.stem = nn.Sequential(halve(config.channels, features), halve(features, features))  # H / 4
        stages = {
            "p3": halve(features, features),
            "p4": halve(features, 2 * features),
            "p5": halve(2 * features, 4 * features),
        }
        self.stages = nn.ModuleDict(stages)
        channels = {"p3": features, "p4": 2 * features, "p5": 4 * features}
        self.lateral = nn.ModuleDict({level: nn.Conv2d(channels[level], features, 1) for level in LEVELS})
        self.smooth = nn.ModuleDict({level: nn.Conv2d(features, features, 3, padding=1) for level in LEVELS})
        self.score_tower, self.box_tower = tower(features), tower(features)
        self.scores = nn.Conv2d(features, config.classes, 3, padding=1)
        self.boxes = nn.Conv2d(features, 4, 3, padding=1)
        self.centerness = nn.Conv2d(features, 1, 3, padding=1)
        self.scale = nn.ParameterDict({level: nn.Parameter(torch.ones(())) for level in LEVELS})

    def forward(self, image: Tensor) -> dict[str, Level]:
        pyramid = self.pyramid(image)
        return {level: self.predict(level, pyramid[level]) for level in LEVELS}

    def pyramid(self, image: Tensor) -> dict[str, Tensor]:
        """Return the features of each level, (B, features, H / 2ⁱ, W / 2ⁱ)."""
        x = self.stem(image)
        bottom_up = {}
        for level in LEVELS:
            x = bottom_up[level] = self.stages[level](x)
        merged: dict[str, Tensor] = {}
        above = None
        for level in reversed(LEVELS):
            above = self.lateral[level](bottom_up[level]) + (0 if above is None else double(above))
            merged[level] = self.smooth[level](above)
        return merged

    def predict(self, level: str, features: Tensor) -> Level:
        """Return the predictions for features (B, features, h, w)."""
        about_boxes = self.box_tower(features)
        boxes = torch.exp(self.scale[level] * self.boxes(about_boxes))
        return Level(self.scores(self.score_tower(features)), boxes, self.centerness(about_boxes))


def double(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2 h, 2 w)."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
