"""The models that torchinfo is tested with, written afresh: what it shows of them, and what it miscounts.

Each class is one of them. Multiply-adds are those of convolutions and matrix products, so they are
not torchinfo's, which adds biases and norms and passes over attention and plain products.
"""

from collections import namedtuple
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F
from torch.nn.utils import prune
from torchvision import models

import nnkit


def modules(report):
    """The rows of modules, without the model itself."""
    return [row for row in report.rows[1:] if row.kind == "module"]


def shapes(report, *types):
    """The output shapes of the modules and functions of some types, in order."""
    return [row.output_shapes[0] for row in report.rows[1:] if row.type in types]


def paths(report):
    return [row.path for row in modules(report)]


def figures(report):
    totals = report.totals
    return totals.parameters, totals.trainable, totals.macs


def meta(build, *args, **kwargs):
    """A module without weights."""
    with torch.device("meta"):
        return build(*args, **kwargs)


# ---- 1, 2: a small network for digits, and the same pruned


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.drop = nn.Dropout2d(0.3)
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.drop(self.conv2(x)), 2))
        x = F.relu(self.fc1(x.view(-1, 320)))
        return F.log_softmax(self.fc2(x), dim=1)


def test_a_network_for_digits_shows_its_modules_and_its_functions():
    report = nnkit.summarize(Digits(), [torch.randn(7, 1, 28, 28)])
    assert figures(report) == (21_840, 21_840, 3_363_500)
    assert [(row.path, row.output_shapes[0]) for row in report.rows] == [
        ("", (7, 10)),
        ("conv1", (7, 10, 24, 24)),
        ("max_pool2d", (7, 10, 12, 12)),
        ("relu", (7, 10, 12, 12)),
        ("conv2", (7, 20, 8, 8)),
        ("drop", (7, 20, 8, 8)),
        ("max_pool2d", (7, 20, 4, 4)),
        ("relu", (7, 20, 4, 4)),
        ("view", (7, 320)),
        ("fc1", (7, 50)),
        ("relu", (7, 50)),
        ("fc2", (7, 10)),
        ("log_softmax", (7, 10)),
    ]
    assert [row.parameters for row in modules(report)] == [260, 5020, 0, 16_050, 510]


def test_a_pruned_network_holds_all_its_weights_and_its_masks_and_costs_what_it_did():
    """torch's pruning only masks: each weight is a parameter `weight_orig` still, and half of the mask,
    a buffer, is 0. The masked product is a dense one, so a count of what is held and run is as before;
    the 10,965 that torchinfo gives are what could be left out of a file.
    """
    module = Digits()
    for layer in (module.conv1, module.conv2, module.fc1, module.fc2):
        prune.l1_unstructured(layer, "weight", amount=0.5)
    report = nnkit.summarize(module, [torch.randn(16, 1, 28, 28)])
    assert figures(report) == (21_840, 21_840, 16 * 480_500)
    assert report.totals.buffers == 21_840 - (10 + 20 + 50 + 10)
    assert [row.parameters for row in modules(report)] == [260, 5020, 0, 16_050, 510]
    assert int(sum(mask.sum() for mask in module.buffers())) + 90 == 10_965


# ---- 3: two inputs of two dtypes


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Linear(300, 50), nn.ReLU(), nn.Linear(50, 10))
        self.right = nn.Sequential(nn.Linear(300, 50), nn.ReLU(), nn.Linear(50, 10))

    def forward(self, a, b):
        return F.log_softmax(torch.cat((self.left(a), self.right(b.float()))), dim=1)


@pytest.mark.parametrize("named", [False, True])
def test_two_towers_take_a_float_and_a_long_input(named):
    a, b = torch.randn(1, 300), torch.randint(9, (1, 300))
    report = nnkit.summarize(TwoTowers(), {"b": b, "a": a} if named else [a, b])
    assert figures(report) == (31_120, 31_120, 31_000)
    assert shapes(report, "cat", "log_softmax") == [(2, 10), (2, 10)]


# ---- 4, 5, 6: single layers, and a language model


def test_a_grouped_convolution_counts_its_groups():
    report = nnkit.summarize(nn.Conv2d(16, 32, 3, groups=4), [torch.randn(7, 16, 28, 28)])
    assert figures(report) == (1_184, 1_184, 5_451_264)
    assert report.rows[0].output_shapes == ((7, 32, 26, 26),)


