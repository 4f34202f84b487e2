"""AlexNet, in torchvision's form and as published in 2012."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
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

from nnkit_vision.alexnet_2012 import local_response_norm
from nnkit_vision.pooling import AdaptiveAvgPool2d


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [("alexnet", 224, (61_100_840, 0, 714_188_480)), ("alexnet-2012", 227, (60_965_224, 0, 724_406_816))],
)
def test_counts(name, size, expected):
    assert counts(name, 1, 3, size, size) == expected


def test_shapes_of_2012():
    features = build_on_meta("alexnet-2012").features
    shapes = [(kind, output[1:]) for _, kind, _, output in children_shapes(features, 1, 3, 227, 227)]
    assert shapes == [
        ("Conv2d", [96, 55, 55]),
        ("ReLU", [96, 55, 55]),
        ("LocalResponseNorm", [96, 55, 55]),
        ("MaxPool2d", [96, 27, 27]),
        ("Conv2d", [256, 27, 27]),
        ("ReLU", [256, 27, 27]),
        ("LocalResponseNorm", [256, 27, 27]),
        ("MaxPool2d", [256, 13, 13]),
        ("Conv2d", [384, 13, 13]),
        ("ReLU", [384, 13, 13]),
        ("Conv2d", [384, 13, 13]),
        ("ReLU", [384, 13, 13]),
        ("Conv2d", [256, 13, 13]),
        ("ReLU", [256, 13, 13]),
        ("MaxPool2d", [256, 6, 6]),
    ]
    classifier = [type(layer).__name__ for layer in build_on_meta("alexnet-2012").classifier]
    assert classifier == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def test_equals_torchvision_from_the_same_seed():
    torch.manual_seed(0)
    ours = build("alexnet", num_classes=10)
    torch.manual_seed(0)
    theirs = models.alexnet(num_classes=10)
    assert_equal_weights(ours, theirs)
    images = torch.randn(2, 3, 96, 127)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
    ours, theirs = ours.train(), theirs.train()
    torch.manual_seed(1)
    result = ours(images)
    torch.manual_seed(1)
    assert torch.equal(result, theirs(images))


def test_state_dict_is_torchvisions():
    with torch.device("meta"):
        assert layout(build("alexnet")) == layout(models.alexnet())


def test_local_response_norm_is_the_papers():
    """b_i = a_i / (k + α Σ a_j²)^β over max(0, i-2) ≤ j ≤ min(N-1, i+2), with α not divided by 5."""
    a = 10 * torch.randn(2, 7, 3, 4, dtype=torch.float64)
    b = torch.stack(
        [
            a[:, i] / (2 + 1e-4 * a[:, max(0, i - 2) : i + 3].square().sum(1)) ** 0.75
            for i in range(a.shape[1])
        ],
        dim=1,
    )
    torch.testing.assert_close(local_response_norm()(a), b, rtol=0, atol=1e-12)


def test_groups_of_2012_see_their_own_half():
    """A change in one half of the channels leaves the other half's maps alone; the third layer joins them."""
    convolutions = [m for m in build("alexnet-2012", num_classes=2).features if isinstance(m, nn.Conv2d)]
    for conv, separate in zip(convolutions[1:], (True, False, True, True), strict=True):
        x = torch.randn(1, conv.in_channels, 5, 5)
        changed = x.clone()
        changed[:, conv.in_channels // 2 :] += 1
        half = conv.out_channels // 2
        assert torch.equal(conv(x)[:, :half], conv(changed)[:, :half]) == separate


def test_2012_begins_as_the_paper_says():
    model = build("alexnet-2012", num_classes=10)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [layer.bias.unique().tolist() for layer in layers] == [[0], [1], [0], [1], [1], [1], [1], [0]]
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("bins", [(6, 6), (7, 7), (1, 4)])
def test_the_exported_pool_equals_torchs(bins, monkeypatch):
    """The form that goes into an ONNX file, at sizes below, at and above the bins."""
    pool = AdaptiveAvgPool2d(bins)
    for height, width in [(1, 1), (1, 9), (5, 6), (6, 7), (7, 7), (13, 20), (64, 3)]:
        x = torch.randn(2, 3, height, width, dtype=torch.float64)
        assert torch.equal(pool(x), F.adaptive_avg_pool2d(x, bins))
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_exporting", lambda: True)
            torch.testing.assert_close(pool(x), F.adaptive_avg_pool2d(x, bins), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "size"), [("alexnet", (63, 70)), ("alexnet-2012", (227, 227))])
def test_is_sound(name, size):
    model = build(name, num_classes=5, in_channels=1, dropout=0.0)
    assert_trains(model, 2, 1, *size)
    assert_sound(model, 2, 1, *size)
