"""A GAN with spectral normalization: a generator draws pictures, a discriminator tells them from real ones.

Goodfellow et al.: Generative Adversarial Nets. NeurIPS 2014, https://arxiv.org/abs/1406.2661
Miyato et al.: Spectral Normalization for GANs. ICLR 2018, https://arxiv.org/abs/1802.05957

    min_G max_D  E_x[log σ(D(x))] + E_z[log σ(-D(G(z)))],    each weight of D divided by its largest singular value

Two players in one module: each step of the training moves one of them.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from nnkit_studio.configs import GANConfig


@dataclass
class Round:
    """One round of the game.

    fake: pictures (B, channels, size, size) by the generator. fake_score, real_score: (B,), high where the
    discriminator takes a picture for real.
    """

    fake: Tensor
    fake_score: Tensor
    real_score: Tensor


def generator(config: GANConfig) -> nn.Sequential:
    """z (B, latent) -> picture (B, channels, size, size), from -1 to 1."""
    features, corner = config.features, config.size // 4
    return nn.Sequential(
        nn.Linear(config.latent, 2 * features * corner * corner),
        nn.Unflatten(1, (2 * features, corner, corner)),
        nn.BatchNorm2d(2 * features),
        nn.ReLU(),
        nn.ConvTranspose2d(
            2 * features, features, 4, stride=2, padding=1
        ),  # (B, features, size / 2, size / 2)
        nn.BatchNorm2d(features),
        nn.ReLU(),
        nn.ConvTranspose2d(features, config.channels, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def discriminator(config: GANConfig) -> nn.Sequential:
    """Picture (B, channels, size, size) -> score (B, 1)."""
    features, corner = config.features, config.size // 4
    return nn.Sequential(
        spectral_norm(nn.Conv2d(config.channels, features, 4, stride=2, padding=1)),
        nn.LeakyReLU(0.1),
        spectral_norm(nn.Conv2d(features, 2 * features, 4, stride=2, padding=1)),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        spectral_norm(nn.Linear(2 * features * corner * corner, 1)),
    )


class GAN(nn.Module):
    """z (B, latent), image (B, channels, size, size) -> `Round`."""

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.generator = generator(config)
        self.discriminator = discriminator(config)

    def forward(self, z: Tensor, image: Tensor) -> Round:
        fake = self.generator(z)
        fake_score, real_score = (self.discriminator(picture).squeeze(-1) for picture in (fake, image))
        return Round(fake, fake_score, real_score)