def test_a_linear_layer_counts_every_row_of_its_input():
    report = nnkit.summarize(nn.Linear(8, 64), [torch.randn(32, 16, 8)])
    assert figures(report) == (576, 576, 262_144)
    assert report.rows[0].output_shapes == ((32, 16, 64),)


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 300)
        self.encoder = nn.LSTM(300, 512, num_layers=2)
        self.decoder = nn.Linear(512, 20)

    def forward(self, ids):
        x, state = self.encoder(self.embedding(ids))
        x = self.decoder(x)
        return x.view(-1, x.shape[2]), state


def test_a_language_model_looks_up_for_nothing_and_shows_its_state():
    report = nnkit.summarize(LanguageModel(), [torch.randint(20, (1, 100))])
    assert figures(report) == (3_784_580, 3_784_580, 377_036_800)
    embedding, encoder, decoder = modules(report)
    assert embedding.output_shapes == ((1, 100, 300),)
    assert encoder.output_shapes == ((1, 100, 512), (2, 100, 512), (2, 100, 512))
    assert decoder.output_shapes == ((1, 100, 20),)
    assert shapes(report, "view") == [(100, 20)]
    assert embedding.macs == 0


# ---- 7, 8, 9: modules that are called more than once


class SixTimes(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1)

    def forward(self, x):
        for _ in range(6):
            x = self.conv(x)
        return x


def test_a_convolution_called_six_times_has_six_rows_and_one_count():
    report = nnkit.summarize(SixTimes(), [torch.randn(1, 64, 28, 28)])
    assert figures(report) == (36_928, 36_928, 173_408_256)
    assert len(report.rows) == 7
    assert [row.repeated for row in modules(report)] == [False] + 5 * [True]
    assert [row.parameters for row in modules(report)] == [36_928] + 5 * [0]
    assert {row.macs for row in modules(report)} == {173_408_256 // 6}


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = ((1, 64, 10), (64, 128, 7), (128, 128, 4), (128, 256, 4))
        self.convs = nn.ModuleList(nn.Conv2d(*each) for each in sizes)
        self.pool = nn.MaxPool2d(2)
        self.fc1, self.fc2 = nn.Linear(256, 4096), nn.Linear(4096, 1)

    def features(self, x):
        for conv in self.convs:
            x = self.pool(F.relu(conv(x)))
        return self.fc1(x.flatten(1))

    def forward(self, a, b):
        return torch.sigmoid(self.fc2(torch.abs(self.features(a) - self.features(b))))


def test_siamese_towers_share_their_parameters_and_each_costs():
    report = nnkit.summarize(meta(Siamese), [meta(torch.randn, 1, 1, 88, 88) for _ in range(2)])
    assert figures(report) == (2_251_585, 2_251_585, 1_054_294_528)
    once = [(1, 64, 79, 79), (1, 128, 33, 33), (1, 128, 13, 13), (1, 256, 3, 3), (1, 4096)]
    assert shapes(report, "Conv2d", "Linear") == [*once, *once, (1, 1)]
    layers = [row for row in modules(report) if row.type in ("Conv2d", "Linear")]
    assert [row.repeated for row in layers] == 5 * [False] + 5 * [True] + [False]
    assert sum(row.parameters for row in layers) == 2_251_585


class Child(nn.Module):
    def __init__(self):
        super().__init__()
        self.pair = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
        self.between = nn.Linear(5, 5)

    def forward(self, x):
        self.between(self.pair(x))  # what comes of it is not used, but it ran
        for _ in range(2):
            for layer in self.pair:
                x = layer(x)
        return self.pair(x)


class WithNone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 5), Child(), nn.Linear(5, 5), None])

    def forward(self, x):
        for layer in self.layers:
            if layer is not None:
                x = layer(x)
        return x


def test_a_list_of_modules_may_hold_none_and_a_sequence_may_be_called_as_one_or_layer_by_layer():
    report = nnkit.summarize(WithNone(), [torch.randn(1, 5)])
    assert figures(report) == (150, 150, 275)
    first, second = "layers.1.pair.0", "layers.1.pair.1"
    assert paths(report) == [
        "layers.0", "layers.1", "layers.1.pair", first, second, "layers.1.between",
        first, second, first, second, "layers.1.pair", first, second, "layers.2",
    ]  # fmt: skip
    assert sum(row.type == "Linear" for row in report.rows) == 11
    assert sum(row.parameters for row in report.rows if row.type == "Linear") == 150


