"""Variational autoencoder: a picture becomes a normal distribution of codes, and a code a picture.

Kingma, Welling: Auto-Encoding Variational Bayes. ICLR 2014, https://arxiv.org/abs/1312.6114

    μ, log σ² = encoder(x);    z = μ + σ ⊙ ε,  ε ~ N(0, I);    x̂ = sigmoid(decoder(z))

ε is drawn only in training. In eval mode z = μ, the likeliest code.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nnkit_studio.configs import VAEConfig


class Encoded(NamedTuple):
    """What the VAE returns.

    reconstruction: (B, channels, size, size). mean, log_variance: (B, latent).
    """

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor


class VAE(nn.Module):
    """image (B, channels, size, size), from 0 to 1 -> reconstruction, mean and log variance."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        features, corner = config.features, config.size // 4
        flat = 2 * features * corner * corner
        self.encoder = nn.Sequential(
            nn.Conv2d(config.channels, features, 4, stride=2, padding=1),  # (B, features, size / 2, size / 2)
            nn.ReLU(),
            nn.Conv2d(features, 2 * features, 4, stride=2, padding=1),  # (B, 2 features, size / 4, size / 4)
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(flat, config.latent)
        self.log_variance = nn.Linear(flat, config.latent)
        self.decoder = nn.Sequential(
            nn.Linear(config.latent, flat),
            nn.ReLU(),
            nn.Unflatten(1, (2 * features, corner, corner)),
            nn.ConvTranspose2d(2 * features, features, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(features, config.channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, image: Tensor) -> Encoded:
        features = self.encoder(image)  # (B, flat)
        mean, log_variance = self.mean(features), self.log_variance(features)
        code = self.sample(mean, log_variance) if self.training else mean  # (B, latent)
        return Encoded(self.decoder(code), mean, log_variance)

    @staticmethod
    def sample(mean: Tensor, log_variance: Tensor) -> Tensor:
        """Draw a code from N(mean, exp(log_variance)), so that both get a gradient."""
        return mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
