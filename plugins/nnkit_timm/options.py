"""The options of a timm model: typed where timm's models share them, and `--set KEY=VALUE` for the rest."""

import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal

from nnkit import NnkitError, OpenField, UsageProblem, did_you_mean, open_config, settings_of
from nnkit_timm import construction
from nnkit_timm.construction import Construction, Parameter

SHARED: Mapping[str, tuple[type, str]] = {
    "num_classes": (int, "classes to tell apart; 0: features without a classifier"),
    "in_chans": (int, "channels of the image"),
    "img_size": (int, "height and width of the image: one number if they are equal"),
    "global_pool": (str, "how the last feature map is pooled"),
    "output_stride": (int, "pixels of the image for each of the last feature map"),
    "drop_rate": (float, "dropout before the classifier, in training"),
    "drop_path_rate": (float, "stochastic depth: the share of blocks left out in training"),
    "drop_block_rate": (float, "DropBlock, in training"),
    "attn_drop_rate": (float, "dropout of attention weights, in training"),
    "proj_drop_rate": (float, "dropout of projections, in training"),
    "pos_drop_rate": (float, "dropout after the position embedding, in training"),
    "patch_drop_rate": (float, "the share of patches left out in training"),
}
"""The keyword arguments that many of timm's models take, by type."""

BUILDER = {"features_only", "out_indices", "feature_cls", "pruned", "scriptable", "exportable", "no_jit"}
"""What timm's builder takes itself, for every model."""

REFUSED = {
    "pretrained": "weights are chosen by --weights: --weights cached, --weights FILE",
    "checkpoint_path": "weights are chosen by --weights: --weights FILE",
    "pretrained_cfg": "choose one by the name: timm/resnet50.a1_in1k",
    "pretrained_cfg_overlay": "choose the weights by --weights",
    "pretrained_model_args": "choose the weights by --weights",
    "cache_dir": "choose the weights by --weights",
    "device": "the device is chosen by --device",
    "dtype": "the data type is chosen by --dtype",
}
"""What nnkit chooses, and the option for it."""

FEATURES = OpenField(bool, False, "return the feature maps of the stages instead")
INDICES = OpenField(tuple[int, ...], (), "with --features-only: the stages to return")


def config_type(name: str, found: Construction, fixed: bool) -> type:
    """Return the type of a model's options. fixed: whether its images have one size, which is an option."""
    parameters = found.parameters
    typed: dict[str, OpenField] = {}
    for key, (kind, description) in SHARED.items():
        if key not in parameters or (key == "img_size" and not fixed):
            continue
        default = found.arguments.get(key, parameters[key].default)
        if key == "img_size":
            sides = (default,) if isinstance(default, int) else tuple(dict.fromkeys(default))
            typed[key] = OpenField(tuple[int, ...], sides, description)
        elif _is_passed_on(name, key, default):
            typed[key] = OpenField(_kind(parameters[key], kind, default), default, description)
    return open_config("TimmOptions", {**typed, "features_only": FEATURES, "out_indices": INDICES})


def _kind(parameter: Parameter, kind: type, default: Any) -> Any:
    if typing.get_origin(parameter.kind) is Literal:
        return parameter.kind
    return kind | None if default is None else kind


def _is_passed_on(name: str, key: str, value: Any) -> bool:
    """Whether the model's own function takes a keyword argument; some fix it themselves."""
    try:
        return value is None or construction.find(name, {key: value}).arguments.get(key) == value
    except TypeError:
        return False


def arguments_of(config: Any) -> dict[str, Any]:
    """Return the keyword arguments for `timm.create_model` that differ from the defaults."""
    arguments = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.name != "set" and getattr(config, field.name) != field.default
    }
    if "img_size" in arguments:
        sides = arguments["img_size"]
        if len(sides) not in (1, 2):
            raise UsageProblem("--img-size takes a size, or height,width", "for example: --img-size 224")
        arguments["img_size"] = sides[0] if len(sides) == 1 else sides
    typed = {field.name for field in fields(config)}
    for key, value in settings_of(config).items():
        if key in typed:
            raise UsageProblem(
                f"{key} is an option of its own, not one of --set", f"write --{key.replace('_', '-')} {value}"
            )
        if key in REFUSED:
            raise UsageProblem(f"--set can't choose {key}", REFUSED[key])
        arguments[key] = value
    return arguments


def check_names(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise UsageProblem for an argument that the model doesn't have, with the nearest one that it has."""
    known = {*construction.find(name).parameters, *BUILDER} - REFUSED.keys()
    for key in arguments:
        if key not in known:
            raise UsageProblem(
                f"timm's {name} has no option {key!r}",
                did_you_mean(key, known) or f"its options: {', '.join(sorted(known))}",
            )


def refusal(name: str, arguments: Mapping[str, Any], error: Exception) -> NnkitError:
    """Return the error for arguments that timm refuses, in its own words."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    given = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return UsageProblem(
        f"timm can't build {name} with {given}: {lines[0]}",
        f"see the options: nnkit info timm/{name}",
    )


def default_of(config: Any, name: str) -> Any:
    """Return the default of an option, or None if the model doesn't have it."""
    default = next((field.default for field in fields(config) if field.name == name), None)
    return None if default is MISSING else default
