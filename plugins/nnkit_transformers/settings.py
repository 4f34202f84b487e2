"""The options that a user gives -> a configuration of transformers, checked by transformers."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from transformers import PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from nnkit import UsageProblem, settings_of
from nnkit_transformers.gaps import GAPS
from nnkit_transformers.layers import shrink
from nnkit_transformers.tasks import config_class_of

OWN = ("task", "layers", "set")
"""The options that are nnkit's own; all others are those of the configuration."""

WITHOUT_FIELD = frozenset(
    "num_labels output_attentions name_or_path torch_dtype rope_scaling rope_theta partial_rotary_factor "
    "per_layer_config tie_last_hidden_states attn_implementation experts_implementation model_type "
    "tie_word_embeddings".split()
)
"""What every configuration takes beside its fields."""


def configuration(model_type: str, options: Any) -> PreTrainedConfig:
    """Return a configuration of its own for the options of a user.

    Raises UsageProblem for a setting that transformers doesn't have, or refuses.
    """
    return copy.deepcopy(_configuration(model_type, options))


@lru_cache(maxsize=64)
def _configuration(model_type: str, options: Any) -> PreTrainedConfig:
    for name in ("layers", "num_labels"):
        if (number := getattr(options, name, None)) is not None and number < 1:
            raise UsageProblem(f"--{name.replace('_', '-')} is at least 1, got {number}", "give a larger one")
    config_class = config_class_of(model_type)
    given = nested(_given(options), config_class, f"transformers/{model_type}")
    values = _merge(GAPS.get(model_type, {}), given)
    if getattr(options, "layers", None) is not None:
        values = shrink(config_class, values, options.layers)
    try:
        return construct(config_class, values)
    except UsageProblem:
        raise
    except Exception as error:
        raise UsageProblem(
            f"transformers refuses these options of {model_type}: {_reason(error)}",
            f"see what it takes: nnkit info transformers/{model_type}",
        ) from error


def _merge(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of a tree over them."""
    merged = dict(values)
    for key, value in over.items():
        before = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(before, Mapping)
        merged[key] = _merge(before, value) if both else value
    return merged


def _given(options: Any) -> dict[str, Any]:
    """Return the options that differ from their defaults: transformers knows its own."""
    typed = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if field.name not in OWN and getattr(options, field.name) != field.default
    }
    return {**typed, **settings_of(options)}


def _reason(error: Exception) -> str:
    """Return the message of an error in one line; a strict dataclass gives its reason in a second one."""
    return " ".join(str(error).split()[:60]) or type(error).__name__


def nested(settings: Mapping[str, Any], config_class: type, what: str) -> dict[str, Any]:
    """Return dotted settings as a tree: `text_config.hidden_size` -> {"text_config": {"hidden_size": …}}.

    Raises UsageProblem for a name that the configuration doesn't have, with the nearest one.
    """
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        branch, place = tree, config_class
        for part in path:
            _check(part, place, what, key)
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise UsageProblem(f"{what}: --set {key} is within {part}, which is set too", "leave one out")
            place = _class_within(place, part, branch)
        _check(last, place, what, key)
        before = branch.get(last)
        branch[last] = {**value, **before} if isinstance(value, dict) and isinstance(before, dict) else value
    return tree


def _check(name: str, config_class: type | None, what: str, key: str) -> None:
    if config_class is None:  # the keys of a plain dict are for transformers to check
        return
    known = known_names(config_class)
    if name not in known:
        near = " or ".join(get_close_matches(name, sorted(known)))
        raise UsageProblem(
            f"{what} has no setting {key!r}" + ("" if name == key else f": there is no {name!r}"),
            f"did you mean {near}?"
            if near
            else f"the fields of {config_class.__name__} are in the documentation of transformers",
        )


def known_names(config_class: Any) -> set[str]:
    """Return the names that a configuration takes."""
    return {*(field.name for field in fields(config_class)), *config_class.attribute_map, *WITHOUT_FIELD}


def _class_within(config_class: Any, name: str, values: Mapping[str, Any]) -> type | None:
    if config_class is None or name not in config_class.sub_configs_defaults:
        return None
    return class_of(config_class.sub_configs_defaults[name], values)


def class_of(spec: SubConfigSpec, values: Mapping[str, Any]) -> type[Any]:
    """Return the class of a nested configuration; some follow its `model_type`."""
    if not issubclass(spec.config_class, PreTrainedConfig):
        return spec.get_config_class(values.get("model_type", spec.model_type))
    return spec.config_class


def construct(config_class: Any, values: Mapping[str, Any]) -> PreTrainedConfig:
    """Return a configuration with these values; a nested one keeps the defaults that its parent gives it."""
    specs = config_class.sub_configs_defaults
    return config_class(
        **{
            key: _construct_within(specs[key], value) if key in specs and isinstance(value, dict) else value
            for key, value in values.items()
        }
    )


def _construct_within(spec: SubConfigSpec, values: Mapping[str, Any]) -> PreTrainedConfig:
    values = {**spec.init_kwargs, **values}
    config_class = class_of(spec, values)
    return construct(config_class, {key: value for key, value in values.items() if key != "model_type"})


def parts_of(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """Yield a configuration and those within it."""
    yield config
    for key in config.sub_configs:
        part = getattr(config, key, None)
        if isinstance(part, PreTrainedConfig):
            yield from parts_of(part)
