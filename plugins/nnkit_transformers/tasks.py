"""The tasks of a model type, and the class of transformers for each."""

import importlib
import re
from functools import cache
from typing import Any, cast

from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, model_type_to_module_name

BASE = "base"
"""The task of the model without a head."""

MAPPING = re.compile(r"MODEL_(FOR_(?P<task>\w+?)_)?(MAPPING_)?NAMES")


@cache
def tasks_of(model_type: str) -> dict[str, str]:
    """Return the name of the class for each task of a model type, the model without a head first.

    bert   ->   {"base": "BertModel", "pretraining": "BertForPreTraining", "masked-lm": "BertForMaskedLM", …}
    """
    tasks: dict[str, str] = {}
    for variable, mapping in vars(modeling_auto).items():
        match = MAPPING.fullmatch(variable)
        if match and model_type in mapping:
            names = mapping[model_type]
            task = (match["task"] or BASE).lower().replace("_", "-")
            tasks[task] = names if isinstance(names, str) else names[0]
    return tasks


def task_of_class(model_type: str, name: str) -> str | None:
    """Return the task that a class serves, as `config.json` names it; None if it serves none."""
    serving = [task for task, other in tasks_of(model_type).items() if other == name]
    # Pretraining is listed before what the model is used for.
    return next((task for task in serving if task != "pretraining"), next(iter(serving), None))


def config_class_of(model_type: str) -> type[Any]:
    """Return the class of the configuration of a model type."""
    return CONFIG_MAPPING[model_type]


@cache
def model_class_of(model_type: str, task: str) -> type[Any]:
    """Return the class of the model for a task."""
    name = tasks_of(model_type)[task]
    module = model_type_to_module_name(model_type)
    package = importlib.import_module(f"transformers.models.{module}")
    found = getattr(package, name, None) or getattr(importlib.import_module("transformers"), name, None)
    if found is None:  # a class that the package forgets to list
        found = getattr(importlib.import_module(f"{package.__name__}.modeling_{module}"), name)
    return cast("type[Any]", found)