# ---- 10, 11, 12: two results of a pool, an activation that all share, tied weights


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.decode = nn.Sequential(nn.Conv2d(16, 3, 3, padding=1), nn.ReLU())

    def forward(self, x):
        x = self.encode(x)
        small, indices = self.pool(x)
        return self.decode(self.unpool(small, indices=indices, output_size=x.shape))


def test_an_auto_encoder_pools_with_indices_and_back():
    report = nnkit.summarize(AutoEncoder(), [torch.randn(1, 3, 64, 64)])
    assert figures(report) == (883, 883, 3_538_944)
    pool, unpool = (row for row in modules(report) if row.path in ("pool", "unpool"))
    assert pool.output_shapes == ((1, 16, 32, 32), (1, 16, 32, 32))
    assert unpool.input_shapes == ((1, 16, 32, 32), (1, 16, 32, 32))
    assert unpool.output_shapes == ((1, 16, 64, 64),)


class SharedActivation(nn.Module):
    def __init__(self):
        super().__init__()
        relu = nn.ReLU()
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu) for _ in range(3))
        )

    def forward(self, x):
        return self.blocks(x)


def test_blocks_that_share_one_activation_are_blocks_each():
    report = nnkit.summarize(SharedActivation(), [torch.randn(1, 4)])
    assert figures(report) == (120, 120, 96)
    assert [row.type for row in modules(report)] == [
        "Sequential", *3 * ["Sequential", "Linear", "ReLU", "Linear", "ReLU"]
    ]  # fmt: skip
    assert [row.repeated for row in modules(report) if row.type == "ReLU"] == [False] + 5 * [True]
    # Whatever name a shared module goes by, it stands beneath the block that called it.
    assert [row.depth for row in modules(report)] == [1, *3 * [2, 3, 3, 3, 3]]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(1000, 64)
        self.head = nn.Linear(64, 1000, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.embedding(ids))


def test_a_tied_weight_counts_once():
    report = nnkit.summarize(Tied(), [torch.randint(1000, (2, 8))])
    assert figures(report) == (64_000, 64_000, 1_024_000)
    assert report.totals.parameter_bytes == 256_000
    assert report.rows[0].parameters == 64_000
    assert sum(row.parameters for row in modules(report)) == 64_000
    assert shapes(report, "Embedding", "Linear") == [(2, 8, 64), (2, 8, 1000)]


# ---- 13, 14, 15: parameters outside layers


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(1, 1), nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.linear(x) * self.scale


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.scale, self.inner = nn.Linear(2, 1), nn.Parameter(torch.ones(2)), Inner()

    def forward(self, x):
        return self.inner(self.linear(x)) * self.scale


def test_parameters_of_a_module_that_has_children_count_in_its_row():
    report = nnkit.summarize(Outer(), [torch.randn(100, 2)])
    assert figures(report) == (8, 8, 300)
    assert report.totals.parameter_bytes == 32
    assert {row.path: row.parameters for row in [report.rows[0], *modules(report)]} == {
        "": 2 + 3 + 1 + 2, "linear": 3, "inner": 1 + 2, "inner.linear": 2,
    }  # fmt: skip
    assert shapes(report, "mul") == [(100, 1), (100, 2)]


class PlainProduct(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(128, 64)), nn.Parameter(torch.randn(64))
        self.linear = nn.Linear(64, 32)

    def forward(self, x):
        return self.linear(torch.mm(x, self.weight) + self.bias)


def test_a_product_written_in_forward_counts_and_shows():
    report = nnkit.summarize(PlainProduct(), [torch.randn(3, 128)])
    assert figures(report) == (10_336, 10_336, 30_720)
    assert [(row.path, row.macs) for row in report.rows[1:]] == [
        ("mm", 24_576),
        ("add", 0),
        ("linear", 6_144),
    ]
    assert report.rows[0].output_shapes == ((3, 32),)


class OnlyHeld(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(100, 100), torch.randn(100, 200)])

    def forward(self, x):
        return x


