"""Published weights of a model type: of those models in the hub's cache that have its settings."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnkit import ModelSpec, NnkitError
from nnkit_transformers.folders import WEIGHTS, settings_that_matter
from nnkit_transformers.settings import configuration
from nnkit_transformers.tasks import config_class_of, task_of_class

CONFIG = "config.json"
LISTED = 4


@dataclass(frozen=True)
class Published:
    """A model in the cache. weights: the file, or the index of its shards. config: its `config.json`."""

    name: str
    weights: Path
    config: dict[str, Any]


def cached(spec: ModelSpec) -> Path | None:
    """Return the weights of the one model in the hub's cache that has the settings and the task of the spec.

    None if the cache has no model of this type. Downloads nothing. Raises NnkitError where it has several
    that fit, or only some that don't, with what is different in each.
    """
    models = list(_models_of(spec.architecture.name))
    differences = {model.name: _difference(model, spec) for model in models}
    fitting = [model for model in models if not differences[model.name]]
    if len(fitting) == 1:
        return fitting[0].weights
    if fitting:
        names = [model.name for model in fitting]
        raise NnkitError(
            f"{len(names)} models in the cache have the settings of {spec.name}: {_some(names)}",
            f"name one: --weights hub:{names[0]}",
        )
    if models:
        shown = [f"hub:{name} ({difference})" for name, difference in differences.items()]
        raise NnkitError(
            f"no model in the cache of this machine has the settings of {spec.name}: {_some(shown)}",
            f"take one as it is: nnkit summary hub:{models[0].name}",
        )
    return None


def _models_of(model_type: str) -> Iterator[Published]:
    """Yield the models of a type that the cache holds with their weights; of each its newest commit."""
    from huggingface_hub import constants

    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        snapshot = _newest(folder)
        if snapshot is None:
            continue
        config = _read(snapshot / CONFIG)
        weights = next((path for name in WEIGHTS if (path := snapshot / name).is_file()), None)
        if config.get("model_type") == model_type and weights:
            yield Published(folder.name.removeprefix("models--").replace("--", "/"), weights, config)


def _newest(folder: Path) -> Path | None:
    """Return the files at the commit that is the main one, else at the one that was downloaded last."""
    main = folder / "refs" / "main"
    if main.is_file() and (snapshot := folder / "snapshots" / main.read_text().strip()).is_dir():
        return snapshot
    snapshots = folder.glob("snapshots/*")
    return max(snapshots, key=lambda snapshot: snapshot.stat().st_mtime, default=None)


def _read(path: Path) -> dict[str, Any]:
    """Return a `config.json`; nothing where it is missing or damaged."""
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _difference(model: Published, spec: ModelSpec) -> str:
    """Return what is different in a model, empty if nothing is: `--task masked-lm`, `hidden_size 128`."""
    model_type = spec.architecture.name
    names = model.config.get("architectures") or ()
    task = task_of_class(model_type, names[0]) if names else None
    if task and task != spec.config.task:
        return f"--task {task}"
    theirs = settings_that_matter(config_class_of(model_type).from_dict(dict(model.config)))
    ours = settings_that_matter(configuration(model_type, spec.config))
    for key, value in theirs.items():
        if ours.get(key) != value:
            return f"{key} {value}"
    return ""


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + rest
