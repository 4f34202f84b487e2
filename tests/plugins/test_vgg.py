"""VGG: torchvision's, key for key and bit for bit."""

import pytest
import torch
from torchvision import models
from vision_checks import (
    assert_equal_weights,
    assert_sound,
    assert_trains,
    build,
    build_on_meta,
    children_shapes,
    counts,
    layout,
)

NAMES = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "-bn")]


def torchvisions(name, **options):
    return getattr(models, name.replace("-", "_"))(**options)


@pytest.mark.parametrize(
    ("name", "parameters", "buffers", "macs"),
    [
        ("vgg11", 132_863_336, 0, 7_609_090_048),
        ("vgg11-bn", 132_868_840, 5_512, 7_609_090_048),
        ("vgg13", 133_047_848, 0, 11_308_466_176),
        ("vgg13-bn", 133_053_736, 5_898, 11_308_466_176),
        ("vgg16", 138_357_544, 0, 15_470_264_320),
        ("vgg16-bn", 138_365_992, 8_461, 15_470_264_320),
        ("vgg19", 143_667_240, 0, 19_632_062_464),
        ("vgg19-bn", 143_678_248, 11_024, 19_632_062_464),
    ],
)
def test_counts(name, parameters, buffers, macs):
    assert counts(name, 1, 3, 224, 224) == (parameters, buffers, macs)


def test_counts_of_ten_classes():
    assert counts("vgg16", 1, 3, 224, 224, num_classes=10) == (134_301_514, 0, 15_466_209_280)


def test_shapes():
    assert children_shapes(build_on_meta("vgg16"), 1, 3, 224, 224) == [
        ["features", "Sequential", [1, 3, 224, 224], [1, 512, 7, 7]],
        ["avgpool", "AdaptiveAvgPool2d", [1, 512, 7, 7], [1, 512, 7, 7]],
        ["classifier", "Sequential", [1, 25_088], [1, 1000]],
    ]


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_is_torchvisions(name):
    with torch.device("meta"):
        theirs = torchvisions(name)
    assert layout(build_on_meta(name)) == layout(theirs)


@pytest.mark.parametrize("name", NAMES)
def test_features_equal_torchvisions(name):
    """The convolutions and the pool alone: all the depths differ in, without the half gigabyte."""
    ours, theirs = build_on_meta(name), None
    with torch.device("meta"):
        theirs = torchvisions(name).eval()
    torch.manual_seed(0)
    state = {key: torch.randn(t.shape) / 30 for key, t in theirs.features.state_dict().items()}
    state = {key: t.abs() + 0.5 if key.endswith("var") else t for key, t in state.items()}
    for model in (ours, theirs):
        model.features.load_state_dict(state, assign=True)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = theirs.avgpool(theirs.features(images))
        assert torch.equal(ours.avgpool(ours.features(images)), expected)
    assert expected.std() > 0


@pytest.mark.parametrize("name", ["vgg11", "vgg11-bn"])
def test_equals_torchvision_from_the_same_seed(name):
    torch.manual_seed(0)
    ours = build(name, num_classes=10)
    torch.manual_seed(0)
    theirs = torchvisions(name, num_classes=10)
    assert_equal_weights(ours, theirs)
    images = torch.randn(2, 3, 64, 40)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(images))
        ours.train()
        theirs.train()
        torch.manual_seed(1)
        result = ours(images)
        torch.manual_seed(1)
        assert torch.equal(result, theirs(images))


def test_is_sound():
    model = build("vgg11-bn", num_classes=3, in_channels=1, dropout=0.0)
    assert_trains(model, 2, 1, 64, 70)
    assert_sound(model, 2, 1, 32, 33)
