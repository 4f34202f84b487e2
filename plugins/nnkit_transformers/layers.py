"""`--layers 2`: the settings that make every stack of layers of a model that deep."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from transformers import PreTrainedConfig

COMMON = ("num_hidden_layers", "encoder_layers", "decoder_layers", "n_layer", "n_layers")
OTHERS = ("num_layers", "num_encoder_layers", "num_decoder_layers", "depth", "decoder_num_hidden_layers")
"""Names for a number of layers; the second ones where a configuration has none of the first."""


def shrink(config_class: Any, values: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Return the settings with `layers` for each stack, in nested configurations too.

    What was set explicitly stays.
    """
    shrunk = dict(values)
    for name in _names(config_class):
        shrunk.setdefault(name, layers)
    for key, spec in config_class.sub_configs_defaults.items():
        given = shrunk.get(key)
        if given is not None and not isinstance(given, dict):
            continue
        merged = {**spec.init_kwargs, **(given or {})}
        nested = spec.config_class
        if not issubclass(nested, PreTrainedConfig):
            nested = spec.get_config_class(merged.get("model_type", spec.model_type))
        within = shrink(nested, given or {}, layers)
        if within != (given or {}):
            shrunk[key] = within
    return shrunk


def has_layers(config_class: Any) -> bool:
    """Whether a configuration, or one within it, has a number of layers."""
    return bool(shrink(config_class, {}, 1))


def _names(config_class: Any) -> list[str]:
    for group in (COMMON, OTHERS):
        found = {_own_name(config_class, name) for name in group} - {""}
        if found:
            return sorted(found)
    return []


def _own_name(config_class: Any, name: str) -> str:
    """Return the field that a name means, if it is a number of layers; else an empty string."""
    name = config_class.attribute_map.get(name, name)
    defaults = {field.name: field.default for field in fields(config_class)}
    default = defaults.get(name, MISSING)
    return name if type(default) is int else ""
