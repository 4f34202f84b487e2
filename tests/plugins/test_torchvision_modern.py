"""DenseNet, MobileNetV3, EfficientNet and ConvNeXt: torchvision's, key for key and bit for bit."""

import re

import pytest
import torch
from torch import nn
from torchvision import models
from vision_checks import (
    ARCHITECTURES,
    assert_equal_weights,
    assert_sound,
    assert_trains_and_evaluates_like,
    build,
    build_on_meta,
    counts,
    layers,
    layout,
)

import nnkit
from nnkit_vision.inverted_residual import SqueezeExcitation, rounded
from nnkit_vision.stochastic_depth import StochasticDepth

NAMES = [
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"mobilenet-v3-{size}" for size in ("small", "large")),
    *(f"efficientnet-b{number}" for number in range(8)),
    *(f"convnext-{size}" for size in ("tiny", "small", "base", "large")),
]
FIRST = ("densenet121", "mobilenet-v3-small", "efficientnet-b0", "convnext-tiny")
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name not in FIRST]


def torchvisions(name, **options):
    return getattr(models, name.replace("-", "_"))(**options)


@pytest.mark.parametrize("name", [*FIRST, *OTHERS])
def test_counts_are_those_that_torchvision_publishes(name):
    published = models.get_model_weights(name.replace("-", "_")).DEFAULT
    size = nnkit.resolve(name, preset="imagenet").sizes
    assert {size["height"], size["width"]} == set(published.transforms().crop_size)
    parameters, _, macs = counts(name, 1, 3, size["height"], size["width"])
    assert parameters == published.meta["num_params"]
    assert round(macs / 1e9, 3) == published.meta["_ops"]


@pytest.mark.parametrize("name", [*FIRST, *OTHERS])
def test_state_dict_and_constants_are_torchvisions(name):
    with torch.device("meta"):
        theirs = torchvisions(name).eval()
    ours = build_on_meta(name)
    assert layout(ours) == layout(theirs)
    assert layers(ours) == layers(theirs)
    drops = [module.p for module in ours.modules() if isinstance(module, StochasticDepth) and module.p > 0]
    residual = [block for block in theirs.modules() if getattr(block, "use_res_connect", True)]
    blocks = [block.stochastic_depth for block in residual if hasattr(block, "stochastic_depth")]
    assert drops == [block.p for block in blocks if block.p > 0]


@pytest.mark.parametrize("name", FIRST)
def test_equals_torchvision_from_the_same_seed(name):
    torch.manual_seed(0)
    ours = build(name, num_classes=7)
    torch.manual_seed(0)
    theirs = torchvisions(name, num_classes=7)
    assert_equal_weights(ours, theirs)
    assert_trains_and_evaluates_like(ours, theirs, torch.randn(2, 3, 64, 70))
    assert_sound(ours, 2, 3, 64, 65)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet161", "mobilenet-v3-large", "efficientnet-b5", "convnext-small"])
def test_equals_torchvision_with_its_weights(name):
    theirs = torchvisions(name, num_classes=7)
    ours = build_on_meta(name, num_classes=7)
    ours.load_state_dict({key: value.clone() for key, value in theirs.state_dict().items()}, assign=True)
    assert_trains_and_evaluates_like(ours, theirs, torch.randn(3, 3, 64, 64))


def test_dropout_and_stochastic_depth_are_options():
    for name, options, theirs in (
        ("densenet121", {"dropout": 0.3}, {"drop_rate": 0.3}),
        ("mobilenet-v3-small", {"dropout": 0.7}, {"dropout": 0.7}),
        ("efficientnet-b0", {"stochastic_depth": 0.6}, {"stochastic_depth_prob": 0.6}),
        ("convnext-tiny", {"stochastic_depth": 1.0, "layer_scale": 0.5}, {"layer_scale": 0.5}),
    ):
        if "stochastic_depth" in options:
            theirs["stochastic_depth_prob"] = options["stochastic_depth"]
        torch.manual_seed(0)
        model = build(name, num_classes=3, **options).train()
        torch.manual_seed(0)
        reference = torchvisions(name, num_classes=3, **theirs).train()
        images = torch.randn(3, 3, 64, 64)
        with torch.no_grad():
            torch.manual_seed(1)
            result = model(images)
            torch.manual_seed(1)
            assert torch.equal(result, reference(images)), name


def test_densenet_loads_the_names_of_the_published_files(tmp_path):
    """They have `norm.1` for `norm1`, and are older than the count of batches."""
    state = build_on_meta("densenet121").state_dict()
    old = {
        re.sub(r"(layer\d+\.(?:norm|conv))", r"\1.", key): torch.randn(value.shape)
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet121.pth")
    loaded = nnkit.build("densenet121", weights=str(tmp_path / "densenet121.pth")).state_dict()
    assert list(loaded) == list(state)
    new = [key for key in state if not key.endswith("num_batches_tracked")]
    assert all(torch.equal(loaded[key], value) for key, value in zip(new, old.values(), strict=True))


def test_stochastic_depth_keeps_or_drops_whole_images_and_the_mean():
    torch.manual_seed(0)
    layer = StochasticDepth(0.25)
    branch = torch.randn(1000, 2, 3)
    result = layer(branch)
    kept = result.flatten(1).ne(0).all(1)
    assert torch.equal(result[kept], branch[kept] * (1 / torch.tensor(0.75)))
    assert not result[~kept].any()
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.05)
    assert torch.equal(layer.eval()(branch), branch)
    assert not StochasticDepth(1.0)(branch).any()


def test_squeeze_and_excitation_weighs_channels():
    layer = SqueezeExcitation(2, 1, nn.ReLU(), nn.Sigmoid())
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, -2.0]]]])  # means 2 and -1
    # The hidden unit is relu(2 - 1 + 1) = 2, so both weights are sigmoid(2 + 1).
    torch.testing.assert_close(layer(x), x * torch.tensor(3.0).sigmoid())


@pytest.mark.parametrize(
    ("channels", "expected"), [(1, 8), (16, 16), (18, 24), (19.2, 24), (35.2, 32), (44, 48)]
)
def test_channels_are_rounded_to_8_and_never_down_by_more_than_a_tenth(channels, expected):
    assert rounded(channels) == expected


def test_every_size_of_torchvision_is_declared():
    offered = {name for name in models.list_models(models) if name.startswith(("densenet", "convnext"))}
    offered |= {f"efficientnet_b{number}" for number in range(8)} | {
        "mobilenet_v3_large",
        "mobilenet_v3_small",
    }
    assert {name.replace("-", "_") for name in ARCHITECTURES} >= offered
