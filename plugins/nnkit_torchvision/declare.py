"""Declares one architecture of torchvision: its options, inputs, outputs, and the presets of its weights."""

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

from nnkit import Architecture, CatalogRow, DeclareRequest, OpenField, open_config
from nnkit_torchvision import tasks
from nnkit_torchvision.building import build
from nnkit_torchvision.descriptions import DESCRIPTIONS
from nnkit_torchvision.options import (
    Builder,
    builder_of,
    class_of,
    drops_in_training,
    fixed_sizes_of,
    options_of,
)
from nnkit_torchvision.published import preset, side_of, weights_of
from nnkit_torchvision.tasks import Sizes, Task

SIZES = re.compile(r"(\d+)(?: from (\d+))?")
"""A catalog's `sizes`: multiples of the first, from the second on."""

FIXED_SIDE = re.compile(r"(300|320)")
"""The detectors that resize images to a side in their name."""

PAPER = re.compile(r"`\W*([^`<]+?)\W*<(https?://arxiv[^>]+)>`", re.DOTALL)

FLOW = Sizes(default=512, step=8, least=128)
"""RAFT looks for each pixel of an eighth of the size at four scales, so 16 of them are the fewest."""


def declare(request: DeclareRequest) -> Architecture:
    """Return the architecture of a name."""
    builder = builder_of(request.name)
    weights = weights_of(builder)
    options = options_of(request.name)
    task = task_of(request.name, request.row)
    if task.name == "optical flow":
        options["num_flow_updates"] = OpenField(int, 12, DESCRIPTIONS["num_flow_updates"])
    names = ("none", *(each.name for each in weights))
    options["published"] = OpenField(Literal[names], "none", DESCRIPTIONS["published"])
    return Architecture(
        name=request.name,
        summary=f"{class_of(builder).__name__} for {task.name}, from torchvision",
        build=partial(build, request.name),
        config=open_config("TorchvisionOptions", options),
        inputs=task.inputs,
        outputs=task.outputs,
        dims=task.dims,
        constants=task.constants,
        presets={each.name: preset(each, options, task.dims) for each in weights},
        paper=_paper(builder),
        stochastic="training" if task.always_drops or drops_in_training(request.name) else "",
        notes=[*task.notes, *_notes(request.name, options)],
        unsupported=task.unsupported,
    )


def task_of(name: str, row: CatalogRow | None = None) -> Task:
    """Return what an architecture takes and returns."""
    builder = builder_of(name)
    options = options_of(name)
    sizes = _sizes(name, weights_of(builder)[0], row)
    fixed, frames = fixed_sizes_of(name)
    side: int | str | None = "image_size" if "image_size" in options else fixed
    kind = builder.__module__.split(".")[2]
    if kind == "detection":
        return tasks.detection(sizes)
    if kind == "segmentation":
        return tasks.segmentation(sizes, always_drops="aux_loss" in options)
    if kind == "optical_flow":
        return tasks.optical_flow(FLOW)
    if kind == "video":
        return tasks.video_classification(sizes, side, frames)
    return tasks.classification(sizes, side)


def _sizes(name: str, weights: Any, row: CatalogRow | None) -> Sizes:
    """Return the sizes that images may have: as the catalog knows them, or else as the weights tell them."""
    least, step = weights.meta["min_size"][0], 1
    if known := SIZES.fullmatch(row.sizes if row else ""):
        step, least = int(known[1]), int(known[2] or 1)
    fixed = FIXED_SIDE.search(name)
    resized = getattr(weights.transforms, "keywords", {}).get("resize_size")
    default = side_of(weights) or resized or (int(fixed[1]) if fixed else 800)
    fewest = weights.meta.get("min_temporal_size", 1)
    return Sizes(default, step, least, fewest=fewest)


def _notes(name: str, options: Mapping[str, OpenField]) -> Iterator[str]:
    """Yield where an architecture departs from what a reader of torchvision's pages may expect."""
    if name.startswith("quantized_"):
        yield (
            "It is the float network that is made to be quantized. In the int8 one, the weights are packed: "
            "nnkit can't count, export or train them, so quantize is no option."
        )
    if "aux_logits" in options:
        heads = (
            "with its auxiliary classifier"
            if options["aux_logits"].default
            else "without auxiliary classifiers"
        )
        yield f"By default it is built {heads}, as the published figures count it."
        yield "By default its weights are initialized as torch does it, which torchvision announces."


def _paper(builder: Builder) -> str:
    """Return the title and address of the paper, from the builder's documentation."""
    found = PAPER.search(inspect.getdoc(builder) or "")
    return f"{' '.join(found[1].split())}, {found[2]}" if found else ""
