"""WaveNet: the next sample of a sound from all the samples within its reach, by dilated causal convolutions.

Van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio", https://arxiv.org/abs/1609.03499

    p(x) = Π_t p(x_{t+1} | x_1 ... x_t)        each a softmax over 256 levels
    level  f(x) = sign(x) ln(1 + μ |x|) / ln(1 + μ), in μ + 1 = 256 steps: fine where a sound is soft
    layer  z = tanh(W_f * x + V_f h) ⊙ σ(W_g * x + V_g h)
           x ← x + W_r z                       to the next layer
           s ← s + W_s z                       to the output
    p = softmax(W_2 relu(W_1 relu(s)))

* is a causal convolution with a dilation that doubles from layer to layer, 1 2 4 ... 512, and starts again
in each stack. h is what the sound depends on: a speaker, the same at all times (global), or features, such
as a text's, for each sample (local). Both are optional.

B is the batch, T the samples, Q the levels, R the channels between layers, D those inside, S those of skips.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_sequence.configs import WaveNetConfig


class GatedLayer(nn.Module):
    """x (B, R, T) -> x for the next layer (B, R, T), and what the layer adds to the output (B, S, T).

    Nothing follows the last layer, which therefore has no residual convolution.
    """

    def __init__(self, config: WaveNetConfig, dilation: int, is_last: bool) -> None:
        super().__init__()
        inside = config.dilation_channels
        self.past = (config.kernel_size - 1) * dilation
        # The filter W_f and the gate W_g side by side, and so V_f and V_g.
        self.dilated = nn.Conv1d(config.residual_channels, 2 * inside, config.kernel_size, dilation=dilation)
        self.speaker = nn.Embedding(config.speakers, 2 * inside) if config.speakers else None
        self.features = nn.Conv1d(config.features, 2 * inside, 1, bias=False) if config.features else None
        self.residual = None if is_last else nn.Conv1d(inside, config.residual_channels, 1)
        self.skip = nn.Conv1d(inside, config.skip_channels, 1)

    def forward(self, x: Tensor, speaker: Tensor | None, features: Tensor | None) -> tuple[Tensor, Tensor]:
        both = self.dilated(F.pad(x, (self.past, 0)))  # (B, 2D, T): zeros stand before the first sample
        if speaker is not None and self.speaker is not None:
            both = both + self.speaker(speaker).unsqueeze(2)  # (B, 2D, 1)
        if features is not None and self.features is not None:
            both = both + self.features(features)  # (B, 2D, T)
        filtered, gate = both.chunk(2, dim=1)  # (B, D, T) each
        z = torch.tanh(filtered) * torch.sigmoid(gate)
        return x if self.residual is None else x + self.residual(z), self.skip(z)


class WaveNet(nn.Module):
    """samples (B, T), perhaps speaker (B,) and features (B, F, T) -> scores (B, Q, T) of each next sample."""

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.levels = config.levels
        self.past = config.kernel_size - 1
        self.causal = nn.Conv1d(config.levels, config.residual_channels, config.kernel_size)
        dilations = [2**i for i in range(config.layers)] * config.stacks
        self.layers = nn.ModuleList(
            GatedLayer(config, dilation, is_last=i == len(dilations) - 1)
            for i, dilation in enumerate(dilations)
        )
        self.hidden = nn.Conv1d(config.skip_channels, config.skip_channels, 1)  # W_1
        self.output = nn.Conv1d(config.skip_channels, config.levels, 1)  # W_2
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:  # the scores of two sounds differ by 0.12 at first, and with torch's own start by 0.006
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, samples: Tensor, speaker: Tensor | None = None, features: Tensor | None = None
    ) -> Tensor:
        one_hot = F.one_hot(samples, self.levels).transpose(1, 2).to(self.causal.weight.dtype)  # (B, Q, T)
        x = self.causal(F.pad(one_hot, (self.past, 0)))  # (B, R, T)
        skips = []
        for layer in self.layers:
            x, skip = layer(x, speaker, features)  # (B, R, T), (B, S, T)
            skips.append(skip)
        total = sum(skips[1:], start=skips[0])  # (B, S, T)
        scores: Tensor = self.output(F.relu(self.hidden(F.relu(total))))
        return scores


def encode(sound: Tensor, levels: int = 256) -> Tensor:
    """Return the level, 0 to levels - 1, of each number of a sound from -1 to 1, by the μ-law."""
    mu = levels - 1
    compressed = sound.sign() * torch.log1p(mu * sound.abs()) / math.log1p(mu)  # from -1 to 1
    return ((compressed + 1) / 2 * mu).round().long()


def decode(samples: Tensor, levels: int = 256) -> Tensor:
    """Return the number, -1 to 1, in the middle of each level: `encode` backward, up to rounding."""
    mu = levels - 1
    compressed = 2 * samples / mu - 1
    return compressed.sign() * torch.expm1(compressed.abs() * math.log1p(mu)) / mu
