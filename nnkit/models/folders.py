"""A folder with a config.json, as a zoo's own library writes it -> a ModelSpec as plain data. Torch-free.

Which zoo it is of, the zoos are asked in turn. No code in the folder runs.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnkit.contract.loading import load
from nnkit.contract.namespace import Namespace
from nnkit.contract.requests import ReadRequest
from nnkit.contract.spec import DTYPES, check_spec_data
from nnkit.contract.text import shorten
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, first_line
from nnkit.host.plugin_manager import PluginManager
from nnkit.host.zoo_index import package_folder
from nnkit.models.safetensors_header import Header

CONFIG = "config.json"
LARGEST_CONFIG = 2**24  # bytes; those with the names of 22,000 classes have a tenth of it
LISTED = 6
LOG = logging.getLogger("nnkit")
DESCRIBING = ("model_type", "architecture", "architectures", "_class_name", "library_name")


def read_folder(folder: Path, origin: str, manager: PluginManager) -> dict[str, Any]:
    """Return the spec of the model that a folder's config.json describes, without its weights.

    origin: what errors call the folder. Raises UsageProblem where no zoo knows it, PluginProblem where one
    that might is broken or not installed.
    """
    config = read_config(folder, origin)
    if code := config.get("auto_map"):
        values = code.values() if isinstance(code, Mapping) else [code]
        raise UsageProblem(
            f"{origin} needs code of its own ({CONFIG} has auto_map: {shorten([*map(str, values)], 2)}), "
            "and nnkit runs none from a folder or the hub",
            "read that code, and name the module itself: file.py:Class",
        )
    return ask_zoos(config, folder, origin, manager)


def ask_zoos(
    config: Mapping[str, Any], path: Path, origin: str, manager: PluginManager, what: str = ""
) -> dict[str, Any]:
    """Return the spec of what a folder or file describes, from the first zoo that knows it.

    what: what errors say of it, where that isn't in `config`.
    """
    absent: list[Namespace] = []
    problems: list[NnkitError] = []
    for namespace in manager.namespaces().values():
        if not namespace.read:
            continue
        if package_folder(namespace) is None:
            absent.append(namespace)
            continue
        try:
            data = _ask(namespace, ReadRequest(config=config, path=path), origin)
        except NnkitError as problem:  # the model may be of another zoo
            problems.append(problem)
            continue
        if data is not None:
            return data
    if problems:
        raise problems[0]
    raise _unknown(what or _describe(config), origin, absent)


def read_config(folder: Path, origin: str) -> dict[str, Any]:
    """Return the content of a folder's config.json. Raises UsageProblem where there is none to read."""
    path = folder / CONFIG
    if not path.is_file():
        names = sorted(each.name for each in folder.iterdir())
        raise no_config(origin, names)
    with path.open("rb") as file:
        text = file.read(LARGEST_CONFIG + 1)
    if len(text) > LARGEST_CONFIG:
        raise config_too_large(origin)
    try:
        config = json.loads(text.decode("utf-8"))
    except RecursionError as error:
        raise UsageProblem(f"{CONFIG} of {origin} is nested too deeply", "save the model again") from error
    except ValueError as error:
        message = f"{CONFIG} of {origin} is not JSON: {first_line(error)}"
        raise UsageProblem(message, "correct it, or save the model again") from error
    if not isinstance(config, dict):
        raise UsageProblem(f"{CONFIG} of {origin} is not a mapping", "save the model again")
    return config


def config_too_large(origin: str) -> NnkitError:
    """Return the error for a config.json that can't be one."""
    return UsageProblem(
        f"{CONFIG} of {origin} has more than {LARGEST_CONFIG:,} bytes, which no config has",
        "check that it is the file you mean",
    )


def no_config(origin: str, names: list[str]) -> NnkitError:
    """Return the error for a folder of these files, without a config.json."""
    here = shorten(names, LISTED) if names else "nothing"
    hint = "a folder of a model has a config.json, as save_pretrained writes it"
    weights = [name for name in names if name.endswith((".safetensors", ".gguf", ".onnx"))]
    if "model_index.json" in names:
        hint = "a pipeline has a folder for each of its models: name one of them"
    elif weights:
        hint = f"to look into a file: nnkit summary {weights[0]}"
    return UsageProblem(f"{origin} has no {CONFIG}; it has {here}", hint)


def dtype_of(headers: list[Header]) -> str | None:
    """Return the dtype of all floating-point tensors, if it is one that a model can be built in."""
    found = {entry.dtype for header in headers for entry in header.entries if "float" in entry.dtype}
    only = found.pop() if len(found) == 1 else None
    return only if only in DTYPES else None


def _ask(namespace: Namespace, request: ReadRequest, origin: str) -> dict[str, Any] | None:
    try:
        data = load(namespace.read)(request)
    except NnkitError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginProblem(
            f"{namespace.prefix} can't read {origin}: {type(error).__name__}: {first_line(error)}",
            f"see the full error with -v; upgrade or repair it: {namespace.install}",
        ) from error
    return None if data is None else check_spec_data(data, f"what {namespace.prefix} reads from {origin}")


def _describe(config: Mapping[str, Any]) -> str:
    described = [f"{key} {brief(config[key])}" for key in DESCRIBING if config.get(key)]
    return ", ".join(described) or f"neither model_type nor architecture in its {CONFIG}"


def _unknown(what: str, origin: str, absent: list[Namespace]) -> NnkitError:
    """Return the error for a model that no installed zoo knows. absent: the zoos that are not installed."""
    if absent:
        commands = " or ".join(dict.fromkeys(namespace.install for namespace in absent))
        zoos = shorten([namespace.prefix for namespace in absent], LISTED)
        return PluginProblem(
            f"no installed zoo knows the model of {origin} ({what}), and {zoos} can't be asked", commands
        )
    return UsageProblem(
        f"no installed zoo knows the model of {origin} ({what})",
        "upgrade the zoo that it is of, or choose another model: nnkit list",
    )
