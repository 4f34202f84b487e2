"""The small CNN: the tutorial's counts and results, at any size, and without its mixing of images."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
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


def test_counts_are_the_tutorials():
    assert counts("simple-cnn", 1, 3, 32, 32) == (896 + 18_496 + 524_416 + 1_290, 0, 6_128_896)


def test_shapes_are_those_that_the_tutorial_names():
    assert children_shapes(build_on_meta("simple-cnn"), 1, 3, 32, 32) == [
        ["conv1", "Conv2d", [1, 3, 32, 32], [1, 32, 32, 32]],
        ["pool", "MaxPool2d", [1, 32, 32, 32], [1, 32, 16, 16]],
        ["conv2", "Conv2d", [1, 32, 16, 16], [1, 64, 16, 16]],
        ["pool", "MaxPool2d", [1, 64, 16, 16], [1, 64, 8, 8]],
        ["fc1", "Linear", [1, 4096], [1, 128]],
        ["fc2", "Linear", [1, 128], [1, 10]],
    ]


def test_equals_the_same_network_as_a_sequence():
    torch.manual_seed(0)
    model = build("simple-cnn").eval()
    sequence = nn.Sequential(
        model.conv1, nn.ReLU(), model.pool, model.conv2, nn.ReLU(), model.pool,
        nn.Flatten(), model.fc1, nn.ReLU(), model.fc2,
    )  # fmt: skip
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(model(images), sequence(images))


@pytest.mark.parametrize(("size", "channels"), [(4, 1), (16, 3), (64, 3), (224, 1)])
def test_takes_other_sizes_and_keeps_the_images_apart(size, channels):
    """The tutorial's view(-1, 4096) makes 8 rows of 2 images at 64×64, and 2 of 8 at 16×16."""
    model = build("simple-cnn", image_size=size, in_channels=channels)
    assert_sound(model, 3, channels, size, size)


def test_takes_channels_last():
    """Where the tutorial's view fails."""
    model = build("simple-cnn").eval()
    images = torch.randn(2, 3, 32, 32)
    strided = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(strided), model(images))


def test_trains_and_follows_the_dtype():
    assert_trains(build("simple-cnn"), 4, 3, 32, 32)
    assert_follows_dtype(build("simple-cnn"), 4, 3, 32, 32)


def test_exports_with_a_free_batch():
    architecture = ARCHITECTURES["simple-cnn"]
    config = architecture.config()
    assert_exports(build("simple-cnn"), architecture, config, {"batch": 2}, [{"batch": 1}, {"batch": 5}])


def test_learns_the_digits():
    torch.manual_seed(0)
    assert accuracy_on_digits(build("simple-cnn"), size=32, channels=3) >= 0.94


def test_loss_of_a_batch_falls():
    torch.manual_seed(0)
    model = build("simple-cnn")
    images, targets = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
