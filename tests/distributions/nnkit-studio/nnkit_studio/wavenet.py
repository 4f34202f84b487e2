"""WaveNet: the next sample of a sound from all before it, by causal convolutions that reach ever further.

van den Oord et al.: WaveNet: A Generative Model for Raw Audio. 2016, https://arxiv.org/abs/1609.03499

    z = tanh(W_f * x + V_f s) ⊙ σ(W_g * x + V_g s);    x = x + W_x z,   scores = W₂ relu(W₁ relu(Σ W_s z))

* is a convolution of two taps, `dilation` samples apart; s embeds the speaker, where one is given.
B batch, T time, C channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_studio.configs import WaveNetConfig


class GatedLayer(nn.Module):
    """x (B, C, T) -> what goes on (B, C, T), and what goes to the output (B, skip, T).

    Nothing goes on from the last layer, so that one has no convolution for it.
    """

    def __init__(self, config: WaveNetConfig, dilation: int, is_last: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.convolution = nn.Conv1d(config.channels, 2 * config.channels, 2, dilation=dilation)
        self.speaker = nn.Linear(config.speaker_width, 2 * config.channels, bias=False)
        self.residual = None if is_last else nn.Conv1d(config.channels, config.channels, 1)
        self.skip = nn.Conv1d(config.channels, config.skip_channels, 1)

    def forward(self, x: Tensor, speaker: Tensor | None) -> tuple[Tensor, Tensor]:
        h = self.convolution(F.pad(x, (self.dilation, 0)))  # (B, 2 C, T): nothing from the future
        if speaker is not None:
            h = h + self.speaker(speaker)[:, :, None]
        filtered, gate = h.chunk(2, dim=1)
        z = torch.tanh(filtered) * torch.sigmoid(gate)  # (B, C, T)
        return x if self.residual is None else x + self.residual(z), self.skip(z)


class WaveNet(nn.Module):
    """samples (B, T), quantized [, speaker (B,)] -> scores (B, levels, T) of the sample after each."""

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.levels, config.channels)
        self.speaker = nn.Embedding(config.speakers, config.speaker_width)
        last = len(config.dilations) - 1
        self.layers = nn.ModuleList(
            GatedLayer(config, dilation, is_last=index == last)
            for index, dilation in enumerate(config.dilations)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(config.skip_channels, config.skip_channels, 1),
            nn.ReLU(),
            nn.Conv1d(config.skip_channels, config.levels, 1),
        )

    def forward(self, samples: Tensor, *, speaker: Tensor | None = None) -> Tensor:
        x = self.embedding(samples).transpose(1, 2)  # (B, C, T)
        voice = None if speaker is None else self.speaker(speaker)  # (B, speaker_width)
        total = x.new_zeros(())
        for layer in self.layers:
            x, skip = layer(x, voice)
            total = total + skip  # (B, skip, T)
        scores: Tensor = self.head(total)
        return scores  # (B, levels, T)
