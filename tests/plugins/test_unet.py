"""U-Net: counted and computed by hand, and shapes that it learns to outline."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from vision_checks import assert_follows_dtype, assert_sound, assert_trains, build, counts

import nnkit


def double(channels, width, norm):
    """Return the parameters of two 3×3 convolutions, each with a bias or with the two numbers of a norm."""
    extra = 2 * width if norm else width
    return 9 * channels * width + 9 * width * width + 2 * extra


@pytest.mark.parametrize(
    ("preset", "parameters"),
    # Of the paper's network and of two well-known ones: milesial/Pytorch-UNet, mateuszbuda/brain-segmentation.
    [("paper", 31_030_658), ("carvana", 31_037_698), ("brain-mri", 7_763_041)],
)
def test_counts_of_published_networks(preset, parameters):
    spec = nnkit.resolve("unet", preset=preset)
    config = spec.config
    shape = (1, config.in_channels, spec.sizes["height"], spec.sizes["width"])
    found, buffers, macs = counts("unet", *shape, **vars(config))
    assert found == parameters

    widths = [config.channels * 2**level for level in range(5)]
    pixels = [shape[2] * shape[3] // 4**level for level in range(5)]
    down = [9 * a * b + 9 * b * b for a, b in zip([config.in_channels, *widths[:-1]], widths, strict=True)]
    up = [2 * width * width * 4 // 4 + 18 * width * width + 9 * width * width for width in widths[:-1]]
    head = config.channels * config.num_classes
    by_hand = sum(n * p for n, p in zip(down, pixels, strict=True))
    by_hand += sum(n * p for n, p in zip(up, pixels, strict=False)) + head * pixels[0]
    assert macs == by_hand

    weights = sum(down) + sum(up) + head
    # An up-convolution has four times the weights that go into one of its results.
    weights += sum(3 * 2 * width * width for width in widths[:-1])
    norms = 2 * sum(widths) + 2 * sum(widths[:-1])  # the 3×3 convolutions, by their channels
    biases = sum(widths[:-1]) + config.num_classes + (2 if config.batch_norm else 1) * norms
    assert weights + biases == parameters
    assert buffers == (2 * norms + 18 if config.batch_norm else 0)


def test_computes_the_figure():
    """Written out for one level, with the weights taken from the state dict."""
    torch.manual_seed(0)
    model = build("unet", levels=1, channels=3, in_channels=2, num_classes=4).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    w = model.state_dict()

    def convs(x, name):
        x = F.conv2d(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"], padding=1).relu()
        return F.conv2d(x, w[f"{name}.2.weight"], w[f"{name}.2.bias"], padding=1).relu()

    image = torch.randn(2, 2, 6, 4, dtype=torch.float64)
    left = convs(image, "encoder.0")
    lowest = convs(left.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)), "bottom")
    # Each pixel becomes a square of 2×2: up[c, 2i + a, 2j + b] = Σ_k x[k, i, j] W[k, c, a, b] + bias.
    squares = torch.einsum("nkij,kcab->nciajb", lowest, w["up.0.weight"])
    up = squares.reshape(left.shape) + w["up.0.bias"][:, None, None]
    right = convs(torch.cat([left, up], 1), "decoder.0")
    expected = torch.einsum("nkij,ck->ncij", right, w["head.weight"][:, :, 0, 0])
    expected += w["head.bias"][:, None, None]
    torch.testing.assert_close(model(image), expected, rtol=1e-10, atol=1e-10)


def test_initialization_keeps_the_size_of_activations():
    """Section 3 of the paper: whatever the depth, the scores of random images are neither huge nor tiny."""
    torch.manual_seed(0)
    for levels in (1, 4):
        scores = build("unet", levels=levels, channels=16, num_classes=64)(torch.randn(1, 1, 64, 64))
        assert 0.3 < scores.std() < 5


@pytest.mark.parametrize("batch_norm", [False, True])
def test_is_sound(batch_norm):
    model = build("unet", levels=2, channels=4, in_channels=3, num_classes=5, batch_norm=batch_norm)
    assert_trains(model, 2, 3, 24, 16)
    assert_follows_dtype(model, 1, 3, 16, 24)
    assert_sound(model.float(), 2, 3, 8, 12)


def test_dropout_is_for_training():
    torch.manual_seed(0)
    model = build("unet", levels=1, channels=4, dropout=0.5)
    image = torch.randn(1, 1, 8, 8)
    assert not torch.equal(model(image), model(image))
    model.eval()
    assert torch.equal(model(image), model(image))


def test_sizes_are_multiples_of_the_lowest_level():
    assert nnkit.resolve("unet", levels=3).dims["height"].multiple_of == 8
    assert nnkit.resolve("unet", levels=8).sizes["height"] == 512  # 128 has less than two pixels there
    with pytest.raises(nnkit.NnkitError, match="multiple of 16"):
        nnkit.resolve("unet", height=100)


def shapes(number, generator):
    """Return noisy images of one disc and one square each, and the class of each pixel: 0, 1 (disc), 2."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    centers = torch.randint(7, 25, (4, number, 1, 1), generator=generator)
    radius = torch.randint(4, 7, (2, number, 1, 1), generator=generator)
    disc = (y - centers[0]) ** 2 + (x - centers[1]) ** 2 <= radius[0] ** 2
    square = ((y - centers[2]).abs() <= radius[1]) & ((x - centers[3]).abs() <= radius[1])
    classes = torch.where(square, 2, torch.where(disc, 1, 0))
    images = (classes > 0) + 0.3 * torch.randn(number, 32, 32, generator=generator)
    return images[:, None], classes


def test_learns_to_tell_discs_from_squares():
    """Both are equally bright: who sees one pixel can't tell them apart, and overlaps with half at most.

    Of four seeds the least overlap was 0.71.
    """
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = build("unet", levels=3, channels=8, num_classes=3, batch_norm=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(160):
        images, classes = shapes(16, generator)
        optimizer.zero_grad()
        F.cross_entropy(model(images), classes).backward()
        optimizer.step()
    model.eval()
    images, classes = shapes(64, generator)
    with torch.no_grad():
        found = model(images).argmax(1)
    for number in (1, 2):
        mine, true = found == number, classes == number
        overlap = (mine & true).sum() / (mine | true).sum()
        assert overlap > 0.6, number
