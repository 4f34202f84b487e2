"""Every published figure of torchvision's classifiers, counted as a user would have them counted.

The models are named by a reference, `torchvision.models:resnet18`, with the input declared. The few
whose published figures need an argument that hides in `**kwargs` have a small factory here, whose
parameters nnkit offers as options.
"""

import json
from pathlib import Path

import pytest
import torch
from torchvision import models

import nnkit
from nnkit.contract.requests import SummaryRequest
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.summary.runs import count

FIGURES = json.loads(Path(__file__).with_name("torchvision_figures.json").read_text())["models"]
ENTRIES = [(name, weights) for name, entries in FIGURES.items() for weights in entries]


def googlenet(aux_logits: bool = True, init_weights: bool = True):
    return models.googlenet(aux_logits=aux_logits, init_weights=init_weights)


def inception_v3(init_weights: bool = True):
    return models.inception_v3(init_weights=init_weights)


def vit_b_16(image_size: int = 224):
    return models.vit_b_16(image_size=image_size)


def vit_l_16(image_size: int = 224):
    return models.vit_l_16(image_size=image_size)


def vit_h_14(image_size: int = 224):
    return models.vit_h_14(image_size=image_size)


def declared(shape):
    return "x: float32[batch, " + ", ".join(str(size) for size in shape[1:]) + "]"


def spec_of(name, shape, options):
    place = __name__ if options else "torchvision.models"
    return look_up(f"{place}:{name}", plugin_manager(), [declared(shape)]).resolve(options=options)


@pytest.mark.parametrize(("name", "weights"), ENTRIES)
def test_a_model_has_its_published_figures(name, weights):
    figures = FIGURES[name][weights]
    totals = nnkit.summarize(spec_of(name, figures["input"], figures["build_kwargs"])).totals
    assert totals.parameters == totals.trainable == figures["num_params"]
    assert totals.macs == figures["macs"]
    assert abs(totals.macs / 1e9 - figures["gmacs"]) <= 0.0005


def test_the_published_figures_are_those_that_torchvision_states():
    """The copy here against the package's own metadata."""
    for name, weights in ENTRIES:
        figures, meta = FIGURES[name][weights], models.get_model_weights(name)[weights].meta
        assert (figures["num_params"], figures["gmacs"]) == (meta["num_params"], meta["_ops"])


def test_the_command_line_says_the_same(nnkit_command):
    done = nnkit_command(
        "summary", "torchvision.models:resnet18", "--input", declared((1, 3, 224, 224)), "--json"
    )
    totals = json.loads(done.out)["totals"]
    assert (totals["parameters"], totals["macs"]) == (11_689_512, 1_814_073_344)
    doubled = nnkit_command(
        "summary",
        "torchvision.models:resnet18",
        "--input",
        declared((1, 3, 224, 224)),
        "--batch",
        "2",
        "--json",
    )
    assert json.loads(doubled.out)["totals"]["macs"] == 2 * 1_814_073_344


def told(row):
    """All of a row but the device."""
    return (
        row.path, row.kind, row.type, row.depth, row.input_shapes, row.output_shapes, row.parameters, row.macs,
        row.repeated, row.leaf,
    )  # fmt: skip


# One of each kind of arithmetic: plain, grouped and depthwise convolutions, attention, windows of it.
CHEAP = (
    "resnet18", "squeezenet1_1", "shufflenet_v2_x1_5", "mnasnet1_3", "regnet_y_400mf", "efficientnet_b0",
    "convnext_tiny", "vit_b_32", "swin_t",
)  # fmt: skip


@pytest.mark.parametrize("name", CHEAP)
def test_a_run_with_weights_on_the_cpu_and_one_on_meta_show_the_same_rows(name):
    shape = FIGURES[name]["IMAGENET1K_V1"]["input"]
    spec, x = spec_of(name, shape, {}), torch.randn(shape)
    cpu, meta = (  # `nnkit.summarize` would first find out which axes may vary, by twenty runs
        count(
            SummaryRequest(
                spec=spec,
                host=plugin_manager(),
                module=nnkit.build(spec, device=device),
                inputs=(x.to(device),),
            )
        )
        for device in ("cpu", "meta")
    )
    assert [told(row) for row in cpu.rows] == [told(row) for row in meta.rows]
    assert cpu.totals.macs == meta.totals.macs == FIGURES[name]["IMAGENET1K_V1"]["macs"]
    assert cpu.totals.parameters == meta.totals.parameters == FIGURES[name]["IMAGENET1K_V1"]["num_params"]
