"""The VAE: its count, the layout of PyTorch's example, the gradients of a draw, and images that vary."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import nnkit


def vae(**options):
    return nnkit.build(nnkit.resolve("vae", **options))


def test_parameters_by_hand():
    """784-400-20 of PyTorch's example, and 784-500-20 of the paper (Section 5, for MNIST)."""
    for hidden, options in ((400, {}), (500, {"preset": "paper"})):
        encoder = 784 * hidden + hidden + 2 * (hidden * 20 + 20)
        decoder = 20 * hidden + hidden + hidden * 784 + 784
        count = nnkit.summarize(nnkit.resolve("vae", **options)).totals.parameters
        assert count == encoder + decoder
    assert nnkit.summarize(nnkit.resolve("vae")).totals.parameters == 652_824


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_equations_with_the_weights_of_the_example(tmp_path, activation):
    """A file with the names and shapes of the VAE in PyTorch's examples, and the equations written out."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"fc1": (400, 784), "fc21": (20, 400), "fc22": (20, 400), "fc3": (400, 20), "fc4": (784, 400)}
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator)
    torch.save(state, tmp_path / "vae.pt")
    model = vae(weights=str(tmp_path / "vae.pt"), activation=activation).eval()
    image = torch.rand(3, 1, 28, 28, generator=generator)

    def layer(name, x):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    hidden = getattr(torch, activation)(layer("fc1", image.reshape(3, 784)))
    mean, log_variance = layer("fc21", hidden), layer("fc22", hidden)
    decoded = 1 / (1 + torch.exp(-layer("fc4", getattr(torch, activation)(layer("fc3", mean)))))
    with torch.no_grad():
        out = model(image)
    torch.testing.assert_close(out.mean, mean)
    torch.testing.assert_close(out.log_variance, log_variance)
    torch.testing.assert_close(out.reconstruction, decoded.reshape(3, 1, 28, 28))


def test_gradients_reach_mean_and_variance_as_they_should():
    """E[z²] = μ² + σ², and KL(N(μ, σ²) ‖ N(0, 1)) = ½ (μ² + σ² - 1 - log σ²): their gradients in closed form."""
    torch.manual_seed(0)
    model, draws = vae(), 400_000
    mean = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    log_variance = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64, requires_grad=True)
    variance = log_variance.detach().exp()
    z = model.draw(mean.expand(draws, 3), log_variance.expand(draws, 3))
    square = torch.autograd.grad(z.square().mean(0).sum(), (mean, log_variance), retain_graph=True)
    torch.testing.assert_close(square, (2 * mean.detach(), variance), rtol=0.02, atol=0.02)
    log_q = torch.distributions.Normal(mean, (log_variance / 2).exp()).log_prob(z)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z)
    sampled = torch.autograd.grad((log_q - log_p).mean(0).sum(), (mean, log_variance))
    closed = torch.autograd.grad(kl(mean, log_variance), (mean, log_variance))
    torch.testing.assert_close(closed, (mean.detach(), (variance - 1) / 2))
    torch.testing.assert_close(sampled, closed, rtol=0.02, atol=0.02)


def kl(mean, log_variance):
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()


def test_it_learns_digits_and_draws_ones_that_vary():
    """400 steps on 8×8 digits. The loss falls below that of the mean image, and decoded codes are no one image."""
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
    model = vae(image_size=8, hidden_size=128, latent=8).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(400):
        batch = digits[torch.randint(len(digits), (128,))]
        out = model(batch)
        error = F.binary_cross_entropy(out.reconstruction, batch, reduction="sum")
        loss = (error + kl(out.mean, out.log_variance)) / len(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    average = digits.mean(0, keepdim=True).expand_as(digits)
    of_the_mean_image = float(F.binary_cross_entropy(average, digits, reduction="sum")) / len(digits)
    assert sum(losses[-20:]) / 20 < of_the_mean_image - 2 < losses[0]
    with torch.no_grad():
        drawn = model.decode(torch.randn(500, 8))
    assert drawn.std(0).mean() > 0.5 * digits.std(0).mean()
