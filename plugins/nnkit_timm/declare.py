"""Declares one architecture of timm."""

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
from timm.models import model_entrypoint

from nnkit import Architecture, DeclareRequest, Dim, TensorSpec
from nnkit_timm import construction
from nnkit_timm.options import arguments_of, check_names, config_type, refusal
from nnkit_timm.outputs import Outputs
from nnkit_timm.published import configuration, tags_of
from nnkit_timm.sizes import Sizes, is_fixed


def declare(request: DeclareRequest) -> Architecture:
    """Return the declaration of `resnet50`, or of `resnet50.a1_in1k` with the options of those weights."""
    name = request.name
    weights = configuration(name)
    found = construction.find(name)
    image = Image.of(name, found, weights, request.row.sizes if request.row else "")
    config = config_type(name, found, image.sizes.fixed)
    outputs = Outputs(name, image, request.row.detail if request.row else "")
    return Architecture(
        name=name,
        summary=_summary(name, found.model),
        build=partial(build, name),
        config=config,
        inputs=image.inputs,
        outputs=outputs.declare,
        dims={"batch": Dim(default=1, description="images at once"), **image.sizes.dims(image.size)},
        family=family(name),
        paper=_paper(weights),
        notes=tuple(_notes(name)),
    )


@dataclass(frozen=True)
class Image:
    """The input of a model: its name in forward, its default size, and the sizes that it may have."""

    name: str
    channels: int
    size: tuple[int, int]
    sizes: Sizes

    @classmethod
    def of(cls, name: str, found: construction.Construction, weights: Any, sizes: str) -> "Image":
        """Return the input of a model. sizes: what a catalog says, if it knows the model."""
        channels, height, width = weights.input_size
        channels = found.arguments.get("in_chans", channels)
        fixed = is_fixed(found, weights.fixed_input_size)
        known = Sizes.parse(sizes) or Sizes.guess(found, (height, width), fixed)
        return cls(found.input_name, channels, (height, width), known)

    def inputs(self, config: Any) -> list[TensorSpec]:
        """Return the input under these options."""
        height, width = self.axes(config)
        name = "x" if config.features_only else self.name  # timm's wrapper for features has its own forward
        channels = getattr(config, "in_chans", self.channels)
        return [TensorSpec(name, ("batch", channels, height, width), description="image")]

    def axes(self, config: Any) -> tuple[int | str, int | str]:
        """Return the height and the width: numbers where they are fixed, else dims."""
        if not self.sizes.fixed:
            return "height", "height" if self.sizes.square else "width"
        sides = getattr(config, "img_size", self.size)
        return (sides[0], sides[-1]) if sides else self.size


def build(name: str, config: Any) -> Any:
    """Return the model; raises UsageProblem for options that timm refuses."""
    arguments = arguments_of(config)
    check_names(name, arguments)
    try:
        return timm.create_model(name, **arguments)
    except Exception as error:
        if not arguments:
            raise
        raise refusal(name, arguments, error) from error


def family(name: str) -> str:
    """Return the family of a model: the file of timm that it is defined in."""
    return model_entrypoint(name.partition(".")[0]).__module__.rpartition(".")[2]


def _summary(name: str, model: type) -> str:
    text = inspect.getdoc(model_entrypoint(name.partition(".")[0])) or ""
    line = text.strip().splitlines()[0].strip() if text.strip() else ""
    return line or f"timm's {model.__name__}"


def _paper(weights: Any) -> str:
    ids = weights.paper_ids or ""
    return ", ".join(
        filter(None, (weights.paper_name, *((ids,) if isinstance(ids, str) else ids), weights.origin_url))
    )


def _notes(name: str) -> list[str]:
    model = name.partition(".")[0]
    tags = ", ".join(f"{model}.{tag}" for tag in tags_of(model))
    return [f"Published weights: {tags}."] if tags else []
