"""scaffold/expressions.py: how layers of torch change an axis is found from few sizes."""

import pytest
import torch
from torch import nn

from nnkit.authoring.scaffold.expressions import find_product, find_sum

F = nn.functional
LAYERS = {
    "same": (lambda x: x, "n"),
    "convolution": (lambda x: F.conv1d(x, torch.empty(1, 1, 5, device="meta")), "n - 4"),
    "stride": (lambda x: F.conv1d(x, torch.empty(1, 1, 3, device="meta"), stride=2, padding=1), "(n + 1) // 2"),
    "dilation": (lambda x: F.conv1d(x, torch.empty(1, 1, 3, device="meta"), stride=3, dilation=4), "(n - 6) // 3"),
    "patches": (lambda x: F.conv1d(x, torch.empty(1, 1, 16, device="meta"), stride=16), "n // 16"),
    "pooling": (lambda x: F.max_pool1d(x, 3, 2, ceil_mode=True), "n // 2"),
    "five halvings": (lambda x: [x := F.max_pool1d(x, 3, 2, 1) for _ in range(5)][-1], "(n + 31) // 32"),
    "transposed": (lambda x: F.conv_transpose1d(x, torch.empty(1, 1, 4, device="meta"), stride=2, padding=1), "2 * n"),
    "transposed, bare": (lambda x: F.conv_transpose1d(x, torch.empty(1, 1, 5, device="meta"), stride=3), "3 * n + 2"),
    "upsampling": (lambda x: F.interpolate(x, scale_factor=4), "4 * n"),
    "padding": (lambda x: F.pad(x, (2, 1)), "n + 3"),
    "last of all": (lambda x: x[..., 3:-2:2], "(n - 4) // 2"),
}  # fmt: skip


@pytest.mark.parametrize(("layer", "expression"), LAYERS.values(), ids=LAYERS)
def test_what_a_layer_of_torch_makes_of_an_axis(layer, expression):
    asked = []

    def length(size):
        return layer(torch.empty(1, 1, size, device="meta")).shape[-1]

    def ask(name, size):
        asked.append(size)
        return length(size)

    seen = {size: length(size) for size in (64, 65, 128)}
    assert find_product({"n": seen}, {"n": range(64, 128)}, ask) == expression
    assert len(asked) <= 7  # two to the seventh is more than the candidates that remain
    assert [eval(expression, {}, {"n": size}) for size in range(40, 200)] == [
        length(size) for size in range(40, 200)
    ]


def test_an_axis_that_two_dims_move_is_a_product():
    def tokens(height, width):
        return F.conv2d(
            torch.empty(1, 1, height, width, device="meta"), torch.empty(1, 1, 8, 8, device="meta"), stride=8
        )[0, 0].numel()

    seen = {
        "height": {size: tokens(size, 96) for size in (64, 65, 128)},
        "width": {size: tokens(64, size) for size in (96, 97, 160)},
    }
    between = {"height": range(64, 128), "width": range(96, 160)}

    def ask(name, size):
        return tokens(size, 96) if name == "height" else tokens(64, size)

    assert find_product(seen, between, ask) == "(height // 8) * (width // 8)"


def test_sizes_that_the_model_cannot_take_say_nothing():
    def ask(name, size):
        return size // 4 if size % 2 == 0 else None

    assert find_product({"n": {64: 16, 66: 16, 128: 32}}, {"n": range(64, 128)}, ask) == "n // 4"


@pytest.mark.parametrize("function", [lambda n: n * n, lambda n: n.bit_length(), lambda n: 3 * n // 2])
def test_what_has_no_such_form_is_not_guessed(function):
    seen = {size: function(size) for size in (64, 65, 128)}
    assert find_product({"n": seen}, {"n": range(64, 128)}, lambda name, size: function(size)) == ""


def test_an_axis_that_two_dims_lengthen_is_a_sum():
    def axis(past, time):
        return past + 2 * time - 1

    seen = {
        "past": {size: axis(size, 5) for size in (3, 4, 67)},
        "time": {size: axis(3, size) for size in (5, 6, 69)},
    }
    assert find_sum(seen, lambda sizes: axis(**sizes)) == "past + 2 * time - 1"
    assert find_sum(seen, lambda sizes: sizes["past"] * sizes["time"]) == ""


def test_a_product_is_no_sum():
    seen = {"n": {2: 8, 3: 12, 5: 20}, "m": {4: 8, 5: 10, 6: 12}}
    assert find_sum(seen, lambda sizes: sizes["n"] * sizes["m"]) == ""
    assert find_sum({"n": {2: 4, 3: 9, 4: 16}}, lambda sizes: sizes["n"] ** 2) == ""
