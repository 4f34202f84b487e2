"""A GGUF file -> the configuration that transformers makes of its metadata."""

from pathlib import Path
from typing import Any

from nnkit import NnkitError, PluginProblem, UsageProblem, inspect_file

SUFFIX = ".gguf"
PREFERRED = ("causal-lm", "seq-to-seq-causal-lm", "masked-lm", "base")
"""What a model in such a file is for, unless it says otherwise."""

COMPUTED = "rope_"
"""How the names of tensors begin that transformers computes."""


def configuration_of(path: Path) -> dict[str, Any]:
    """Return the configuration by transformers' own map, as a config.json would have it.

    Raises UsageProblem where the map doesn't have the file's architecture, NnkitError where it makes another
    model of it, PluginProblem where a package that transformers reads the file with is missing.
    """
    from transformers import PreTrainedConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(
            str(path.parent), gguf_file=path.name, local_files_only=True
        )
    except ImportError as error:
        raise PluginProblem(
            f"transformers reads {path} with the package gguf, which isn't installed",
            f"pip install gguf; the file without its model: nnkit summary {path}",
        ) from error
    except Exception as error:  # of whatever type, where the metadata isn't as its map expects
        raise UsageProblem(
            f"transformers makes no model of {path}: {' '.join(str(error).split()) or type(error).__name__}",
            f"the file without its model: nnkit summary {path}",
        ) from error
    model_type = str(config.get("model_type"))
    config = {"architectures": _classes(model_type), **config}
    if config["architectures"]:
        _check(path, model_type, config)
    return config


def _classes(model_type: str) -> list[str]:
    """Return the class of the model that such a file holds, if transformers has one of the type."""
    from nnkit_transformers.tasks import tasks_of

    tasks = tasks_of(model_type)
    return [tasks[task] for task in PREFERRED if task in tasks][:1]


def _check(path: Path, model_type: str, config: dict[str, Any]) -> None:
    """Raise NnkitError where the model isn't the file's: the map leaves out some of the metadata."""
    import torch
    import transformers

    from nnkit_transformers.tasks import config_class_of

    with torch.device("meta"):
        model_class = getattr(transformers, config["architectures"][0])
        model = model_class(config_class_of(model_type).from_dict(dict(config)))
        model.tie_weights()
    has = sum(each.numel() for each in model.parameters())
    stored = [each for each in inspect_file(path).tensors if not each.name.startswith(COMPUTED)]
    expected = sum(each.elements for each in stored)
    if has != expected:
        raise NnkitError(
            f"transformers makes a model of {has:,} parameters of {path}, whose tensors have {expected:,} "
            "elements: its map doesn't take in all of the metadata",
            f"name the model and give its sizes: nnkit summary transformers/{model_type}",
        )
