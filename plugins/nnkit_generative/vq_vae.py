"""VQ-VAE: an autoencoder whose codes are words of a learned codebook.

Van den Oord, Vinyals and Kavukcuoglu 2017, "Neural Discrete Representation Learning",
https://arxiv.org/abs/1711.00937, Sections 3 and 4.1.

    z_e = encoder(x);   k = argmin_j ‖z_e - e_j‖;   z_q = e_k     at each place, the nearest word
    loss = -log p(x|z_q) + ‖sg[z_e] - e_k‖² + β ‖z_e - sg[e_k]‖²  reconstruction, codebook, commitment

sg[·] passes no gradient. Rounding to a word has derivative 0, so the gradient at z_q is passed to z_e as it
is: straight through. The encoder halves the image twice by strided 4×4 convolutions and has two residual
blocks; the decoder is the same backwards.

B batch, C hidden channels, D numbers in a word, K words, H and W of the image.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_generative.configs import VQVAEConfig


class Quantized(NamedTuple):
    """What the quantizer returns.

    quantized: (B, D, H/4, W/4), whose gradient goes straight through to the input. codes: (B, H/4, W/4),
    which words these are. codebook_loss, commitment_loss: the mean squared distance between input and words;
    the first moves the words, the second the input.
    """

    quantized: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class VectorQuantizer(nn.Module):
    """z (B, D, H, W) → `Quantized`: each place becomes the nearest of K words."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.codebook = nn.Embedding(words, width)
        nn.init.uniform_(self.codebook.weight, -1 / words, 1 / words)

    def forward(self, z: Tensor) -> Quantized:
        places = z.movedim(1, -1)  # (B, H, W, D)
        words = self.codebook.weight  # (K, D)
        # ‖z - e‖² = ‖z‖² - 2 z·e + ‖e‖², of which ‖z‖² is the same for all words
        distances = words.square().sum(dim=1) - 2 * places @ words.t()  # (B, H, W, K)
        codes = distances.argmin(dim=-1)  # (B, H, W)
        nearest = self.codebook(codes).movedim(-1, 1)  # (B, D, H, W)
        codebook_loss = F.mse_loss(nearest, z.detach())
        commitment_loss = F.mse_loss(z, nearest.detach())
        quantized = nearest.detach() + (z - z.detach())  # the value of nearest, the gradient of z
        return Quantized(quantized, codes, codebook_loss, commitment_loss)


class ResidualBlock(nn.Module):
    """x (B, C, H, W) → x + conv1×1(relu(conv3×3(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Round(NamedTuple):
    """What the VQ-VAE returns.

    reconstruction: (B, in_channels, H, W). codes: (B, H/4, W/4), int64. codebook_loss, commitment_loss: ().
    """

    reconstruction: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class VQVAE(nn.Module):
    """image (B, in_channels, H, W) → reconstruction, codes, codebook loss and commitment loss."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        channels = config.hidden_channels
        self.encoder = nn.Sequential(
            nn.Conv2d(config.in_channels, channels, kernel_size=4, stride=2, padding=1),  # (B, C, H/2, W/2)
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=4, stride=2, padding=1),  # (B, C, H/4, W/4)
            ResidualBlock(channels),
            ResidualBlock(channels),
            nn.ReLU(),
            nn.Conv2d(channels, config.embedding_size, kernel_size=1),  # (B, D, H/4, W/4)
        )
        self.quantizer = VectorQuantizer(config.num_embeddings, config.embedding_size)
        self.decoder = nn.Sequential(
            nn.Conv2d(config.embedding_size, channels, kernel_size=1),  # (B, C, H/4, W/4)
            ResidualBlock(channels),
            ResidualBlock(channels),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels, kernel_size=4, stride=2, padding=1),  # (B, C, H/2, W/2)
            nn.ReLU(),
            nn.ConvTranspose2d(
                channels, config.in_channels, kernel_size=4, stride=2, padding=1
            ),  # (B, …, H, W)
        )

    def forward(self, image: Tensor) -> Round:
        """Return the image as its codes give it back, the codes, and what trains codebook and encoder."""
        quantized, codes, codebook_loss, commitment_loss = self.quantizer(self.encoder(image))
        return Round(self.decoder(quantized), codes, codebook_loss, commitment_loss)
