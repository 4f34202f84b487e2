"""A folder of transformers -> a ModelSpec: `config.json` says the type, the class and every setting."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from nnkit import NnkitError, ReadRequest, settings_text
from nnkit_transformers import gguf

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
DTYPES = ("float32", "float64", "float16", "bfloat16")
SAID_ELSEWHERE = frozenset(
    "architectures auto_map dtype torch_dtype model_type transformers_version id2label label2id use_cache "
    "problem_type return_dict output_hidden_states output_attentions name_or_path _name_or_path".split()
)
"""What says nothing about the network itself, or is given in other words."""


def read(request: ReadRequest) -> dict[str, Any] | None:
    """Return the spec of a folder, or None if its configuration is of no model type.

    Raises NnkitError where the folder wants code of its own to be run, and where transformers has no such
    model type or class.
    """
    config = request.config
    if request.path.suffix == gguf.SUFFIX:
        config = gguf.configuration_of(request.path)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return None
    if config.get("auto_map"):
        raise NnkitError(
            f"{request.path} needs code of its own (auto_map in its config.json), which nnkit doesn't run",
            "read that code; then name its class: nnkit summary FILE.py:CLASS",
        )
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from nnkit_transformers.tasks import tasks_of

    if model_type not in CONFIG_MAPPING or not tasks_of(model_type):
        raise NnkitError(
            f"{request.path} is of model type {model_type!r}, which the installed transformers doesn't have",
            "upgrade transformers; the types it has: nnkit list transformers/",
        )
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    return {
        "architecture": f"transformers/{model_type}",
        "config": {"task": _task(model_type, config, request.path), **_settings(model_type, config)},
        "sizes": _sizes(model_type, config),
        "weights": next((str(path) for name in WEIGHTS if (path := request.path / name).is_file()), None),
        **({"dtype": dtype} if dtype in DTYPES else {}),
    }


def _task(model_type: str, config: Mapping[str, Any], path: Path) -> str:
    """Return the task that the class of the model serves."""
    from nnkit_transformers.tasks import task_of_class, tasks_of

    names = config.get("architectures") or ()
    if not names:
        return next(iter(tasks_of(model_type)))
    task = task_of_class(model_type, names[0])
    if task is None:
        raise NnkitError(
            f"{path} holds a {names[0]}, which is the model of no task of transformers/{model_type}",
            f"its tasks: nnkit info transformers/{model_type}",
        )
    return task


def _sizes(model_type: str, given: Mapping[str, Any]) -> dict[str, int]:
    """Return the length of a text where a nested configuration allows less than is usual.

    An option that limits it is followed by the dim itself.
    """
    from nnkit_transformers.dims import POSITIONS, dims_of
    from nnkit_transformers.sizes import TEXT, Sizes
    from nnkit_transformers.tasks import config_class_of

    limit = Sizes(config_class_of(model_type).from_dict(dict(given))).number(*POSITIONS, within=TEXT)
    dims = {name: dim for name, dim in dims_of(model_type).items() if name in ("time", "decoder_time")}
    return {
        name: limit
        for name, dim in dims.items()
        if limit and isinstance(dim.max, int) and isinstance(dim.default, int) and limit < dim.default
    }


def _settings(model_type: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `config.json` that aren't the defaults: typed options, and `set` for the others.

    Where these don't give the same configuration again, all values are returned.
    """
    from nnkit_transformers.options import options_of
    from nnkit_transformers.settings import configuration
    from nnkit_transformers.tasks import config_class_of

    config = config_class_of(model_type).from_dict(dict(given))
    options_type = options_of(model_type)
    options: dict[str, Any] = {}
    for values in (_without_defaults(config), config.to_dict()):
        options = _options(options_type, config, values)
        try:
            again = configuration(model_type, msgspec.convert(options, options_type))
        except (NnkitError, msgspec.ValidationError):
            continue
        if _essence(again.to_dict()) == _essence(config.to_dict()):
            break
    return options


def _without_defaults(config: Any) -> dict[str, Any]:
    values = config.to_dict()
    try:
        defaults = type(config)().to_dict()
    except Exception:  # some have none that work
        return values
    return {key: value for key, value in values.items() if key not in defaults or defaults[key] != value}


def _options(options_type: type, config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    from nnkit_transformers.settings import known_names

    typed = {each.name: each.default for each in fields(options_type)}
    known = known_names(type(config))
    plain = {
        key: _plain(value)
        for key, value in values.items()
        if key in known and key not in SAID_ELSEWHERE and not key.startswith("_")
    }
    labels = config.num_labels
    if "id2label" in values and labels is not None:
        plain["num_labels"] = labels
    options = {key: value for key, value in plain.items() if key in typed and _fits(value)}
    rest = {key: value for key, value in plain.items() if key not in options}
    return {**options, "set": list(settings_text(rest))}


def _fits(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _plain(value: Any) -> Any:
    """Return a setting as JSON has it, nested configurations without what is no setting of theirs."""
    if isinstance(value, Mapping):
        return {
            str(key): _plain(item)
            for key, item in value.items()
            if key == "model_type" or (key not in SAID_ELSEWHERE and not str(key).startswith("_"))
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def settings_that_matter(config: Any) -> dict[str, Any]:
    """Return the settings of a configuration that make its network, as JSON has them."""
    from nnkit_transformers.settings import known_names

    known = known_names(type(config))
    values: dict[str, Any] = _essence(config.to_dict())
    return {key: value for key, value in values.items() if key in known and not key.startswith("_")}


def _essence(values: Mapping[str, Any]) -> Any:
    return _plain({key: value for key, value in values.items() if key not in SAID_ELSEWHERE})
