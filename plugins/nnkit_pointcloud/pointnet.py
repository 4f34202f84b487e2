"""PointNet: a function of a set of points, whatever their number and order.

Qi, Su, Mo, Guibas: PointNet: Deep Learning on Point Sets for 3D Classification and Segmentation.
CVPR 2017, https://arxiv.org/abs/1612.00593

    f({x_1, ..., x_n}) = g( max_i h(x_i) )

h is one small network applied to each point separately, the maximum is taken per channel over the points,
and g classifies the vector that is left. A maximum does not know the order of its arguments, so f
doesn't either. Two transform nets (T-Nets), themselves such functions, predict a matrix from the
cloud that turns its coordinates (3×3) and later its features (64×64) into a canonical pose. For
segmentation the global vector is joined to the features of each point.

    points (B, 3, N) --T-Net--> 64 --> 64 --T-Net--> point features (B, 64, N)
        --> 64 --> 128 --> 1024 --max over N--> global feature (B, 1024)
    classification: global --> 512 --> 256 --> classes
    segmentation: [point; global] (B, 1088, N) --> 512 --> 256 --> 128 --> 128 --> classes per point

Layers, initial values and the batch norm's epsilon are those of the authors' code,
https://github.com/charlesq34/pointnet. B is the batch, N the number of points, C channels.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from nnkit_pointcloud.configs import PointNetConfig, PointNetSegmentationConfig, PointNetVanillaConfig

# As in the authors' code; with torch's 1e-5 the same weights would give slightly different results.
BATCH_NORM_EPS = 1e-3

POINT_FEATURES = 64
GLOBAL_FEATURES = 1024


def shared_mlp(*widths: int) -> nn.Sequential:
    """Return the multi-layer perceptron that is applied to every point: (B, C, N) -> (B, C', N)."""
    layers: list[nn.Module] = []
    for in_channels, out_channels in pairwise(widths):
        # A convolution of width 1 is a linear layer with the same weights at each point.
        layers += [
            nn.Conv1d(in_channels, out_channels, kernel_size=1),
            nn.BatchNorm1d(out_channels, eps=BATCH_NORM_EPS),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def dense_mlp(*widths: int, dropout: float | None = None) -> nn.Sequential:
    """Return the perceptron that follows the maximum: (B, C) -> (B, C')."""
    layers: list[nn.Module] = []
    for in_features, out_features in pairwise(widths):
        layers += [
            nn.Linear(in_features, out_features),
            nn.BatchNorm1d(out_features, eps=BATCH_NORM_EPS),
            nn.ReLU(),
        ]
        if dropout is not None:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def max_over_points(x: Tensor) -> Tensor:
    """Reduce (B, C, N) to (B, C) by the maximum over the points.

    `amax` divides the gradient among equal maxima, so that gradients don't depend on the order either.
    """
    return x.amax(dim=2)


def orthogonality_loss(transform: Tensor) -> Tensor:
    """Return the paper's regularizer ‖I − A Aᵀ‖² for transforms A (B, K, K), averaged over the batch.

    The paper adds it, times 0.001, to the loss of the task.
    """
    identity = torch.eye(transform.shape[-1], dtype=transform.dtype, device=transform.device)
    return (identity - transform @ transform.mT).square().sum(dim=(1, 2)).mean()


def _initialize(module: nn.Module) -> None:
    """Start linear maps as the authors do: Glorot's uniform weights, no bias."""
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class TransformNet(nn.Module):
    """T-Net: predicts from a cloud (B, C, N) the matrix (B, C, C) that brings it into a canonical pose.

    `reset_parameters` makes it predict the identity, whatever the cloud.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.mlp = shared_mlp(channels, 64, 128, GLOBAL_FEATURES)
        self.dense = dense_mlp(GLOBAL_FEATURES, 512, 256)
        self.matrix = nn.Linear(256, channels * channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.apply(_initialize)
        nn.init.zeros_(self.matrix.weight)
        nn.init.eye_(self.matrix.bias.view(self.channels, self.channels))

    def forward(self, x: Tensor) -> Tensor:
        features = self.dense(max_over_points(self.mlp(x)))  # (B, 256)
        matrix: Tensor = self.matrix(features)  # (B, C * C)
        return matrix.view(-1, self.channels, self.channels)  # (B, C, C)


def transform_points(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each point, a row of C channels, by the matrix (B, C, C) of its cloud (B, C, N)."""
    return matrix.mT @ x  # (B, C, N)


class PointNetEncoder(nn.Module):
    """From a cloud (B, C, N) to point features (B, 64, N) and a global feature (B, 1024).

    Also returns the feature transform (B, 64, 64), None where `transforms` is off.
    """

    def __init__(self, in_channels: int = 3, transforms: bool = True) -> None:
        super().__init__()
        self.input_transform = TransformNet(in_channels) if transforms else None
        self.point_mlp = shared_mlp(in_channels, 64, POINT_FEATURES)
        self.feature_transform = TransformNet(POINT_FEATURES) if transforms else None
        self.global_mlp = shared_mlp(POINT_FEATURES, 64, 128, GLOBAL_FEATURES)
        self.point_mlp.apply(_initialize)
        self.global_mlp.apply(_initialize)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.input_transform is not None:
            x = transform_points(x, self.input_transform(x))  # (B, C, N)
        point_features = self.point_mlp(x)  # (B, 64, N)
        matrix = None
        if self.feature_transform is not None:
            matrix = self.feature_transform(point_features)  # (B, 64, 64)
            point_features = transform_points(point_features, matrix)  # (B, 64, N)
        global_feature = max_over_points(self.global_mlp(point_features))  # (B, 1024)
        return point_features, global_feature, matrix


def classification_head(num_classes: int, dropout: float) -> nn.Sequential:
    """Return g: (B, 1024) -> logits (B, num_classes)."""
    head = dense_mlp(GLOBAL_FEATURES, 512, 256, dropout=dropout).append(nn.Linear(256, num_classes))
    return head.apply(_initialize)


def segmentation_head(num_classes: int) -> nn.Sequential:
    """Return the classifier of points: (B, 1088, N) -> logits (B, num_classes, N)."""
    head = shared_mlp(POINT_FEATURES + GLOBAL_FEATURES, 512, 256, 128, 128)
    head.append(nn.Conv1d(128, num_classes, kernel_size=1))
    return head.apply(_initialize)


class PointNet(nn.Module):
    """Classification: a cloud (B, C, N) -> logits (B, num_classes), with both transform nets.

    Under `return_transform` the feature transform (B, 64, 64) comes second, for `orthogonality_loss`.
    """

    def __init__(self, config: PointNetConfig) -> None:
        super().__init__()
        self.return_transform = config.return_transform
        self.encoder = PointNetEncoder(config.in_channels)
        self.head = classification_head(config.num_classes, config.dropout)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        _, global_feature, matrix = self.encoder(x)
        logits: Tensor = self.head(global_feature)  # (B, num_classes)
        return (logits, matrix) if self.return_transform else logits


class PointNetVanilla(nn.Module):
    """Classification without transform nets, the paper's baseline: (B, C, N) -> (B, num_classes)."""

    def __init__(self, config: PointNetVanillaConfig) -> None:
        super().__init__()
        self.encoder = PointNetEncoder(config.in_channels, transforms=False)
        self.head = classification_head(config.num_classes, config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        _, global_feature, _ = self.encoder(x)
        logits: Tensor = self.head(global_feature)  # (B, num_classes)
        return logits


class PointNetSegmentation(nn.Module):
    """Part segmentation: a cloud (B, C, N) -> logits (B, num_classes, N), one set per point.

    Under `return_transform` the feature transform (B, 64, 64) comes second, for `orthogonality_loss`.
    """

    def __init__(self, config: PointNetSegmentationConfig) -> None:
        super().__init__()
        self.return_transform = config.return_transform
        self.encoder = PointNetEncoder(config.in_channels)
        self.head = segmentation_head(config.num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        point_features, global_feature, matrix = self.encoder(x)
        at_each_point = global_feature.unsqueeze(2).expand(-1, -1, x.shape[2])  # (B, 1024, N)
        joined = torch.cat((point_features, at_each_point), dim=1)  # (B, 1088, N)
        logits: Tensor = self.head(joined)  # (B, num_classes, N)
        return (logits, matrix) if self.return_transform else logits