def test_parameters_that_are_held_and_not_used_count_and_cost_nothing():
    report = nnkit.summarize(OnlyHeld(), [torch.randn(100, 100)])
    assert figures(report) == (30_000, 30_000, 0)
    assert len(report.rows) == 1


# ---- 16: what is trained


class PartlyFrozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.trained, self.partly, self.frozen = nn.Conv1d(1, 1, 1), nn.Conv1d(1, 1, 1), nn.Conv1d(1, 1, 1)
        self.partly.bias.requires_grad_(False)
        self.frozen.requires_grad_(False)
        self.dropout = nn.Dropout()

    def forward(self, x):
        return self.dropout(self.frozen(self.partly(self.trained(x))))


def test_frozen_parameters_are_told_apart_in_the_totals_and_in_the_rows():
    report = nnkit.summarize(PartlyFrozen(), [torch.randn(1, 1, 1)])
    assert figures(report) == (6, 3, 3)
    assert report.totals.frozen == 3
    assert [(row.path, row.trainable, row.parameters) for row in modules(report)] == [
        ("trained", 2, 2), ("partly", 1, 2), ("frozen", 0, 2), ("dropout", 0, 0),
    ]  # fmt: skip


# ---- 17: strings that choose the layers


class Choices(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"conv": nn.Conv2d(10, 10, 3), "pool": nn.MaxPool2d(3)})
        self.activations = nn.ModuleDict({"lrelu": nn.LeakyReLU(), "prelu": nn.PReLU()})

    def forward(self, x, layer, activation):
        return self.activations[activation](self.layers[layer](x))


@pytest.mark.parametrize(
    ("layer", "activation", "macs"), [("conv", "lrelu", 900), ("conv", "prelu", 900), ("pool", "prelu", 0)]
)
@pytest.mark.parametrize("named", [False, True])
def test_strings_choose_the_layers_and_only_those_show(layer, activation, macs, named):
    """The parameter of a PReLU that isn't called is held all the same."""
    values = {"x": torch.randn(1, 10, 3, 3), "layer": layer, "activation": activation}
    report = nnkit.summarize(Choices(), values if named else list(values.values()))
    assert figures(report) == (911, 911, macs)
    assert paths(report) == [f"layers.{layer}", f"activations.{activation}"]
    assert report.rows[0].output_shapes == ((1, 10, 1, 1),)


# ---- 18: a loop, and a layer that is never called


class LoopedCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.tanh, self.unused = nn.LSTMCell(3, 2), nn.Tanh(), nn.Linear(2, 3)

    def forward(self, x):
        hidden = cell = x.new_zeros(len(x), 2)
        for _ in range(4):
            hidden, cell = self.cell(x, (hidden, cell))
            hidden = self.tanh(hidden)
        return hidden


def test_a_cell_in_a_loop_has_a_row_a_step_and_a_layer_that_is_never_called_has_none():
    report = nnkit.summarize(LoopedCell(), [torch.randn(2, 3)])
    assert figures(report) == (65, 65, 320)
    assert paths(report) == 4 * ["cell", "tanh"]
    assert [row.parameters for row in modules(report)] == [56] + 7 * [0]
    assert [row.repeated for row in modules(report)] == 2 * [False] + 6 * [True]
    assert modules(report)[0].output_shapes == ((2, 2), (2, 2))


# ---- 19, 20, 21: networks of torchvision


@pytest.mark.parametrize(
    ("build", "batch", "parameters", "macs", "rows"),
    [
        (models.resnet50, 2, 25_557_032, 8_178_368_512, 183),
        (models.resnet152, 1, 60_192_808, 11_513_626_624, 523),
    ],
)
def test_every_module_of_a_residual_network_has_a_row(build, batch, parameters, macs, rows):
    report = nnkit.summarize(meta(build), [meta(torch.randn, batch, 3, 224, 224)])
    assert figures(report) == (parameters, parameters, macs)
    assert len(modules(report)) == rows - 1
    assert report.rows[0].output_shapes == ((batch, 1000),)
    assert sum(row.parameters for row in modules(report) if row.leaf) == parameters


