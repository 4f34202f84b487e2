"""The options of a model type: its tasks, and the typed fields of its configuration."""

import re
import typing
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Literal

import torch
from transformers import PreTrainedConfig

from nnkit import OpenField, open_config
from nnkit_transformers.layers import has_layers
from nnkit_transformers.tasks import BASE, config_class_of, tasks_of

OF_EVERY_CONFIGURATION = frozenset(field.name for field in fields(PreTrainedConfig)) | {"use_cache"}
"""What says nothing about a network, or would have it return more than its outputs."""

CLASSIFIERS = re.compile(r"classification|segmentation|detection|xvector")


@cache
def options_of(model_type: str) -> type:
    """Return the config type of a model type."""
    tasks = tuple(tasks_of(model_type))
    config_class = config_class_of(model_type)
    options = {
        "task": OpenField(
            Literal[tasks], BASE if BASE in tasks else tasks[0], "what the model is for; base: no head"
        )
    }
    if has_layers(config_class):
        depth = int | None
        options["layers"] = OpenField(depth, None, "the number of layers of every stack; none: as published")
    if any(CLASSIFIERS.search(task) for task in tasks):
        labels = int | None
        options["num_labels"] = OpenField(labels, None, "classes that a head tells apart; none: as published")
    return open_config(f"{config_class.__name__}Options", {**options, **_fields_of(config_class)})


def _fields_of(config_class: type) -> dict[str, OpenField]:
    """Return the fields of a configuration as options, described as transformers describes them."""
    hints = typing.get_type_hints(config_class, localns={"torch": torch})
    found = {}
    for each in fields(config_class):
        default = each.default
        if each.name in OF_EVERY_CONFIGURATION or default is MISSING:
            continue
        found[each.name] = OpenField(_plain(hints[each.name]), default, _describe(each.name))
    return found


def _plain(kind: Any) -> Any:
    """Return a type without the members of a union that a command line can't express."""
    members = [member for member in typing.get_args(kind) if member in (int, float, str, bool, type(None))]
    if not members or not typing.get_args(kind) or typing.get_origin(kind) is Literal:
        return kind
    union = members[0]
    for member in members[1:]:
        union = union | member
    return union


@cache
def _descriptions() -> dict[str, str]:
    """Return the descriptions that transformers has for fields that many configurations share."""
    try:
        from transformers.utils.auto_docstring import ConfigArgs
    except ImportError:
        return {}
    return {
        name: " ".join(value["description"].split())
        for name, value in vars(ConfigArgs).items()
        if isinstance(value, dict) and "description" in value
    }


def _describe(name: str) -> str:
    return re.split(r"(?<=[a-z`)])\. ", _descriptions().get(name, ""))[0].replace("`", "").rstrip(".")
