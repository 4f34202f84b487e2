"""Deep Sets beside its equations, PyG's aggregation, and the sums of the paper."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn.aggr import DeepSetsAggregation

import nnkit


def sets(batch=5, elements=9, features=3, seed=0):
    """Return sets in float64, and which of their places have an element."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, elements, features, generator=generator, dtype=torch.float64)
    mask = torch.rand(batch, elements, generator=generator) < 0.6
    mask[:, 0] = True
    return x, mask


EVERY = [
    *({"pooling": pooling, "mixing": mixing} for pooling in ("sum", "mean", "max") for mixing in ("none", "mean", "max1")),
    *({"pooling": "none", "mixing": mixing} for mixing in ("mean", "max", "mean1", "max1")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 256 + 4160 + 4160 + 650),
        ({"preset": "modelnet40"}, 208_680),  # counted on the authors' DTanh(256, pool="max1")
        ({"preset": "modelnet40", "mixing": "max"}, 208_680 + 3 * 256 + 2 * 256**2),
    ],
)
def test_counts(options, parameters):
    assert nnkit.summarize("deepsets", **options).totals.parameters == parameters


def test_names_are_the_authors():
    shapes = {name: list(each.shape) for name, each in nnkit.build("deepsets", preset="modelnet40", mixing="max").state_dict().items()}  # fmt: skip
    layers = {
        f"phi.{2 * layer}.{name}": [256, 256 if layer else 3]
        for layer in range(3)
        for name in ("Gamma.weight", "Lambda.weight")
    }
    biases = {f"phi.{layer}.Gamma.bias": [256] for layer in (0, 2, 4)}
    head = {"ro.1.weight": [256, 256], "ro.1.bias": [256], "ro.4.weight": [40, 256], "ro.4.bias": [40]}
    assert shapes == {**layers, **biases, **head}


@pytest.mark.parametrize("options", EVERY)
def test_the_equations_set_by_set(options):
    """Each set alone, without the places that its mask leaves out, by the formulas of the paper."""
    model = nnkit.build("deepsets", dtype="float64", activation="elu", phi_sizes=(8, 6), **options)
    x, mask = sets()
    pools = {"sum": lambda h: h.sum(0), "mean": lambda h: h.mean(0), "max": lambda h: h.max(0).values}
    mixing = options["mixing"]
    for each, kept, found in zip(x, mask, model(x, mask), strict=True):
        h = each[kept]
        for layer in (model.phi[0], model.phi[2]):
            if mixing == "none":
                h = F.elu(h @ layer.weight.T + layer.bias)
                continue
            pooled = pools[mixing.removesuffix("1")](h)
            shared = mixing.endswith("1")
            matrix = layer.Gamma.weight if shared else layer.Lambda.weight
            h = F.elu(h @ layer.Gamma.weight.T + layer.Gamma.bias - matrix @ pooled)
        if options["pooling"] == "none":
            assert torch.allclose(found[kept], model.ro(h), atol=1e-12)
        else:
            assert torch.allclose(found, model.ro(pools[options["pooling"]](h)), atol=1e-12)


def test_equals_pyg_s_aggregation_in_outputs_and_gradients():
    ours = nnkit.build("deepsets", dtype="float64")
    theirs = DeepSetsAggregation(nn.Sequential(*ours.phi), ours.ro)
    x, _ = sets()
    results = []
    index = torch.arange(5).repeat_interleave(9)
    for call in (ours, lambda x: theirs(x.flatten(0, 1), index)):
        given = x.clone().requires_grad_()
        outputs = call(given)
        outputs.square().sum().backward()
        results.append((outputs, given.grad, ours.phi[0].weight.grad.clone()))
        ours.zero_grad()
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("options", EVERY)
def test_the_order_and_the_padding_do_not_matter(options):
    model = nnkit.build("deepsets", dtype="float64", **options)
    x, mask = sets()
    order = torch.randperm(9)
    whole = model(x, mask)
    permuted = model(x[:, order], mask[:, order])
    padded = model(F.pad(x, (0, 0, 0, 4), value=99.0), F.pad(mask, (0, 4)))
    if options["pooling"] == "none":
        assert torch.allclose(permuted, whole[:, order], atol=1e-12)
        assert torch.allclose(padded[:, :9], whole, atol=1e-12)
    else:
        assert torch.allclose(permuted, whole, atol=1e-12)
        assert torch.allclose(padded, whole, atol=1e-12)
    assert torch.allclose(model(x), model(x, torch.ones_like(mask)), atol=1e-12)


@pytest.mark.parametrize("pooling", ["sum", "mean", "max"])
def test_an_empty_set_is_pooled_to_zeros_and_has_a_gradient(pooling):
    model = nnkit.build("deepsets", dtype="float64", pooling=pooling)
    x, mask = sets()
    mask[1] = False
    outputs = model(x, mask)
    assert torch.allclose(outputs[1], model.ro(torch.zeros(64, dtype=torch.float64)))
    outputs.sum().backward()
    assert all(each.grad.isfinite().all() for each in model.parameters())


def test_elements_alone_are_no_set(nnkit_command):
    result = nnkit_command("summary", "deepsets", "--pooling", "none")
    assert result.code == 2
    assert "no element would know of another" in result.err


def test_learns_to_add_digits_in_sets_five_times_as_large():
    """The paper's first experiment: sums of up to 10 digits, then of 50, each digit one-hot."""
    model = nnkit.build("deepsets", in_features=10, phi_sizes=(32,), rho_sizes=(), num_outputs=1)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def batch(elements):
        digits = torch.randint(10, (256, elements), generator=generator)
        length = torch.randint(1, elements + 1, (256, 1), generator=generator)
        mask = torch.arange(elements) < length
        return F.one_hot(digits, 10).float(), mask, (digits * mask).sum(1)

    for _ in range(600):
        x, mask, total = batch(10)
        optimizer.zero_grad()
        F.smooth_l1_loss(model(x, mask)[:, 0], total.float()).backward()
        optimizer.step()
    x, mask, total = batch(50)
    with torch.no_grad():
        assert (model(x, mask)[:, 0].round() == total).float().mean() >= 0.95