def test_a_residual_network_whose_first_thirty_parameters_are_frozen():
    module = meta(models.resnet18)
    for parameter in list(module.parameters())[:30]:
        parameter.requires_grad_(False)
    report = nnkit.summarize(module, [meta(torch.randn, 1, 3, 64, 64)])
    assert figures(report) == (11_689_512, 11_006_440, 148_557_824)
    assert report.totals.frozen == 683_072


def test_googlenet_holds_heads_that_only_training_uses():
    module = meta(models.googlenet, aux_logits=True, init_weights=False)
    report = nnkit.summarize(module, [meta(torch.randn, 1, 3, 112, 112)])
    assert figures(report) == (13_004_888, 13_004_888, 384_067_328)
    assert not any(path.startswith("aux") for path in paths(report))
    # 57 times convolution, norm and their block; 9 inception blocks of 4 branches, 3 of which are
    # sequences; 4 pools, 9 pools within blocks; avgpool, dropout and the last layer.
    kinds = [row.type for row in modules(report)]
    assert (kinds.count("Conv2d"), kinds.count("BatchNorm2d"), kinds.count("BasicConv2d")) == (57, 57, 57)
    assert (kinds.count("Inception"), kinds.count("Sequential"), kinds.count("MaxPool2d")) == (9, 27, 13)
    assert len(kinds) == 3 * 57 + 9 + 27 + 13 + 3


# ---- 22: three views of a radar (Ouaknine et al. 2021, "Multi-View Radar Semantic Segmentation")


def block(before, after, kernel, padding=0, dilation=1, times=1, conv=nn.Conv2d, norm=nn.BatchNorm2d):
    """Convolution, norm and leaky ReLU, `times` over."""
    layers = []
    for width in [before, *(times - 1) * [after]]:
        layers += [
            conv(width, after, kernel, padding=padding, dilation=dilation),
            norm(after),
            nn.LeakyReLU(),
        ]
    return nn.Sequential(*layers)


class View(nn.Module):
    """Five frames of one view, to features at a quarter of its size; a Doppler axis keeps its size."""

    def __init__(self, doppler):
        super().__init__()
        self.doppler = doppler
        self.frames = block(1, 128, 3, (0, 1, 1), times=2, conv=nn.Conv3d, norm=nn.BatchNorm3d)
        self.pool = nn.MaxPool2d(2, stride=(2, 1) if doppler else 2)
        self.features, self.latent = block(128, 128, 3, 1, times=2), block(128, 128, 1)

    def down(self, x):
        return self.pool(F.pad(x, (0, 1)) if self.doppler else x)

    def forward(self, x):
        x = self.down(self.features(self.down(self.frames(x).squeeze(2))))
        return x, self.latent(x)


class Pyramid(nn.Module):
    """The same features seen with growing dilation, and their mean over the whole of 64×64."""

    def __init__(self):
        super().__init__()
        self.mean, self.of_mean = nn.AvgPool2d(64), nn.Conv2d(128, 128, 1)
        self.branches = nn.ModuleList(
            [block(128, 128, 1), *(block(128, 128, 3, far, far) for far in (6, 12, 18))]
        )
        self.join = block(5 * 128, 128, 1)

    def forward(self, x):
        mean = F.interpolate(self.mean(x), size=x.shape[2:], mode="bilinear", align_corners=False)
        return self.join(torch.cat([*(branch(x) for branch in self.branches), self.of_mean(mean)], dim=1))


class Segmentation(nn.Sequential):
    """From three times 128 features at 64×64 to 4 classes at the size of the view."""

    def __init__(self, stride):
        super().__init__(
            nn.ConvTranspose2d(384, 128, stride, stride=stride), block(128, 128, 3, 1, times=2),
            nn.ConvTranspose2d(128, 128, stride, stride=stride), block(128, 128, 3, 1, times=2),
            nn.Conv2d(128, 4, 1),
        )  # fmt: skip


class Radar(nn.Module):
    """TMVA-Net: range-Doppler, range-angle and angle-Doppler in; range-Doppler and range-angle out."""

    def __init__(self):
        super().__init__()
        self.views = nn.ModuleList([View(True), View(False), View(True)])
        self.pyramids = nn.ModuleList(Pyramid() for _ in range(3))
        self.latents = nn.ModuleList(block(3 * 128, 128, 1) for _ in range(2))
        self.heads = nn.ModuleList([Segmentation((2, 1)), Segmentation((2, 2))])

    def forward(self, range_doppler, range_angle, angle_doppler):
        seen = [
            view(x) for view, x in zip(self.views, (range_doppler, range_angle, angle_doppler), strict=True)
        ]
        deep = [pyramid(x) for pyramid, (x, _) in zip(self.pyramids, seen, strict=True)]
        latent = torch.cat([each for _, each in seen], dim=1)
        return tuple(
            head(torch.cat((own, reduce(latent), deep[2]), dim=1))
            for own, reduce, head in zip(deep, self.latents, self.heads, strict=False)
        )


