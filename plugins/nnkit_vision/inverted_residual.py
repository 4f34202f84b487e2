"""The inverted residual block, of which MobileNets and EfficientNets are made: wide inside, narrow outside.

Sandler, Howard, Zhu, Zhmoginov and Chen 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
https://arxiv.org/abs/1801.04381, with the channel weights of Hu, Shen and Sun 2017, "Squeeze-and-Excitation
Networks", https://arxiv.org/abs/1709.01507:

    y = project(squeeze_excite(depthwise(expand(x)))) + x     x is added where the shape stays
    expand     1×1 to more channels, normalized and activated
    depthwise  k×k, each channel by itself, normalized and activated
    squeeze    x · gate(W₂ act(W₁ mean(x))): each channel times a weight that follows from the whole image
    project    1×1 to few channels, normalized, without activation: there a ReLU would lose too much

Its cost lies in the 1×1s. The depthwise filter is cheap, so it has many channels to work on.
"""

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from nnkit_vision.stochastic_depth import StochasticDepth

Norm: TypeAlias = Callable[[int], nn.Module]
Activation: TypeAlias = Callable[[], nn.Module]


def rounded(channels: float) -> int:
    """Return the nearest multiple of 8, which hardware likes, but no less than 0.9 times `channels`.

    18 is nearest to 16, which is less than 0.9 · 18, so it becomes 24.
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm: Norm,
    activation: Activation | None = None,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Return a convolution that keeps the size apart from its stride, normalization and activation."""
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
    layers = [conv, norm(out_channels)]
    return nn.Sequential(*layers, activation()) if activation else nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Weighs the channels by what the whole image holds: (B, C, H, W) → (B, C, H, W).

    The two 1×1 convolutions are linear layers, W₁ to `squeezed` channels and W₂ back.
    """

    def __init__(self, channels: int, squeezed: int, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, kernel_size=1)
        self.fc2 = nn.Conv2d(squeezed, channels, kernel_size=1)
        self.activation = activation
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Return x with each channel multiplied by its weight."""
        mean = self.avgpool(x)  # (B, C, 1, 1)
        squeezed = self.activation(self.fc1(mean))  # (B, squeezed, 1, 1)
        weights: Tensor = self.gate(self.fc2(squeezed))  # (B, C, 1, 1)
        return weights * x


class InvertedResidual(nn.Module):
    """The block: (B, in_channels, H, W) → (B, out_channels, H/stride, W/stride).

    expanded: its channels inside. drop: how often stochastic depth leaves the branch out, where x is added.
    """

    def __init__(
        self,
        in_channels: int,
        expanded: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        norm: Norm,
        activation: Activation,
        squeeze_excitation: nn.Module | None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.adds_input = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expanded != in_channels:
            layers.append(conv_norm(in_channels, expanded, 1, norm, activation))
        layers.append(conv_norm(expanded, expanded, kernel_size, norm, activation, stride, groups=expanded))
        if squeeze_excitation is not None:
            layers.append(squeeze_excitation)
        layers.append(conv_norm(expanded, out_channels, 1, norm))
        if self.adds_input and drop > 0:
            layers.append(StochasticDepth(drop))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch, plus x where the shape stays."""
        y: Tensor = self.block(x)
        if self.adds_input:
            y += x
        return y
