"""LeNet-5, as taught today and as published in 1998."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from vision_checks import (
    ARCHITECTURES,
    accuracy_on_digits,
    assert_exports,
    assert_follows_dtype,
    assert_sound,
    assert_trains,
    build,
    build_on_meta,
    children_shapes,
    counts,
)

from nnkit_vision.lenet_1998 import C3_TABLE, Subsampling, digit_bitmaps, squash

# Table I of the paper, as printed: a row for each map of S2, a column for each map of C3.
TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({}, 28, (156 + 2_416 + 48_120 + 10_164 + 850, 0, 416_520)),
        ({"in_channels": 3, "image_size": 32, "padding": 0}, 32, (62_006, 0, 651_720)),
    ],
)
def test_counts_of_the_network_of_today(options, size, expected):
    channels = options.get("in_channels", 1)
    assert counts("lenet", 1, channels, size, size, **options) == expected


def test_equals_the_same_network_as_a_sequence():
    torch.manual_seed(0)
    model = build("lenet").eval()
    sequence = nn.Sequential(
        model.conv1, nn.ReLU(), nn.MaxPool2d(2), model.conv2, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        model.fc1, nn.ReLU(), model.fc2, nn.ReLU(), model.fc3,
    )  # fmt: skip
    images = torch.randn(4, 1, 28, 28)
    assert torch.equal(model(images), sequence(images))


def test_counts_of_1998_are_the_papers():
    """The paper's 60,000 trainable parameters, its 1,516 in C3 among them, and 10 × 84 fixed ones."""
    assert counts("lenet-1998", 1, 1, 32, 32) == (60_000, 840, 325_680)
    model = build_on_meta("lenet-1998")
    layers = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert layers == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}


def test_shapes_of_1998_are_the_papers():
    shapes = [
        (name, output[1:])
        for name, _, _, output in children_shapes(build_on_meta("lenet-1998"), 1, 1, 32, 32)
    ]
    assert shapes == [
        ("c1", [6, 28, 28]),
        ("s2", [6, 14, 14]),
        ("c3", [16, 10, 10]),
        ("s4", [16, 5, 5]),
        ("c5", [120, 1, 1]),
        ("f6", [84]),
    ]


def test_c3_sees_the_maps_of_table_1():
    table = TABLE_I.split()
    for map_, sources in enumerate(C3_TABLE):
        assert sorted(sources) == [row for row in range(6) if table[row][map_] == "X"]


def test_c3_equals_a_full_convolution_whose_other_weights_are_zero():
    torch.manual_seed(0)
    sparse = build("lenet-1998").c3.double()
    full = nn.Conv2d(6, 16, kernel_size=5).double()
    with torch.no_grad():
        full.weight.zero_()
        for map_, (conv, sources) in enumerate(zip(sparse, C3_TABLE, strict=True)):
            full.weight[map_, list(sources)] = conv.weight[0]
            full.bias[map_] = conv.bias[0]
    x = torch.randn(2, 6, 14, 14, dtype=torch.float64)
    torch.testing.assert_close(sparse(x), full(x), rtol=0, atol=1e-12)


def test_subsampling_weighs_the_sum_of_four():
    layer = Subsampling(1)
    with torch.no_grad():
        layer.coefficient.fill_(0.5)
        layer.bias.fill_(3.0)
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert layer(x).item() == 0.5 * (1 + 2 + 3 + 4) + 3


def test_squash_keeps_plus_and_minus_one():
    """The paper's appendix A chooses its constants so."""
    torch.testing.assert_close(
        squash(torch.tensor([-1.0, 1.0])), torch.tensor([-1.0, 1.0]), rtol=0, atol=1e-4
    )
    assert squash(torch.tensor(100.0)).item() == pytest.approx(1.7159)


def test_each_layer_of_1998_sees_the_last_ones_squashed_sums():
    torch.manual_seed(0)
    model = build("lenet-1998")
    calls = []
    for layer in model.children():
        layer.register_forward_hook(lambda module, inputs, output: calls.append((inputs[0], output)))
    images = torch.randn(2, 1, 32, 32)
    model(images)
    assert torch.equal(calls[0][0], images)
    for (_, sums), (seen, _) in pairwise(calls):
        assert torch.equal(seen, (1.7159 * torch.tanh(2 / 3 * sums)).reshape(seen.shape))


def test_penalties_are_squared_distances_to_the_bitmaps():
    torch.manual_seed(0)
    model = build("lenet-1998").double()
    seen = []
    model.f6.register_forward_hook(lambda module, inputs, output: seen.append(squash(output)))
    penalties = model(torch.randn(3, 1, 32, 32, dtype=torch.float64))
    expected = torch.cdist(seen[0], digit_bitmaps().double()).square()
    torch.testing.assert_close(penalties, expected, rtol=0, atol=1e-9)


def test_the_bitmaps_are_ten_different_digits_of_7_by_12():
    bitmaps = digit_bitmaps()
    assert bitmaps.shape == (10, 7 * 12)
    assert set(bitmaps.flatten().tolist()) == {-1.0, 1.0}
    assert torch.cdist(bitmaps, bitmaps).add(torch.eye(10) * 100).min() >= 4  # four pixels apart or more


def test_1998_draws_by_fan_in():
    model = build("lenet-1998")
    for layer, fan_in in ((model.c1, 25), (model.c3[6], 100), (model.c5, 400), (model.f6, 120)):
        bound = 2.4 / fan_in
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)


@pytest.mark.parametrize(("name", "size"), [("lenet", 28), ("lenet-1998", 32)])
def test_is_sound(name, size):
    assert_sound(build(name), 3, 1, size, size)
    assert_trains(build(name), 4, 1, size, size)
    assert_follows_dtype(build(name), 4, 1, size, size)


@pytest.mark.parametrize("size", [16, 17, 40])
def test_takes_other_sizes(size):
    """From the smallest on, with no padding."""
    assert_sound(build("lenet", image_size=size, padding=0, num_classes=3), 2, 1, size, size)


@pytest.mark.parametrize("name", ["lenet", "lenet-1998"])
def test_exports_with_a_free_batch(name):
    architecture = ARCHITECTURES[name]
    assert_exports(
        build(name), architecture, architecture.config(), {"batch": 2}, [{"batch": 1}, {"batch": 5}]
    )


def test_learns_the_digits():
    torch.manual_seed(0)
    assert accuracy_on_digits(build("lenet"), size=28, channels=1) >= 0.94


def test_1998_learns_the_digits_by_their_penalties():
    torch.manual_seed(0)
    model = build("lenet-1998")
    assert accuracy_on_digits(model, size=32, channels=1, scores=lambda penalties: -penalties) >= 0.94