def test_three_views_of_a_radar_are_counted_with_transposed_convolutions_by_their_input():
    inputs = [meta(torch.randn, 1, 1, 5, 256, width) for width in (64, 256, 64)]
    report = nnkit.summarize(meta(Radar), inputs)
    assert figures(report) == (5_630_984, 5_630_984, 95_617_548_288)
    assert report.rows[0].input_shapes == ((1, 1, 5, 256, 64), (1, 1, 5, 256, 256), (1, 1, 5, 256, 64))
    assert report.rows[0].output_shapes == ((1, 4, 256, 64), (1, 4, 256, 256))
    assert shapes(report, "ConvTranspose2d") == [
        (1, 128, 128, 64), (1, 128, 256, 64), (1, 128, 128, 128), (1, 128, 256, 256),
    ]  # fmt: skip


# ---- behaviour


def test_lazy_parameters_count_with_the_shapes_that_the_first_run_gives_them():
    module = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    report = nnkit.summarize(module, [torch.randn(3, 5)])
    assert figures(report) == (5 * 4 + 4 + 4 * 2 + 2, 34, 3 * (5 * 4 + 4 * 2))
    assert [row.parameters for row in modules(report)] == [24, 0, 10]
    assert module(torch.randn(3, 5)).shape == (3, 2)


def test_hooks_that_are_on_the_model_fire_once_and_stay():
    module, fired = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), []
    module[0].register_forward_pre_hook(lambda module, args: fired.append("before"))
    module[0].register_forward_hook(lambda module, args, result: fired.append("after"))
    module[1].register_forward_hook(lambda module, args, result: result + 1)
    report = nnkit.summarize(module, [torch.zeros(2, 4)])
    assert fired == ["before", "after"]
    assert figures(report) == (20, 20, 32)
    assert (module(torch.zeros(2, 4)) >= 1).all()
    assert fired == 2 * ["before", "after"]


def with_norm_and_dropout():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


@pytest.mark.parametrize("summary_first", [False, True])
def test_a_summary_before_or_after_eval_changes_nothing_of_what_the_model_gives(summary_first):
    x, truth = torch.ones(6, 4), with_norm_and_dropout().eval()(torch.ones(6, 4))
    module = with_norm_and_dropout().train(summary_first)
    nnkit.summarize(module, [x])
    assert module.training == summary_first
    torch.testing.assert_close(module.eval()(x), truth, rtol=0, atol=0)


def test_a_summary_changes_nothing_of_what_the_model_does_in_training():
    """Neither the random numbers of the dropout nor the running means of the norm know of it."""
    results = []
    for summarised in (False, True):
        module, x = with_norm_and_dropout(), torch.randn(6, 4)
        if summarised:
            nnkit.summarize(module, [x])
        results.append((module(x), module[1].running_mean))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_modes_are_restored_one_by_one_and_also_after_a_failure():
    module = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(4)))
    module[1].eval()
    module[1][0].train()
    modes = [each.training for each in module.modules()]
    for width in (4, 3):
        with nullcontext() if width == 4 else pytest.raises(nnkit.NnkitError):
            nnkit.summarize(module, [torch.randn(2, width)])
        assert [each.training for each in module.modules()] == modes


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_module_in_torchscript_is_summarised_as_a_whole(how):
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    module = torch.jit.script(plain) if how == "script" else torch.jit.trace(plain, torch.randn(3, 4))
    report = nnkit.summarize(module, [torch.randn(3, 4)])
    assert figures(report) == (58, 58, 3 * (4 * 8 + 8 * 2))
    assert report.rows[0].output_shapes == ((3, 2),)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_part_in_torchscript_has_its_row_and_its_count():
    module = nn.Sequential(nn.Linear(4, 8), torch.jit.script(nn.Linear(8, 2)))
    report = nnkit.summarize(module, [torch.randn(3, 4)])
    assert figures(report) == (58, 58, 3 * (4 * 8 + 8 * 2))
    assert [(row.path, row.macs, row.parameters) for row in modules(report)] == [("0", 96, 40), ("1", 48, 18)]


