"""GoogLeNet, in torchvision's form and as published in 2014."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from vision_checks import (
    ARCHITECTURES,
    assert_equal_weights,
    assert_sound,
    assert_trains,
    build,
    build_on_meta,
    children_shapes,
    counts,
    layout,
    spread_weights,
)


@pytest.mark.parametrize(
    ("name", "aux", "expected"),
    [
        ("googlenet", False, (6_624_904, 14_617, 1_498_376_192)),
        ("googlenet", True, (13_004_888, 15_131, 1_498_376_192)),
        ("googlenet-2014", False, (6_998_552, 0, 1_582_671_872)),
        ("googlenet-2014", True, (13_378_280, 0, 1_582_671_872)),
    ],
)
def test_counts(name, aux, expected):
    assert counts(name, 1, 3, 224, 224, aux_logits=aux) == expected


@pytest.mark.parametrize("name", ["googlenet", "googlenet-2014"])
def test_shapes(name):
    """The output sizes of the paper's Table 1."""
    rows = children_shapes(build_on_meta(name), 1, 3, 224, 224)
    assert [(child, output[1:]) for child, _, _, output in rows if "norm" not in child] == [
        ("conv1", [64, 112, 112]),
        ("maxpool1", [64, 56, 56]),
        ("conv2", [64, 56, 56]),
        ("conv3", [192, 56, 56]),
        ("maxpool2", [192, 28, 28]),
        ("inception3a", [256, 28, 28]),
        ("inception3b", [480, 28, 28]),
        ("maxpool3", [480, 14, 14]),
        ("inception4a", [512, 14, 14]),
        ("inception4b", [512, 14, 14]),
        ("inception4c", [512, 14, 14]),
        ("inception4d", [528, 14, 14]),
        ("inception4e", [832, 14, 14]),
        ("maxpool4", [832, 7, 7]),
        ("inception5a", [832, 7, 7]),
        ("inception5b", [1024, 7, 7]),
        ("avgpool", [1024, 1, 1]),
        ("dropout", [1024]),
        ("fc", [1000]),
    ]


@pytest.mark.parametrize("aux", [False, True])
def test_equals_torchvision_from_the_same_seed(aux):
    """In evaluation and, with the dropout's draws the same, in training, in its order of outputs."""
    torch.manual_seed(0)
    ours = build("googlenet", num_classes=10, aux_logits=aux)
    torch.manual_seed(0)
    theirs = models.GoogLeNet(num_classes=10, aux_logits=aux, init_weights=True)
    assert_equal_weights(ours, theirs)
    spread_weights(ours)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 97, 64)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
    results, expected = [], []
    for model, outputs in ((ours.train(), results), (theirs.train(), expected)):
        for dropout in (module for module in model.modules() if isinstance(module, nn.Dropout)):
            dropout.p = 0.0
        outputs.extend(model(images) if aux else [model(images)])
    assert len(results) == (3 if aux else 1)
    for result, wanted in zip(results, expected, strict=True):
        assert torch.equal(result, wanted)


def test_state_dict_is_torchvisions():
    with torch.device("meta"):
        theirs = models.GoogLeNet(init_weights=False)
    assert layout(build_on_meta("googlenet", aux_logits=True)) == layout(theirs)


def test_inception_of_2014_joins_1x1_3x3_5x5_and_pool():
    torch.manual_seed(0)
    inception = build_on_meta("googlenet-2014").inception3a.to_empty(device="cpu")
    spread_weights(inception)
    for name, parameter in inception.named_parameters():
        if name.endswith("bias"):
            nn.init.uniform_(parameter)
    one, (reduce3, three), (reduce5, five), (_, pool) = inception.children()

    def conv(layer, x, padding):
        return F.conv2d(x, layer.weight, layer.bias, padding=padding).relu()

    assert [layer.kernel_size[0] for layer in (one, reduce3, three, reduce5, five, pool)] == [
        1,
        1,
        3,
        1,
        5,
        1,
    ]
    x = torch.randn(2, 192, 6, 5)
    expected = torch.cat(
        [
            conv(one, x, 0),
            conv(three, conv(reduce3, x, 0), 1),
            conv(five, conv(reduce5, x, 0), 2),
            conv(pool, F.max_pool2d(x, 3, stride=1, padding=1), 0),
        ],
        dim=1,
    )
    torch.testing.assert_close(inception(x), expected)


def test_stem_of_2014_normalizes_after_its_first_pool_and_its_third_convolution():
    rows = children_shapes(build_on_meta("googlenet-2014"), 1, 3, 224, 224)
    assert [name for name, *_ in rows[:7]] == [
        "conv1",
        "maxpool1",
        "norm1",
        "conv2",
        "conv3",
        "norm2",
        "maxpool2",
    ]


def test_2014_keeps_its_signal_without_batch_normalization():
    """At torch's default initialization nothing of the image is left after 22 such layers."""
    torch.manual_seed(0)
    model = build("googlenet-2014").eval()
    with torch.no_grad():
        scores = model(torch.randn(4, 3, 64, 64))
    assert (scores - scores.mean(0)).std() > 1e-3 * scores.std()


@pytest.mark.parametrize(("name", "smallest"), [("googlenet", 15), ("googlenet-2014", 31)])
def test_the_smallest_size_is_honest(name, smallest):
    assert ARCHITECTURES[name].dims["height"].min == smallest
    model = build_on_meta(name)
    assert model(torch.empty(1, 3, smallest, smallest, device="meta")).shape == (1, 1000)
    with pytest.raises(RuntimeError):
        model(torch.empty(1, 3, smallest - 1, smallest, device="meta"))


@pytest.mark.parametrize(("name", "size"), [("googlenet", (40, 33)), ("googlenet-2014", (40, 33))])
def test_is_sound(name, size):
    assert_sound(spread_weights(build(name, num_classes=5, in_channels=1)), 2, 1, *size)


@pytest.mark.parametrize("name", ["googlenet", "googlenet-2014"])
def test_auxiliary_heads_train_what_lies_under_them(name):
    model = spread_weights(build(name, num_classes=5, aux_logits=True, dropout=0.0, dropout_aux=0.0))
    assert_trains(model, 2, 3, 224, 224)
    model.zero_grad(set_to_none=True)
    model(torch.randn(2, 3, 224, 224)).aux1.sum().backward()
    assert model.inception4a.branch1.get_parameter(
        "conv.weight" if name == "googlenet" else "weight"
    ).grad.any()
    assert all(parameter.grad is None for parameter in model.inception4b.parameters())


def test_head_of_2014_is_the_papers():
    """Means of 5×5 by 3 to 4×4, a 1×1 convolution of 128, 1024 units, the classes."""
    torch.manual_seed(0)
    head = spread_weights(build("googlenet-2014", num_classes=5, aux_logits=True).aux1).eval()
    x = torch.randn(2, 512, 14, 14)
    windows = x.unfold(2, 5, 3).unfold(3, 5, 3).mean((4, 5))
    assert windows.shape == (2, 512, 4, 4)
    hidden = F.conv2d(windows, head.conv.weight, head.conv.bias).relu().flatten(1)
    hidden = F.linear(hidden, head.fc1.weight, head.fc1.bias).relu()
    expected = F.linear(hidden, head.fc2.weight, head.fc2.bias)
    torch.testing.assert_close(head(x), expected, rtol=1e-4, atol=1e-4)


def test_heads_of_2014_fix_the_size():
    architecture = ARCHITECTURES["googlenet-2014"]
    assert list(architecture.dims_for(architecture.config())) == ["batch", "height", "width"]
    assert list(architecture.dims_for(architecture.config(aux_logits=True))) == ["batch"]
