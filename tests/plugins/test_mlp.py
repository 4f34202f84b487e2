"""The multi-layer perceptron beside the torch.nn.Sequential that anyone would write."""

import conftest  # noqa: F401 (makes torchvision importable)
import pytest
import torch
from torch import nn
from torchvision import ops
from vision_checks import accuracy_on_digits

import nnkit


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 669_706),
        ({"preset": "mnist"}, 669_706),
        # Table 1 of arXiv 1003.0358 has millions of weights, cut after two decimals
        ({"preset": "ciresan-2010"}, 12_115_010),
        ({"preset": "ciresan-2010", "hidden_sizes": (1000, 500)}, 1_347_510),
        ({"preset": "ciresan-2010", "hidden_sizes": (1000,) * 9}, 8_860_010),
        ({"hidden_sizes": ()}, 7_850),
        ({"hidden_sizes": (), "bias": False}, 7_840),
    ],
)
def test_counts(options, parameters):
    assert nnkit.summarize("mlp", **options).totals.parameters == parameters


def test_multiply_adds_are_those_of_the_matrices():
    assert nnkit.summarize("mlp").totals.macs == 784 * 512 + 512 * 512 + 512 * 10


def plain(norm, dropout):
    """Return a network of two hidden layers, 12 and 7, as its author writes it."""
    norms = {
        "none": lambda size: [],
        "batch": lambda size: [nn.BatchNorm1d(size)],
        "layer": lambda size: [nn.LayerNorm(size)],
    }
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(
        nn.Linear(5, 12), *norms[norm](12), nn.ReLU(), *drop,
        nn.Linear(12, 7), *norms[norm](7), nn.ReLU(), *drop,
        nn.Linear(7, 3),
    )  # fmt: skip


SMALL = {"in_features": 5, "hidden_sizes": (12, 7), "num_classes": 3}


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_plain_sequence_in_outputs_gradients_and_the_dropped_units(
    norm, dropout, training, tmp_path
):
    torch.manual_seed(1)
    theirs = plain(norm, dropout)
    torch.save(theirs.state_dict(), tmp_path / "plain.pt")
    ours = nnkit.build("mlp", weights=tmp_path / "plain.pt", norm=norm, dropout=dropout, **SMALL)
    results = []
    for model in (ours, theirs):
        x = torch.randn(6, 5, generator=torch.Generator().manual_seed(2)).double().requires_grad_()
        torch.manual_seed(3)
        outputs = model.double().train(training)(x)
        outputs.square().sum().backward()
        results.append([outputs, x.grad, *(each.grad for each in model.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_a_seed_draws_the_weights_of_the_plain_sequence():
    ours = nnkit.build("mlp", seed=7, **SMALL)
    torch.manual_seed(7)
    for name, tensor in plain("none", 0).state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_weights_of_torchvision_s_perceptron_load_with_dropout(norm, tmp_path):
    """It has a dropout after every layer, at any rate."""
    norm_layer = nn.BatchNorm1d if norm == "batch" else None
    theirs = ops.MLP(5, [12, 7, 3], norm_layer=norm_layer, dropout=0.2).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    ours = nnkit.build("mlp", weights=tmp_path / "theirs.pt", norm=norm, dropout=0.2, **SMALL).eval()
    x = torch.randn(6, 5)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu", nn.functional.gelu),
        ("silu", nn.functional.silu),
        ("elu", nn.functional.elu),
        ("leaky-relu", nn.functional.leaky_relu),
        ("tanh", torch.tanh),
        ("sigmoid", torch.sigmoid),
    ],
)
def test_activations(activation, function):
    model = nnkit.build("mlp", activation=activation, **SMALL).eval()
    first, second, last = (module for module in model if isinstance(module, nn.Linear))
    x = torch.randn(4, 5)
    assert torch.equal(model(x), last(function(second(function(first(x))))))


def test_a_hidden_layer_without_units_is_refused(nnkit_command):
    result = nnkit_command("summary", "mlp", "--hidden-sizes", "64,0")
    assert result.code == 2
    assert "--hidden-sizes takes integer >= 1,…" in result.err


def test_learns_the_digits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nnkit.build("mlp", in_features=64, hidden_sizes=(256, 256)))
    assert accuracy_on_digits(model, size=8, channels=1, epochs=20) >= 0.95


def test_learns_exclusive_or_which_a_linear_layer_can_not():
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    targets = torch.tensor([0, 1, 1, 0])
    losses = []
    for hidden in ((8,), ()):
        model = nnkit.build("mlp", in_features=2, hidden_sizes=hidden, num_classes=2, activation="tanh")
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        for _ in range(200):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), targets)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] < 0.05
    assert losses[1] > 0.69  # chance: log 2
