"""timm/: each model is the one that timm builds itself, under its own options; what timm refuses is said."""

import threading

import huggingface_hub
import pytest
import timm
import torch
from timm.models import get_model_input_config, save_for_hf
from timm.models import vision_transformer as module_of_vit

import nnkit
from nnkit import DeclareRequest, ReadRequest, UsageProblem
from nnkit_timm import construction
from nnkit_timm.declare import declare
from nnkit_timm.folders import read
from nnkit_timm.outputs import of_network, write
from nnkit_timm.outputs import read as read_outputs
from nnkit_timm.probing import find_sizes, probe
from nnkit_timm.published import cached
from nnkit_timm.sizes import Sizes

KINDS = [
    ("test_resnet", {}, {}),
    ("test_resnet", {"num_classes": 7, "in_chans": 1}, {"num_classes": 7, "in_chans": 1}),
    ("test_vit", {"global_pool": "avg", "set": ["qk_norm=true"]}, {"global_pool": "avg", "qk_norm": True}),
    ("vit_tiny_patch16_224", {"img_size": (96,), "set": {"depth": 2}}, {"img_size": 96, "depth": 2}),
    ("vit_tiny_patch16_224", {"img_size": (96, 64), "set": ["depth=1"]}, {"img_size": (96, 64), "depth": 1}),
    ("test_byobnet", {"set": {"width_factor": 2.0}}, {"width_factor": 2.0}),
    ("levit_128s", {}, {}),
    (
        "test_convnext",
        {"features_only": True, "out_indices": (1, 3)},
        {"features_only": True, "out_indices": (1, 3)},
    ),
    ("naflexvit_base_patch16_gap", {"set": ["depth=1"]}, {"depth": 1}),
]


@pytest.mark.parametrize(("name", "options", "arguments"), KINDS)
def test_a_model_is_timms_own_bit_for_bit(name, options, arguments):
    torch.manual_seed(3)
    expected = timm.create_model(name, **arguments).eval()
    model = nnkit.build(f"timm/{name}", seed=3, **options)
    assert type(model) is type(expected)
    assert list(model.state_dict()) == list(expected.state_dict())
    for key, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key


@pytest.mark.parametrize(
    ("name", "options", "shapes"),
    [
        ("test_resnet", {}, {"logits": (1, 1000)}),
        ("test_resnet", {"num_classes": 0}, {"features": (1, 96)}),
        ("test_resnet", {"num_classes": 0, "global_pool": ""}, {"features": (1, 96, 5, 5)}),
        ("test_vit", {"num_classes": 5, "height": 64}, {"logits": (1, 5)}),
        ("test_vit", {"num_classes": 0, "global_pool": ""}, {"features": (1, 101, 64)}),
        ("test_convnext", {"features_only": True, "out_indices": (0, 2)}, {"features_0": (1, 24, 40, 40), "features_1": (1, 48, 10, 10)}),
        ("test_convnext", {"features_only": True, "height": 64}, {"features_0": (1, 24, 16, 40), "features_1": (1, 32, 8, 20), "features_2": (1, 48, 4, 10), "features_3": (1, 64, 2, 5)}),
    ],
)  # fmt: skip
def test_outputs_are_declared_with_their_names_and_shapes(name, options, shapes):
    spec = nnkit.resolve(f"timm/{name}", **options)
    assert {tensor.name: spec.shape(tensor) for tensor in spec.outputs} == shapes
    model = nnkit.build(f"timm/{name}", **options)
    with torch.no_grad():
        made = model(torch.zeros(spec.shape(spec.inputs[0])))
    assert [tuple(each.shape) for each in (made if isinstance(made, list) else [made])] == list(
        shapes.values()
    )


