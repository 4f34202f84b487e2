"""torchvision/: each network is the one that torchvision builds itself, under its own options."""

import inspect
import random
import socket

import pytest
import torch
from torchvision.models import get_model, get_model_builder, get_model_weights, list_models

import nnkit
from nnkit import UsageProblem
from nnkit.models.sampling import sample_inputs
from nnkit_torchvision.detection import suppress_overlapping
from nnkit_torchvision.options import options_of
from nnkit_torchvision.probing import find_sizes, probe
from nnkit_torchvision.published import weights_of

NOTHING = {"weights": None}
NO_BACKBONE = {**NOTHING, "weights_backbone": None}

# The name, nnkit's options, torchvision's own arguments.
KINDS = [
    ("shufflenet_v2_x0_5", {}, NOTHING),
    ("squeezenet1_1", {"num_classes": 7, "height": 64, "width": 65}, {**NOTHING, "num_classes": 7}),
    ("mobilenet_v3_small", {"set": {"width_mult": 0.5}}, {**NOTHING, "width_mult": 0.5}),
    ("googlenet", {"height": 64}, {**NOTHING, "aux_logits": False, "init_weights": False}),
    ("lraspp_mobilenet_v3_large", {"height": 64, "width": 80}, NO_BACKBONE),
    ("deeplabv3_mobilenet_v3_large", {"aux_loss": True, "height": 64}, {**NO_BACKBONE, "aux_loss": True}),
    ("quantized_shufflenet_v2_x0_5", {}, NOTHING),
    ("raft_small", {"num_flow_updates": 2, "height": 128, "width": 128}, NOTHING),
]


def build_both(name, options, arguments):
    """Return the network by nnkit and by torchvision, with the same weights."""
    own = nnkit.build(f"torchvision/{name}", **options)
    other = get_model(name, **arguments).eval()
    other.load_state_dict(own.state_dict())
    assert type(own).__name__ == type(other).__name__
    return own, other


