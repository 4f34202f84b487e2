"""A GGUF file -> the configuration that transformers makes of its metadata."""

from pathlib import Path
from typing import Any

from nnkit import PluginProblem, UsageProblem

SUFFIX = ".gguf"
PREFERRED = ("causal-lm", "seq-to-seq-causal-lm", "masked-lm", "base")
"""What a model in such a file is for, unless it says otherwise."""


def configuration_of(path: Path) -> dict[str, Any]:
    """Return the configuration by transformers' own map, as a config.json would have it.

    Raises UsageProblem where the map doesn't have the file's architecture, PluginProblem where a package that
    transformers reads the file with is missing.
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
    return {"architectures": _classes(str(config.get("model_type"))), **config}


def _classes(model_type: str) -> list[str]:
    """Return the class of the model that such a file holds."""
    from nnkit_transformers.tasks import tasks_of

    tasks = tasks_of(model_type)
    return [tasks[task] for task in PREFERRED if task in tasks][:1]