def test_a_tag_brings_its_own_classes_and_size():
    spec = nnkit.resolve("timm/convnext_tiny.fb_in22k_ft_in1k_384")
    assert (spec.name, spec.sizes["height"]) == ("timm/convnext_tiny.fb_in22k_ft_in1k_384", 384)
    assert nnkit.resolve("timm/convnext_tiny.fb_in22k").config.num_classes == 21841
    assert nnkit.resolve("timm/convnext_tiny").config.num_classes == 1000
    with pytest.raises(UsageProblem, match="publishes no weights 'fb_in2'") as problem:
        nnkit.resolve("timm/convnext_tiny.fb_in2")
    assert "timm/convnext_tiny.fb_in22k" in problem.value.hint


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        (["drop_pat_rate=0.1"], "has no option 'drop_pat_rate'", "drop_path_rate"),
        (["pretrained=true"], "--set can't choose pretrained", "--weights cached"),
        (["checkpoint_path=x.pth"], "--set can't choose checkpoint_path", "--weights FILE"),
        (["pretrained_cfg_overlay={}"], "--set can't choose pretrained_cfg_overlay", "--weights"),
        (["num_classes=6"], "num_classes is an option of its own", "--num-classes 6"),
        (["depth=nine"], "timm can't build test_vit with depth=nine: ", "nnkit info timm/test_vit"),
    ],
)
def test_settings_are_checked_by_timm(settings, message, hint):
    with pytest.raises(UsageProblem) as problem:
        nnkit.summarize("timm/test_vit", set=settings)
    assert message in problem.value.message
    assert hint in problem.value.hint


@pytest.mark.parametrize(
    "name", "test_vit test_resnet vit_tiny_patch16_224 botnet26t_256 levit_128s vit_small_patch16_lingbot".split()
)  # fmt: skip
def test_which_sizes_are_fixed_is_what_timm_says_of_the_built_model(name):
    with torch.device("meta"):
        built = get_model_input_config(timm.create_model(name))
    architecture = declare(DeclareRequest(name=name))
    assert ("height" not in architecture.dims) == built["fixed_input_size"]
    spec = nnkit.resolve(f"timm/{name}")
    assert spec.shape(spec.inputs[0]) == (1, *built["input_size"])


def test_a_catalog_row_says_the_sizes_and_the_outputs():
    row = nnkit.CatalogRow(name="test_resnet", sizes="8 from 64", detail="features[batch, 9]")
    architecture = declare(DeclareRequest(name="test_resnet", row=row))
    height = architecture.dims["height"]
    assert (height.min, height.multiple_of, height.default) == (64, 8, 160)
    assert [tensor.shape for tensor in architecture.outputs_for(architecture.config())] == [("batch", 9)]


# Finding sizes and outputs


@pytest.mark.parametrize(
    ("accepts", "found"),
    [
        (lambda h, w: True, "1 from 32"),
        (lambda h, w: h % 16 == w % 16 == 0, "16 from 32"),
        (lambda h, w: h % 32 == w % 32 == 0 and min(h, w) >= 96, "32 from 96"),
        (lambda h, w: h == w and h % 14 == 0, "14 from 42, square"),
        (lambda h, w: h % 7 == 0 and w % 14 == 0, "14 from 42"),
        (lambda h, w: (h, w) == (224, 224), "fixed"),
    ],
)
def test_the_step_and_the_smallest_size_are_found_by_trying(accepts, found):
    sizes = find_sizes(accepts, 224, 224)
    assert str(sizes) == found
    assert Sizes.parse(found) == sizes


@pytest.mark.parametrize("text", ["", "about 32", "32 from", "fixed?"])
def test_other_words_in_a_catalog_say_nothing(text):
    assert Sizes.parse(text) is None


def test_a_probe_finds_what_a_model_takes_and_gives():
    assert probe("test_vit") == {
        "sizes": "16 from 32",
        "detail": "logits[batch, num_classes]",
        "task": "image classification",
        "pretrained": True,
    }


def test_shapes_are_arithmetic_of_height_and_width():
    class Net(torch.nn.Module):
        def forward(self, x):
            half = x[..., ::2, ::2]
            return {
                "half": half,
                "tokens": torch.cat([half.flatten(2), half[..., 0, :1]], 2),
                "wide": x[0, 0, 0],
            }

    outputs = of_network(Net(), 3, (32, 64), Sizes(step=4), 0)
    written = write(outputs)
    assert written == (
        "half[batch, 3, height // 2, width // 2]; tokens[batch, 3, (height // 2) * (width // 2) + 1]; wide[width]"
    )
    assert read_outputs(written) == outputs


