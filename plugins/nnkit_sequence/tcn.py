"""Temporal convolutional network: dilated causal convolutions, as a plain rival of recurrent networks.

Bai, Kolter and Koltun 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
Sequence Modeling", https://arxiv.org/abs/1803.01271. Names and arithmetic are those of the authors' code,
whose state dicts load as they are.

    (x *_d w)(t) = Σ_i w(i) x(t - d i)            i = 0 ... k - 1: nothing later than t
    w = g v / ‖v‖                                 weight normalization: a length and a direction
    F(x) = drop(relu(drop(relu(x *_d w_1)) *_d w_2))
    block  y = relu(F(x) + x)                     or W x, a 1×1 convolution, where the channels change

Block i has the dilation d = 2^i, so the reach grows exponentially with depth. An output depends on the last
1 + 2 (k - 1) (2^levels - 1) steps, and a network whose task needs more than that can't learn it.

B is the batch, T the steps, C the channels.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from nnkit_sequence.configs import TCNConfig


class TemporalBlock(nn.Module):
    """Two causal convolutions and a shortcut: (B, in_channels, T) -> (B, out_channels, T)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        self.past = (kernel_size - 1) * dilation  # steps before the first that its output depends on
        self.conv1 = weight_norm(nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(out_channels, out_channels, kernel_size, dilation=dilation))
        self.dropout = nn.Dropout(dropout)
        self.downsample = nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else None
        if self.downsample is not None:
            nn.init.normal_(self.downsample.weight, std=0.01)
        self.register_load_state_dict_pre_hook(drop_copies)

    def forward(self, x: Tensor) -> Tensor:
        # With as many zeros before the first step as the convolution looks back, T stays as it is.
        out = self.dropout(F.relu(self.conv1(F.pad(x, (self.past, 0)))))  # (B, out_channels, T)
        out = self.dropout(F.relu(self.conv2(F.pad(out, (self.past, 0)))))  # (B, out_channels, T)
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class TemporalConvNet(nn.Module):
    """Blocks whose dilation doubles from one to the next: (B, input_size, T) -> (B, channels, T)."""

    def __init__(self, config: TCNConfig) -> None:
        super().__init__()
        widths = [config.input_size, *[config.channels] * config.levels]
        self.network = nn.Sequential(
            *(
                TemporalBlock(widths[i], widths[i + 1], config.kernel_size, 2**i, config.dropout)
                for i in range(config.levels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(x)
        return features


class TCN(nn.Module):
    """The convolutional network and a linear layer: x (B, input_size, T) -> scores (B, T, output_size)."""

    def __init__(self, config: TCNConfig) -> None:
        super().__init__()
        self.tcn = TemporalConvNet(config)
        self.linear = nn.Linear(config.channels, config.output_size)

    def forward(self, x: Tensor) -> Tensor:
        features = self.tcn(x).transpose(1, 2)  # (B, channels, T) -> (B, T, channels)
        scores: Tensor = self.linear(features)
        return scores


def drop_copies(block: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Leave out what a state dict of the authors' code has twice: under `net`, each convolution once more."""
    for name in [name for name in state if name.startswith(f"{prefix}net.")]:
        del state[name]
