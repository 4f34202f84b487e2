"""The dims of the inputs, and what sizes they may have."""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nnkit import Dim
from nnkit_transformers.inputs import KNOWN
from nnkit_transformers.options import options_of
from nnkit_transformers.settings import configuration
from nnkit_transformers.sizes import TEXT, Sizes
from nnkit_transformers.tasks import model_class_of, tasks_of

DIMS: Mapping[str, Dim] = {
    "batch": Dim(default=1, description="samples at once"),
    "time": Dim(default=32, description="tokens of a text"),
    "decoder_time": Dim(default=16, description="tokens that the decoder is given"),
    "choices": Dim(default=2, description="texts to choose from"),
    "image_height": Dim(default=224, min=32, multiple_of=32, description="rows of a picture"),
    "image_width": Dim(default=224, min=32, multiple_of=32, description="columns of a picture"),
    "samples": Dim(default=16000, min=1600, description="samples of a waveform"),
    "frames": Dim(default=256, min=16, description="frames of a spectrogram"),
}

FEWEST_ROWS = {
    "pp_ocrv5_mobile_rec": 64, "pp_ocrv5_server_rec": 64, "pp_ocrv6_small_rec": 64, "pp_ocrv6_tiny_rec": 64,
}  # fmt: skip
"""Of a picture, where its features at a sixteenth of its rows are averaged three by three."""

POSITIONS = ("max_position_embeddings", "n_positions", "max_target_positions", "max_source_positions")
AFTER_PADDING = "create_position_ids_from_input_ids"
"""What counts positions from the one behind the number of padding: RoBERTa's first token is at 2 of 514."""


def dims_of(model_type: str) -> dict[str, Dim]:
    """Return the dims that the inputs of a model type may have, for any of its tasks."""
    options = options_of(model_type)
    config = configuration(model_type, options())
    model_classes = [model_class_of(model_type, task) for task in tasks_of(model_type)]
    names = {name for each in model_classes for name in inspect.signature(each.forward).parameters}
    specs = [variant(Sizes(config)) for name in KNOWN if name in names for variant in KNOWN[name]]
    axes = {axis for spec in specs if spec for axis in spec.shape}
    dims = {name: dim for name, dim in DIMS.items() if name in axes}
    if model_type in FEWEST_ROWS and "image_height" in dims:
        dims["image_height"] = replace(dims["image_height"], min=FEWEST_ROWS[model_type])
    if (fewest := Sizes(config).number("latent_query_num")) and "time" in dims:
        dims["time"] = replace(dims["time"], min=fewest, default=2 * fewest)
    step = Sizes(config).number("samples_per_token")
    if step and "samples" in dims:
        dims["samples"] = replace(dims["samples"], min=step, multiple_of=step, default=8 * step)
    for name in ("time", "decoder_time"):
        limit = _limit(config, options, model_classes[0])
        if name in dims and limit is not None:
            default = dims[name].default
            default = min(default, limit) if isinstance(limit, int) else default
            dims[name] = replace(dims[name], max=limit, default=default)
    return dims


def _limit(config: Any, options: type, model_class: type) -> int | str | None:
    """Return the most positions of a text: arithmetic of options where these have it, else a number."""
    typed = {each.name for each in options.__dataclass_fields__.values() if type(each.default) is int}
    for name in (config.attribute_map.get(name, name) for name in POSITIONS):
        if name in typed and getattr(config, name) > 1:
            if _counts_after_padding(model_class) and "pad_token_id" in typed:
                return f"{name} - pad_token_id - 1"
            return name
    limit = Sizes(config).number(*POSITIONS, within=TEXT)
    return limit if limit and limit > 1 else None


def _counts_after_padding(model_class: type) -> bool:
    module = vars(sys.modules[model_class.__module__])
    classes = (value for value in module.values() if isinstance(value, type))
    return AFTER_PADDING in module or any(hasattr(each, AFTER_PADDING) for each in classes)