@pytest.mark.parametrize(
    ("name", "step", "least"),
    [("test_convnext", 32, 32), ("resnet18", 32, 32), ("test_vit", 32, 32), ("deepseek_vit_412m", 14, 42)],
)
def test_without_a_catalog_the_guess_is_one_that_the_model_takes(name, step, least):
    dims = declare(DeclareRequest(name=name)).dims
    assert {(dim.multiple_of, dim.min) for dim in (dims["height"], dims["width"])} == {(step, least)}
    with torch.device("meta"), torch.no_grad():
        for height, width in ((least, least), (least, least + step), (least + 3 * step, least)):
            timm.create_model(name).eval()(torch.empty(1, 3, height, width))


def test_a_construction_is_found_without_building_and_timm_is_left_as_it_was():
    before = module_of_vit.build_model_with_cfg
    found = construction.find("vit_giant_patch14_dinov2")
    assert (found.model.__name__, found.arguments["embed_dim"]) == ("VisionTransformer", 1536)
    assert module_of_vit.build_model_with_cfg is before
    with pytest.raises(RuntimeError, match="Unknown model"):
        construction.find("no_such_model")
    assert module_of_vit.build_model_with_cfg is before


def test_another_thread_builds_as_ever_while_a_construction_is_found():
    built = []
    with construction._recording():
        thread = threading.Thread(target=lambda: built.append(timm.create_model("test_vit")))
        thread.start()
        thread.join()
    assert built[0].num_classes == 1000


# Folders and published weights


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test_resnet", {"num_classes": 4, "in_chans": 1}),
        ("test_vit", {"num_classes": 0, "global_pool": "avg"}),
        ("vit_tiny_patch16_224", {"img_size": (64, 32), "depth": 1, "num_classes": 3}),
        ("vit_tiny_patch16_224", {"depth": 1, "dynamic_img_size": True}),
        ("levit_128s", {"num_classes": 3}),
        ("test_byobnet", {}),
    ],
)
def test_a_folder_of_timms_is_the_model_that_timm_builds_from_it(tmp_path, name, arguments):
    model = timm.create_model(name, **arguments)
    save_for_hf(model, tmp_path, safe_serialization=True)
    data = read(
        ReadRequest(config=timm.models._hub.load_cfg_from_json(tmp_path / "config.json"), path=tmp_path)
    )
    again = nnkit.build(
        data["architecture"], weights=str(tmp_path / "model.safetensors"), **data["config"], **data["sizes"]
    )
    own = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert type(again) is type(own)
    for key, tensor in own.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_folders_of_other_libraries_are_left_to_them(tmp_path):
    for config in ({}, {"model_type": "bert", "architectures": ["Bert"]}, {"architecture": "transformer"}):
        assert read(ReadRequest(config=config, path=tmp_path)) is None
    with pytest.raises(UsageProblem, match="no architecture 'resnet19'") as problem:
        read(ReadRequest(config={"architecture": "resnet19", "num_classes": 2}, path=tmp_path))
    assert "resnet18" in problem.value.hint


def test_published_weights_are_found_in_the_cache_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    spec = nnkit.resolve("timm/resnet18.a1_in1k")
    assert cached(spec) is None
    folder = tmp_path / "models--timm--resnet18.a1_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    assert cached(spec) == huggingface_hub.try_to_load_from_cache(
        "timm/resnet18.a1_in1k", "model.safetensors"
    )
    assert cached(spec) == str(file)
    assert cached(nnkit.resolve("timm/resnet18.a2_in1k")) is None
    assert cached(nnkit.resolve("timm/resnet18")) == str(file)  # the default weights are a1_in1k


def test_a_picture_names_the_zoo():
    assert nnkit.graph("timm/test_resnet").title == "timm/test_resnet"
    assert nnkit.graph("vision/simple-cnn").title == "simple-cnn"
