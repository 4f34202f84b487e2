"""`--layers 2`: the settings that make no stack of layers of a model deeper than that."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from transformers import PreTrainedConfig

COMMON = ("num_hidden_layers", "encoder_layers", "decoder_layers", "n_layer", "n_layers")
OTHERS = ("num_layers", "num_encoder_layers", "num_decoder_layers", "decoder_num_hidden_layers", "depth")
"""Names for a number of layers; the second ones for a model that has none of the first."""


def has_layers(config_class: Any) -> bool:
    """Whether a configuration, or one within it, has a number of layers."""
    return shrink(config_class, {}, 0) != {}


def shrink(config_class: Any, values: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Return the settings with at most `layers` for each stack, in nested configurations too.

    What was set explicitly stays.
    """
    shrunk = _shrink(config_class, values, layers, COMMON)
    return shrunk if shrunk != values else _shrink(config_class, values, layers, OTHERS)


def _shrink(
    config_class: Any, values: Mapping[str, Any], layers: int, names: Sequence[str]
) -> dict[str, Any]:
    shrunk = dict(values)
    defaults = {field.name: field.default for field in fields(config_class)}
    for name in names:
        mapped = config_class.attribute_map.get(name, name)
        own = mapped if mapped in defaults else name
        if own not in names:  # stages of a convolutional network, or what the other names are for
            continue
        if type(defaults.get(own)) is int and defaults[own] > layers:
            shrunk.setdefault(own, layers)
    for key, spec in config_class.sub_configs_defaults.items():
        given = shrunk.get(key)
        if spec.optional if given is None else not isinstance(given, dict):
            continue  # a part that isn't there, or one that was given as a whole
        merged = {**spec.init_kwargs, **(given or {})}
        nested = spec.config_class
        if not issubclass(nested, PreTrainedConfig):
            nested = spec.get_config_class(merged.get("model_type", spec.model_type))
        within = _shrink(nested, given or {}, layers, names)
        if within != (given or {}):
            shrunk[key] = within
    return shrunk
