"""DCGAN: the sizes and the layout of PyTorch's tutorial, its arithmetic written out, and a game that moves."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import nnkit

GENERATOR = {0: (100, 512), 3: (512, 256), 6: (256, 128), 9: (128, 64), 12: (64, 3)}  # from, to
DISCRIMINATOR = {0: (3, 64), 2: (64, 128), 5: (128, 256), 8: (256, 512), 11: (512, 1)}


def layout_of(channels, norms, transposed):
    """Return the shapes of a state dict of the tutorial: convolutions 4×4, and where norms are, of how many channels."""
    shapes = {
        f"main.{i}.weight": (a, b, 4, 4) if transposed else (b, a, 4, 4) for i, (a, b) in channels.items()
    }
    for i, width in norms.items():
        shapes |= {f"main.{i}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"main.{i}.num_batches_tracked"] = ()
    return shapes


LAYOUTS = {
    "generator": layout_of(GENERATOR, {1: 512, 4: 256, 7: 128, 10: 64}, transposed=True),
    "discriminator": layout_of(DISCRIMINATOR, {3: 128, 6: 256, 9: 512}, transposed=False),
}


def random_state(layout):
    torch.manual_seed(0)
    state = {
        name: torch.rand(shape) + 0.5 if len(shape) == 1 else 0.05 * torch.randn(shape)
        for name, shape in layout.items()
    }
    return {name: torch.tensor(0) if "num_batches" in name else tensor for name, tensor in state.items()}


@pytest.mark.parametrize(("network", "parameters"), [("generator", 3_576_704), ("discriminator", 2_765_568)])
def test_count_and_layout_of_the_tutorial(network, parameters):
    spec = nnkit.resolve(f"dcgan-{network}")
    model = nnkit.build(spec, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == LAYOUTS[network]
    both = nnkit.build(nnkit.resolve("dcgan"), device="meta").get_submodule(network)
    assert both.state_dict().keys() == model.state_dict().keys()


def norm(x, state, i):
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"main.{i}.{name}"] for name in names))


def test_the_generator_written_out(tmp_path):
    state = random_state(LAYOUTS["generator"])
    torch.save(state, tmp_path / "g.pt")
    model = nnkit.build(nnkit.resolve("dcgan-generator", weights=str(tmp_path / "g.pt"))).eval()
    z = torch.randn(2, 100, 1, 1)
    x = F.relu(norm(F.conv_transpose2d(z, state["main.0.weight"]), state, 1))
    assert x.shape == (2, 512, 4, 4)
    for i in (3, 6, 9):
        x = F.relu(norm(F.conv_transpose2d(x, state[f"main.{i}.weight"], stride=2, padding=1), state, i + 1))
    x = torch.tanh(F.conv_transpose2d(x, state["main.12.weight"], stride=2, padding=1))
    with torch.no_grad():
        torch.testing.assert_close(model(z), x)
    assert x.shape == (2, 3, 64, 64)


def test_the_discriminator_written_out(tmp_path):
    state = random_state(LAYOUTS["discriminator"])
    torch.save(state, tmp_path / "d.pt")
    model = nnkit.build(nnkit.resolve("dcgan-discriminator", weights=str(tmp_path / "d.pt"))).eval()
    image = torch.randn(2, 3, 64, 64)
    x = F.leaky_relu(F.conv2d(image, state["main.0.weight"], stride=2, padding=1), 0.2)
    for i in (2, 5, 8):
        x = F.leaky_relu(norm(F.conv2d(x, state[f"main.{i}.weight"], stride=2, padding=1), state, i + 1), 0.2)
    x = torch.sigmoid(F.conv2d(x, state["main.11.weight"]))
    with torch.no_grad():
        torch.testing.assert_close(model(image), x.reshape(2))


def test_initialization():
    for name, parameter in nnkit.build(nnkit.resolve("dcgan", image_size=32)).named_parameters():
        tensor = parameter.detach()
        if tensor.ndim == 4:
            assert float(tensor.mean()) == pytest.approx(0, abs=2e-3), name
            assert float(tensor.std()) == pytest.approx(0.02, rel=0.05), name
        elif name.endswith("weight"):
            assert float(tensor.mean()) == pytest.approx(1, abs=0.01), name
            assert float(tensor.std()) == pytest.approx(0.02, rel=0.4), name
        else:
            assert not tensor.any(), name


@pytest.mark.parametrize("size", [8, 16, 32, 128])
def test_other_sizes_of_images(size):
    spec = nnkit.resolve("dcgan", image_size=size, features=4, batch=2)
    with torch.no_grad():
        out = nnkit.build(spec)(torch.randn(2, 100, 1, 1), torch.randn(2, 3, size, size))
    assert out.fake.shape == (2, 3, size, size)
    assert out.fake_score.shape == out.real_score.shape == (2,)


def test_the_two_play_against_each_other():
    """On digits: a trained discriminator tells real from fake, and a generator trained against it fools it."""
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    digits = F.interpolate(digits, scale_factor=2.0)  # 16×16
    model = nnkit.build(nnkit.resolve("dcgan", image_size=16, channels=1, features=8, latent=8)).train()
    optimizers = {
        name: torch.optim.Adam(getattr(model, name).parameters(), lr=2e-3, betas=(0.5, 0.999))
        for name in ("generator", "discriminator")
    }

    def play(network, steps):
        for _ in range(steps):
            out = model(torch.randn(64, 8, 1, 1), digits[torch.randint(len(digits), (64,))])
            if network == "generator":
                loss = -out.fake_score.log().mean()
            else:
                loss = -out.real_score.log().mean() - (1 - out.fake_score).log().mean()
            model.zero_grad()
            loss.backward()
            optimizers[network].step()
        return out

    told = play("discriminator", 40)
    assert told.real_score.mean() > 0.9
    assert told.fake_score.mean() < 0.1
    assert play("generator", 60).fake_score.mean() > 0.5
