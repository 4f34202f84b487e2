"""The VQ-VAE: its count, nearest words, the gradients of its three losses, and words that come into use."""

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import nnkit
from nnkit_generative.vq_vae import VectorQuantizer


def test_parameters_by_hand():
    """256 hidden units and 512 words (Section 4.1 of the paper), and 64 numbers in a word."""
    residual = 2 * ((9 * 256 * 256 + 256) + (256 * 256 + 256))
    encoder = (16 * 3 * 256 + 256) + (16 * 256 * 256 + 256) + residual + (256 * 64 + 64)
    decoder = (64 * 256 + 256) + residual + (16 * 256 * 256 + 256) + (16 * 256 * 3 + 3)
    report = nnkit.summarize(nnkit.resolve("vq-vae", preset="imagenet"))
    assert report.totals.parameters == encoder + 512 * 64 + decoder
    assert nnkit.resolve("vq-vae", preset="imagenet").sizes["height"] // 4 == 32  # the paper's codes of 32×32


def quantizer_and_input():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(words=7, width=3).double()
    return quantizer, torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)


def test_each_place_becomes_the_nearest_word():
    quantizer, z = quantizer_and_input()
    out = quantizer(z)
    assert out.codes.dtype == torch.int64
    for b, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(5)):
        distances = [(z[b, :, row, column] - word).norm() for word in quantizer.codebook.weight]
        nearest = distances.index(min(distances))
        assert out.codes[b, row, column] == nearest
        assert torch.equal(out.quantized[b, :, row, column], quantizer.codebook.weight[nearest])
    assert len(out.codes.unique()) > 2


def test_the_gradient_goes_straight_through_and_past_the_words():
    """The encoder gets the gradient at its quantized output as it is, the codebook none."""
    quantizer, z = quantizer_and_input()
    gradient = torch.randn_like(z)
    got, words = torch.autograd.grad(
        quantizer(z).quantized, (z, quantizer.codebook.weight), gradient, allow_unused=True
    )
    assert torch.equal(got, gradient)
    assert words is None


def test_each_loss_moves_what_it_should():
    """Of mean ‖z - e‖², the codebook loss has the gradient at the words, the commitment loss that at z."""
    quantizer, z = quantizer_and_input()
    out, words = quantizer(z), quantizer.codebook.weight
    apart = (z - out.quantized).detach().movedim(1, -1)  # (2, 4, 5, 3)
    (at_z,) = torch.autograd.grad(out.commitment_loss, z, retain_graph=True)
    (at_words,) = torch.autograd.grad(out.codebook_loss, words)
    torch.testing.assert_close(at_z.movedim(1, -1), 2 * apart / z.numel())
    expected = torch.zeros_like(words).index_add(0, out.codes.flatten(), -2 * apart.flatten(0, 2) / z.numel())
    torch.testing.assert_close(at_words, expected)
    torch.testing.assert_close(out.codebook_loss, apart.square().mean())
    torch.testing.assert_close(out.commitment_loss, apart.square().mean())
    assert not quantizer(z.detach()).commitment_loss.requires_grad
    assert torch.autograd.grad(quantizer(z).codebook_loss, z, allow_unused=True) == (None,)


def test_it_learns_digits_with_many_words():
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
    options = {"in_channels": 1, "hidden_channels": 16, "num_embeddings": 64, "embedding_size": 8}
    model = nnkit.build(nnkit.resolve("vq-vae", **options)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(250):
        batch = digits[torch.randint(len(digits), (64,))]
        out = model(batch)
        loss = F.mse_loss(out.reconstruction, batch) + out.codebook_loss + 0.25 * out.commitment_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        out = model(digits)
    assert F.mse_loss(out.reconstruction, digits) < 0.8 * digits.var(0).mean()
    assert len(out.codes.unique()) > 5
    assert out.codes.shape == (len(digits), 2, 2)