def flatten(value):
    """Return the tensors in dicts and lists, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in flatten(part)]


@pytest.mark.parametrize(("name", "options", "arguments"), KINDS)
def test_a_network_is_the_one_that_torchvision_builds(name, options, arguments):
    spec = nnkit.resolve(f"torchvision/{name}", **options)
    inputs = sample_inputs(spec)
    constants = dict(spec.signature.constants)
    own, other = build_both(name, options, arguments)
    with torch.no_grad():
        results, expected = flatten(own(*inputs, **constants)), flatten(other(*inputs, **constants))
    assert len(results) == len(spec.outputs)
    for result, same, declared in zip(results, expected, spec.outputs, strict=True):
        assert torch.equal(result, same)
        assert tuple(result.shape) == spec.shape(declared)


@pytest.mark.parametrize(
    ("name", "options", "arguments"),
    [
        ("vit_b_32", {"image_size": 64}, {"image_size": 64}),
        ("maxvit_t", {"image_size": 448}, {"input_size": (448, 448)}),
    ],
)
def test_the_size_of_the_images_is_an_option_where_the_network_fixes_it(name, options, arguments):
    own = nnkit.build(f"torchvision/{name}", **options, device="meta")
    with torch.device("meta"):
        other = get_model(name, weights=None, **arguments)
    shapes = {key: tensor.shape for key, tensor in other.state_dict().items()}
    assert {key: tensor.shape for key, tensor in own.state_dict().items()} == shapes
    side = options["image_size"]
    assert own(torch.empty(1, 3, side, side, device="meta")).shape == (1, 1000)
    assert nnkit.resolve(f"torchvision/{name}", **options).inputs[0].shape == (
        "batch",
        3,
        "image_size",
        "image_size",
    )


def test_a_builder_that_fixes_the_size_has_no_option_for_it():
    spec = nnkit.resolve("torchvision/mvit_v2_s")
    assert spec.inputs[0].shape == ("batch", 3, 16, 224, 224)
    assert "image_size" not in vars(spec.config)


def test_a_detector_finds_in_a_batch_what_torchvision_finds_in_a_list(monkeypatch):
    # torchvision's own operator isn't there beside this torch, so both select boxes in the same way.
    monkeypatch.setattr("torchvision.ops.boxes.nms", suppress_overlapping)
    few = {"topk_candidates": 20, "score_thresh": 0.01}
    own, other = build_both("ssdlite320_mobilenet_v3_large", few, {**NO_BACKBONE, **few})
    images = torch.rand(2, 3, 50, 70)
    with torch.no_grad():
        results, expected = own(images), other(list(images))
    assert len(results) == len(expected) == 2
    for result, same in zip(results, expected, strict=True):
        assert list(result) == list(same) == ["boxes", "scores", "labels"]
        assert len(result["boxes"]) > 0
        assert all(torch.equal(result[key], same[key]) for key in same)


def test_boxes_that_a_better_one_overlaps_are_left_out():
    drawn = random.Random(5)
    corners = [[drawn.random() * 4 for _ in range(4)] for _ in range(60)]
    boxes = [(x, y, x + 1 + width, y + 1 + height) for x, y, width, height in corners]
    scores = [drawn.random() for _ in boxes]

    def overlap(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        shared = max(width, 0) * max(height, 0)
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return shared / (sum(areas) - shared)

    kept = []
    for index in sorted(range(len(boxes)), key=lambda each: -scores[each]):
        if all(overlap(boxes[index], boxes[other]) <= 0.3 for other in kept):
            kept.append(index)
    found = suppress_overlapping(torch.tensor(boxes), torch.tensor(scores), 0.3)
    assert found.tolist() == kept
    assert 1 < len(kept) < len(boxes)


def test_it_is_declared_what_is_random_in_training():
    names = ("swin_t", "maxvit_t", "efficientnet_b0", "fcn_resnet50", "resnet18", "raft_small", "densenet121")
    declared = {name: nnkit.resolve(f"torchvision/{name}").architecture.stochastic for name in names}
    random_ones = {"swin_t", "maxvit_t", "efficientnet_b0", "fcn_resnet50"}
    assert {name for name, when in declared.items() if when == "training"} == random_ones


def test_options_have_the_builder_s_own_defaults():
    assert options_of("efficientnet_b5")["dropout"].default == 0.4
    assert options_of("convnext_large")["stochastic_depth_prob"].default == 0.5
    assert options_of("fasterrcnn_mobilenet_v3_large_320_fpn")["min_size"].default == 320
    assert options_of("ssdlite320_mobilenet_v3_large")["score_thresh"].default == 0.001
    assert options_of("deeplabv3_resnet50")["num_classes"].default == 21
    assert options_of("keypointrcnn_resnet50_fpn")["num_keypoints"].default == 17
    # What the builder chooses itself is no option: it would refuse another value.
    assert not {"groups", "width_per_group"} & options_of("resnext50_32x4d").keys()
    assert "patch_size" not in options_of("vit_b_16")


def test_every_option_is_a_parameter_that_torchvision_documents_or_nnkit_s_own():
    for name in random.Random(2).sample(list_models(), 20):
        offered = options_of(name).keys() - {"image_size"}
        builder = get_model_builder(name)
        classes = inspect.signature(builder).return_annotation.__mro__
        known = {key for each in classes for key in inspect.signature(each.__init__).parameters}
        assert offered <= known | inspect.signature(builder).parameters.keys(), name


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet50", "dropuot=1", "no option 'dropuot'"),
        ("deeplabv3_resnet50", "layers=3", "no option 'layers'"),
        ("fcn_resnet50", "weights_backbone=DEFAULT", "would download weights"),
        ("vit_b_16", "patch_size=8", "multiple values for keyword argument 'patch_size'"),
        ("resnext50_32x4d", "groups=1", "expected value 32 but got 1"),
        ("quantized_resnet18", "quantize=true", "int8"),
        ("vit_b_16", "image_size=100", "Input shape indivisible by patch size"),
    ],
)
def test_what_torchvision_refuses_is_the_user_s_problem(name, settings, message):
    with pytest.raises(UsageProblem, match=message) as caught:
        nnkit.build(f"torchvision/{name}", set=[settings], device="meta")
    assert caught.value.hint


def test_published_weights_of_another_network_are_refused():
    with pytest.raises(UsageProblem, match="expected value 1000 but got 10"):
        nnkit.build("torchvision/resnet18", preset="IMAGENET1K_V1", num_classes=10, device="meta")


@pytest.mark.parametrize("published", [False, True])
def test_auxiliary_heads_are_built_when_they_are_asked_for(published):
    options = {"preset": "IMAGENET1K_V1"} if published else {}
    without = nnkit.build("torchvision/googlenet", **options, device="meta")
    having = nnkit.build("torchvision/googlenet", **options, aux_logits=True, device="meta")
    assert (without.aux1, without.transform_input, having.transform_input) == (None, published, published)
    assert sum(each.numel() for each in having.parameters()) == 13_004_888


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*args):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with_backbones = [
        name
        for name in list_models()
        if "weights_backbone" in inspect.signature(get_model_builder(name)).parameters
    ]
    assert len(with_backbones) == 18
    for name in random.Random(1).sample(with_backbones, 3):
        nnkit.build(f"torchvision/{name}", device="meta")
        nnkit.build(f"torchvision/{name}", preset=weights_of(get_model_builder(name))[0].name, device="meta")


# torchvision returns Inception for quantization without the auxiliary head that its figure counts.
OTHER_PARAMETERS = {"quantized_inception_v3"}
# Behind the first boxes, a detector computes as much as it finds.
NO_FIGURES = {name for name in list_models() if ".detection." in get_model_builder(name).__module__}
PUBLISHED = [(name, weights) for name in list_models() for weights in weights_of(get_model_builder(name))]


def check_published(name, weights):
    report = None
    if name in NO_FIGURES:
        module = nnkit.build(f"torchvision/{name}", preset=weights.name, device="meta")
        parameters = sum(parameter.numel() for parameter in module.parameters())
    else:
        report = nnkit.summarize(f"torchvision/{name}", preset=weights.name)
        parameters = report.totals.parameters
        assert round(report.totals.macs / 1e9, 3) == pytest.approx(weights.meta["_ops"], abs=0.00101)
    assert (parameters == weights.meta["num_params"]) == (name not in OTHER_PARAMETERS)


def test_a_preset_has_the_published_figures():
    small = [(name, weights) for name, weights in PUBLISHED if weights.meta["_ops"] < 2]
    for name, weights in random.Random(3).sample(small, 6):
        check_published(name, weights)


@pytest.mark.slow
def test_every_preset_has_the_published_parameters():
    assert len(PUBLISHED) == 165
    for name, weights in PUBLISHED:
        module = nnkit.build(f"torchvision/{name}", preset=weights.name, device="meta")
        parameters = sum(parameter.numel() for parameter in module.parameters())
        assert (parameters == weights.meta["num_params"]) == (name not in OTHER_PARAMETERS), name


@pytest.mark.slow
def test_presets_have_the_published_figures():
    for name, weights in random.Random(4).sample(PUBLISHED, 30):
        check_published(name, weights)


def test_cached_weights_are_those_that_torchvision_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = get_model_weights("shufflenet_v2_x0_5").DEFAULT
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with pytest.raises(nnkit.NnkitError, match="no cache of this machine has weights"):
        nnkit.build("torchvision/shufflenet_v2_x0_5", weights="cached")
    drawn = nnkit.build("torchvision/shufflenet_v2_x0_5", seed=7)
    torch.save(drawn.state_dict(), folder / weights.url.rpartition("/")[2])
    expected = get_model("shufflenet_v2_x0_5", weights=weights).eval()
    module = nnkit.build("torchvision/shufflenet_v2_x0_5", weights="cached")
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(module(images), expected(images))


def test_the_sizes_that_an_image_may_have_are_found():
    assert find_sizes(lambda side: side >= 63, 224) == (1, 63)
    assert find_sizes(lambda side: side % 32 == 0 and side >= 96, 224) == (32, 96)
    # torchvision states 15 for GoogLeNet; AlexNet's last pool needs 63.
    assert probe("alexnet") == {"task": "image classification", "sizes": "1 from 63", "pretrained": True}
    assert probe("vit_b_16")["sizes"] == "fixed"
    assert get_model_weights("googlenet").DEFAULT.meta["min_size"] == (15, 15)
    alexnet = get_model("alexnet", weights=None).eval()
    alexnet(torch.rand(1, 3, 63, 63))
    with pytest.raises(RuntimeError, match="too small"):
        alexnet(torch.rand(1, 3, 62, 62))