# ---- what may go in and come out

Point = namedtuple("Point", ["x", "y"])


class Takes(nn.Module):
    """A linear layer between two functions: `take` finds its input, `give` wraps its output."""

    def __init__(self, take, give=lambda x: x):
        super().__init__()
        self.linear, self.take, self.give = nn.Linear(4, 3), take, give

    def forward(self, *args, **kwargs):
        return self.give(self.linear(self.take(*args, **kwargs)))


X = torch.ones(2, 4)
INPUTS = {
    "dict": (lambda d: d["x"], [{"x": X, "scale": 2}]),
    "dict with numbers for keys": (lambda d: d[256] + d[512][0], [{256: X, 512: [X]}]),
    "nested": (lambda nest: nest[0]["a"][1], [({"a": [None, X]}, "aside")]),
    "named tuple": (lambda point, y: point.x + y, [Point(X, None), X]),
    "scalar tensor": (lambda x, scale: x * scale, [X, torch.tensor(2.0)]),
    "number": (lambda x, scale: x * scale, [X, 2.5]),
    "none": (lambda x, mask: x if mask is None else x * mask, [X, None]),
    "string": (lambda x, how: getattr(torch, how)(x), [X, "tanh"]),
    "flag": (lambda x, flip: -x if flip else x, [X, True]),
    "distribution": (lambda normal: normal.mean, [Normal(X, 1.0)]),
    "a class": (lambda x, kind: kind(x), [X, nn.Identity()]),
    "by name": (lambda *, x, scale=None: x if scale is None else x * scale, {"x": X, "scale": None}),
    "nothing": (lambda: X, []),
    "nothing, by name": (lambda: X, {}),
}


@pytest.mark.parametrize("case", INPUTS)
def test_an_input_may_be_of_any_type(case):
    take, inputs = INPUTS[case]
    report = nnkit.summarize(Takes(take), inputs)
    assert figures(report) == (15, 15, 2 * 4 * 3)
    assert report.rows[0].output_shapes == ((2, 3),)


OUTPUTS = {
    "dict": (lambda y: {"y": y, "note": "seen"}, 1),
    "nested": (lambda y: {"foo": ({"bar": [y, None]}, y)}, 2),
    "named tuple": (lambda y: Point(y, y[0]), 2),
    "scalar tensor": (lambda y: y.sum(), 1),
    "number": (lambda y: y.sum().item(), 0),
    "none": (lambda y: None, 0),
    "string": (lambda y: "done", 0),
    "a class": (lambda y: Takes, 0),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_an_output_may_be_of_any_type(case):
    give, tensors = OUTPUTS[case]
    report = nnkit.summarize(Takes(lambda x: x, give), [X])
    assert figures(report) == (15, 15, 2 * 4 * 3)
    assert len(report.rows[0].output_shapes) == tensors


def test_a_distribution_may_come_out():
    report = nnkit.summarize(Takes(lambda x: x, lambda y: Normal(y, 1.0)), [X])
    assert figures(report) == (15, 15, 2 * 4 * 3)


@pytest.mark.parametrize("inputs", [[Point(X, X)], {"pair": Point(X, X)}])
def test_a_named_tuple_has_the_shapes_of_its_fields(inputs):
    report = nnkit.summarize(Takes(lambda pair: pair.x), inputs)
    assert report.rows[0].input_shapes == ((2, 4), (2, 4))


def test_a_scalar_has_a_shape_without_axes():
    report = nnkit.summarize(Takes(lambda x, scale: x * scale), [X, torch.tensor(2.0)])
    assert report.rows[0].input_shapes == ((2, 4), ())


def test_totals_are_the_same_however_deep_the_rows_go():
    report = nnkit.summarize(SharedActivation(), [torch.randn(1, 4)])
    for depth in range(4):
        shallow = report.select(depth=depth)
        assert shallow.totals == report.totals
        assert shallow.rows[0].macs == 96
        assert max(row.depth for row in shallow.rows) == depth
