"""The ResNets: torchvision's key for key and bit for bit, the paper's counts, and what they must learn."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from vision_checks import (
    assert_equal_weights,
    assert_follows_dtype,
    assert_sound,
    assert_trains,
    build,
    build_on_meta,
    children_shapes,
    counts,
    layout,
)

from nnkit_vision.resnet import BasicBlock, Bottleneck
from nnkit_vision.resnet_cifar import ZeroPadShortcut

DEPTHS = (18, 34, 50, 101, 152)


@pytest.mark.parametrize(
    ("depth", "parameters", "buffers", "macs"),
    [
        (18, 11_689_512, 9_620, 1_814_073_344),
        (34, 21_797_672, 17_060, 3_663_761_408),
        (50, 25_557_032, 53_173, 4_089_184_256),
        (101, 44_549_160, 105_448, 7_801_405_440),
        (152, 60_192_808, 151_579, 11_513_626_624),
    ],
)
def test_counts_at_imagenet_size(depth, parameters, buffers, macs):
    assert counts(f"resnet{depth}", 1, 3, 224, 224, num_classes=1000) == (parameters, buffers, macs)


@pytest.mark.parametrize(
    ("size", "macs"), [(224, 1_813_566_464), (32, 37_016_576)], ids=["at 224", "at 32, as in the tutorial"]
)
def test_counts_of_ten_classes(size, macs):
    assert counts("resnet18", 1, 3, size, size) == (11_176_512 + 513 * 10, 9_620, macs)


@pytest.mark.parametrize(
    ("depth", "gmacs"), [(50, 3.858), (101, 7.570), (152, 11.282)], ids=["50", "101", "152"]
)
def test_v1_costs_what_the_paper_says(depth, gmacs):
    """3.8, 7.6 and 11.3 billion in the paper, with the parameters of v1.5."""
    parameters, _, macs = counts(f"resnet{depth}", 1, 3, 224, 224, num_classes=1000, variant="v1")
    assert parameters == counts(f"resnet{depth}", 1, 3, 32, 32, num_classes=1000)[0]
    assert macs / 1e9 == pytest.approx(gmacs, abs=5e-4)


@pytest.mark.parametrize(
    ("depth", "parameters", "buffers", "macs"),
    [
        (20, 269_722, 1_395, 40_551_040),
        (32, 464_154, 2_303, 68_862_592),
        (44, 658_586, 3_211, 97_174_144),
        (56, 853_018, 4_119, 125_485_696),
        (110, 1_727_962, 8_205, 252_887_680),
    ],
)
def test_counts_for_cifar(depth, parameters, buffers, macs):
    assert counts(f"resnet{depth}", 1, 3, 32, 32) == (parameters, buffers, macs)


def stages(width, *sizes):
    return [[f"layer{i + 1}", "Sequential", [1, width << i, s, s]] for i, s in enumerate(sizes)]


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_shapes(stem):
    size = {"imagenet": 224, "cifar": 32}[stem]
    first, second = {"imagenet": (112, 56), "cifar": (32, 32)}[stem]
    rows = children_shapes(build_on_meta("resnet18", stem=stem), 1, 3, size, size)
    assert [[name, kind, output] for name, kind, _, output in rows] == [
        ["conv1", "Conv2d", [1, 64, first, first]],
        ["bn1", "BatchNorm2d", [1, 64, first, first]],
        ["relu", "ReLU", [1, 64, first, first]],
        ["maxpool", {"imagenet": "MaxPool2d", "cifar": "Identity"}[stem], [1, 64, second, second]],
        *stages(64, second, second // 2, second // 4, second // 8),
        ["avgpool", "AdaptiveAvgPool2d", [1, 512, 1, 1]],
        ["fc", "Linear", [1, 10]],
    ]


def test_shapes_for_cifar():
    rows = children_shapes(build_on_meta("resnet20"), 1, 3, 32, 32)
    assert [[name, kind, output] for name, kind, _, output in rows][3:6] == stages(16, 32, 16, 8)


@pytest.mark.parametrize("depth", DEPTHS)
def test_state_dict_is_torchvisions(depth):
    with torch.device("meta"):
        theirs = getattr(models, f"resnet{depth}")(num_classes=7)
    assert layout(build_on_meta(f"resnet{depth}", num_classes=7)) == layout(theirs)


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_equals_torchvision_on_the_same_weights(depth):
    """From the same seed, in evaluation and in training, statistics and gradients included."""
    torch.manual_seed(0)
    ours = build(f"resnet{depth}", num_classes=10)
    torch.manual_seed(0)
    theirs = getattr(models, f"resnet{depth}")(num_classes=10)
    assert_equal_weights(ours, theirs)
    images = torch.randn(2, 3, 64, 64)
    for mode in (False, True):
        result, expected = ours.train(mode)(images), theirs.train(mode)(images)
        assert torch.equal(result, expected)
    result.square().sum().backward()
    expected.square().sum().backward()
    assert_equal_weights(ours, theirs)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_loads_a_state_dict_of_torchvision():
    torch.manual_seed(1)
    theirs = models.resnet18(num_classes=10).eval()
    ours = build("resnet18").eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 96, 64)
    assert torch.equal(ours(images), theirs(images))


def test_v1_is_v1_5_with_its_strides_moved():
    torch.manual_seed(0)
    ours = build("resnet50", variant="v1").eval()
    theirs = models.resnet50(num_classes=10).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert (ours(images) - theirs(images)).abs().max() > 0.01 * theirs(images).abs().max()
    for block in theirs.modules():
        if isinstance(block, models.resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    assert torch.equal(ours(images), theirs(images))


def test_cifar_stem_is_a_3x3_convolution_without_pool():
    torch.manual_seed(0)
    theirs = models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    ours = build("resnet18", stem="cifar").eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(images), theirs.eval()(images))


def test_shortcut_of_option_a_drops_pixels_and_pads_channels():
    x = torch.randn(2, 3, 5, 4)
    y = ZeroPadShortcut(new_channels=2)(x)
    assert y.shape == (2, 5, 3, 2)
    assert torch.equal(y[:, :3], F.avg_pool2d(x, 1, stride=2))
    assert not y[:, 3:].any()


def test_cifar_networks_have_no_weights_in_their_shortcuts():
    names = [name for name, _ in build_on_meta("resnet20").named_parameters()]
    assert not [name for name in names if "downsample" in name]
    kinds = [type(module) for module in build_on_meta("resnet110").modules()]
    assert kinds.count(BasicBlock) == 3 * 18
    assert kinds.count(ZeroPadShortcut) == 2
    # 6n + 2: the layers with weights
    assert kinds.count(nn.Conv2d) + kinds.count(nn.Linear) == 110


def test_cifar_networks_draw_their_convolutions_by_fan_out():
    torch.manual_seed(0)
    model = build("resnet20")
    for conv in (model.conv1, model.layer2[0].conv1, model.layer3[0].conv1):
        fan_out = 9 * conv.out_channels
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.15)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_block_whose_convolutions_give_nothing_is_the_identity(block):
    """What makes depth harmless: y = relu(F(x) + x), here with F = 0."""
    identity = block(16, 16).eval()
    for module in identity.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(identity(x.clone()), x)


def test_a_block_leaves_its_input_alone():
    x = torch.randn(2, 16, 8, 8)
    before = x.clone()
    BasicBlock(16, 16)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        ("resnet18", {"stem": "cifar", "in_channels": 1, "num_classes": 3}),
        ("resnet50", {"variant": "v1"}),
        ("resnet20", {"in_channels": 2}),
    ],
)
def test_is_sound(name, options):
    channels = options.get("in_channels", 3)
    assert_trains(build(name, **options), 4, channels, 40, 36)
    assert_follows_dtype(build(name, **options), 2, channels, 33, 40)
    for size in ((1, 1), (33, 40)):  # from the smallest on
        assert_sound(build(name, **options), 3, channels, *size)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_fits_a_batch_and_knows_it_in_evaluation(stem):
    """torch's default initialization fits too, but evaluation then tells about a quarter wrong."""
    torch.manual_seed(0)
    side = {"imagenet": 32, "cifar": 8}[stem]
    model = build("resnet18", stem=stem)
    images, targets = torch.randn(32, 3, side, side), torch.randint(0, 10, (32,))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert (model.eval()(images).argmax(1) == targets).all()
