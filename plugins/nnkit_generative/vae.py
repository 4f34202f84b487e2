"""Variational autoencoder: an image becomes a normal distribution of codes, and each code an image.

Kingma and Welling 2013, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114, Sections 2 and 3
and Appendix C. Names and sizes are those of PyTorch's own example, whose state dicts load as they are.

    h = relu(W_1 x + b_1);   μ = W_21 h + b_21;   log σ² = W_22 h + b_22     encoder: q(z|x) = N(μ, σ² I)
    z = μ + σ ⊙ ε,  ε ~ N(0, I)                                              reparameterization
    x̂ = sigmoid(W_4 relu(W_3 z + b_3) + b_4)                                 decoder: p(x|z), pixels 0 or 1

    loss = -E[log p(x|z)] + KL(q(z|x) ‖ N(0, I)),   KL = ½ Σ (μ² + σ² - 1 - log σ²)

The draw is written as a function of μ, σ and noise that depends on neither, so gradients reach both. In eval
mode nothing is drawn: z = μ.

B batch, L latent, D the pixels of an image in a row.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nnkit_generative.configs import VAEConfig


class Encoded(NamedTuple):
    """What the VAE returns.

    reconstruction: (B, in_channels, image_size, image_size), from 0 to 1. mean, log_variance: (B, L).
    """

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor


class VAE(nn.Module):
    """image (B, in_channels, image_size, image_size), from 0 to 1 → reconstruction, mean and log variance."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        pixels = config.in_channels * config.image_size**2
        self.shape = (config.in_channels, config.image_size, config.image_size)
        self.activation = nn.ReLU() if config.activation == "relu" else nn.Tanh()
        self.fc1 = nn.Linear(pixels, config.hidden_size)
        self.fc21 = nn.Linear(config.hidden_size, config.latent)
        self.fc22 = nn.Linear(config.hidden_size, config.latent)
        self.fc3 = nn.Linear(config.latent, config.hidden_size)
        self.fc4 = nn.Linear(config.hidden_size, pixels)

    def forward(self, image: Tensor) -> Encoded:
        """Return the image as its code gives it back, and the distribution of its codes."""
        mean, log_variance = self.encode(image)  # (B, L)
        z = self.draw(mean, log_variance) if self.training else mean  # (B, L)
        return Encoded(self.decode(z), mean, log_variance)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the codes of images."""
        x = image.flatten(1)  # (B, D)
        h = self.activation(self.fc1(x))  # (B, hidden_size)
        return self.fc21(h), self.fc22(h)

    def draw(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return a code drawn from N(mean, exp(log_variance))."""
        return mean + torch.exp(log_variance / 2) * torch.randn_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of codes (B, L): codes from N(0, I) give new ones."""
        h = self.activation(self.fc3(z))  # (B, hidden_size)
        return torch.sigmoid(self.fc4(h)).unflatten(1, self.shape)  # (B, in_channels, image_size, image_size)
