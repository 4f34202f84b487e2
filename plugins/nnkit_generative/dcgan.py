"""DCGAN: a generator draws images by strided convolutions, a discriminator spots them.

Radford, Metz and Chintala 2015, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", https://arxiv.org/abs/1511.06434. The game is that of Goodfellow et al. 2014,
https://arxiv.org/abs/1406.2661. Sizes, names and initialization are those of PyTorch's DCGAN tutorial, whose
state dicts load as they are.

    min_G max_D  E_x[log D(x)] + E_z[log(1 - D(G(z)))],  z ~ N(0, I)

    generator       z → 4×4 → 8×8 → … → image: each layer doubles the size and halves the channels
    discriminator   the same backwards: image → … → 8×8 → 4×4 → probability that the image is real

The paper's guidelines: strides instead of pooling, no hidden linear layers, batch normalization except at
the image and at the probability, ReLU in the generator and tanh at its end, LeakyReLU in the discriminator.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from nnkit_generative.configs import DCGANConfig, DCGANDiscriminatorConfig


def widths(config: DCGANDiscriminatorConfig) -> list[int]:
    """Return the channels at each size, largest image first: 64, 128, 256, 512 at 32×32 to 4×4."""
    halvings = config.image_size.bit_length() - 3  # from the image to 4×4: 64 takes 4
    return [config.features * 2**i for i in range(halvings)]


class Generator(nn.Module):
    """z (B, latent, 1, 1) → image (B, channels, image_size, image_size), from -1 to 1."""

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__()
        narrow_to_wide = widths(config)
        *hidden, last = reversed(narrow_to_wide)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(
                config.latent, narrow_to_wide[-1], kernel_size=4, bias=False
            ),  # (B, widest, 4, 4)
            nn.BatchNorm2d(narrow_to_wide[-1]),
            nn.ReLU(inplace=True),
        ]
        for channels in hidden:
            layers += [
                nn.ConvTranspose2d(channels, channels // 2, kernel_size=4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels // 2),  # (B, channels / 2, 2 H, 2 W)
                nn.ReLU(inplace=True),
            ]
        layers += [
            nn.ConvTranspose2d(last, config.channels, kernel_size=4, stride=2, padding=1, bias=False),
            nn.Tanh(),
        ]
        self.main = nn.Sequential(*layers)
        init(self)

    def forward(self, z: Tensor) -> Tensor:
        """Return the image of z."""
        image: Tensor = self.main(z)
        return image


class Discriminator(nn.Module):
    """image (B, channels, image_size, image_size) → the probability that it is real (B,)."""

    def __init__(self, config: DCGANDiscriminatorConfig) -> None:
        super().__init__()
        first, *hidden = widths(config)
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, first, kernel_size=4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for channels in hidden:
            layers += [
                nn.Conv2d(channels // 2, channels, kernel_size=4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),  # (B, channels, H / 2, W / 2)
                nn.LeakyReLU(0.2, inplace=True),
            ]
        widest = hidden[-1] if hidden else first
        layers += [nn.Conv2d(widest, 1, kernel_size=4, bias=False), nn.Sigmoid()]  # (B, 1, 1, 1)
        self.main = nn.Sequential(*layers)
        init(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the probability that an image is real."""
        return self.main(image).flatten()  # (B,)


@dataclass
class Round:
    """One round of the game.

    fake: images by the generator, (B, channels, image_size, image_size). fake_score, real_score: (B,), the
    probabilities that the discriminator gives to those and to the real images.
    """

    fake: Tensor
    fake_score: Tensor
    real_score: Tensor


class DCGAN(nn.Module):
    """z (B, latent, 1, 1), real images (B, channels, image_size, image_size) → `Round`.

    Each step of training moves one of the two networks: the generator by fake_score, the discriminator by
    both scores.
    """

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__()
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)

    def forward(self, z: Tensor, image: Tensor) -> Round:
        """Return images drawn from z, and what the discriminator makes of them and of real ones."""
        fake = self.generator(z)
        return Round(fake, self.discriminator(fake), self.discriminator(image))


def init(model: nn.Module) -> None:
    """Draw weights from N(0, 0.02²), and the scales of batch normalization from N(1, 0.02²)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, mean=1.0, std=0.02)
