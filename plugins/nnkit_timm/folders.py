"""Folders and repositories that timm has written: a `config.json` with an architecture and its arguments."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nnkit import DeclareRequest, ReadRequest, UsageProblem, did_you_mean, settings_text

OF_TIMM = {"pretrained_cfg", "num_features", "num_classes"}
"""Each config.json of timm has one of them, beside `architecture`."""


def read(request: ReadRequest) -> dict[str, Any] | None:
    """Return the ModelSpec of timm's model that a folder holds, or None for a folder of another library."""
    config = request.config
    name, weights = config.get("architecture"), config.get("pretrained_cfg", config)
    is_of_timm = isinstance(name, str) and isinstance(weights, Mapping) and bool(OF_TIMM & config.keys())
    if not is_of_timm or "model_type" in config:
        return None

    from timm.models import is_model, list_models

    name = str(name).partition(".")[0]
    if not is_model(name):
        raise UsageProblem(
            f"the installed timm has no architecture {name!r}",
            did_you_mean(name, list_models()) or "upgrade it: pip install --upgrade timm",
        )
    return _spec(name, _arguments(config, weights), weights.get("input_size"))


def _arguments(config: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that timm builds the model with, as far as the folder says."""
    image = weights.get("input_size")
    classes = config.get("num_classes", weights.get("num_classes", -1))
    found = {
        "num_classes": classes if classes >= 0 else None,
        "global_pool": weights.get("global_pool"),
        "in_chans": image[0] if image else None,
        "img_size": image[1:] if image and weights.get("fixed_input_size") else None,
        **(config.get("model_args") or {}),
    }
    return {key: value for key, value in found.items() if value is not None}


def _spec(name: str, arguments: dict[str, Any], image: Any) -> dict[str, Any]:
    """Return the ModelSpec of a model with these arguments, for images of this size."""
    from nnkit_timm import construction
    from nnkit_timm.declare import declare

    architecture = declare(DeclareRequest(name=name))
    known = construction.find(name)
    options = {field.name for field in fields(architecture.config)}
    config: dict[str, Any] = {}
    for key, value in arguments.items():
        if key == "img_size" and key in options:
            config[key] = [value] if isinstance(value, int) else list(dict.fromkeys(value))
        elif key in options:
            config[key] = value
        elif not _is_same(known.arguments.get(key), value):
            config.setdefault("set", {})[key] = value
    config["set"] = list(settings_text(config.get("set", {})))
    sizes = dict(zip(("height", "width"), image[1:], strict=True)) if image else {}
    return {
        "architecture": f"timm/{name}",
        "config": config,
        "sizes": {dim: size for dim, size in sizes.items() if dim in architecture.dims},
    }


def _is_same(argument: Any, value: Any) -> bool:
    """Whether an argument is what a folder says; JSON has no tuples."""
    return (list(argument) if isinstance(argument, tuple) else argument) == value
