"""The weights that timm publishes: which there are for a name, and where a cache of this machine has them."""

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from timm.models import PretrainedCfg, get_arch_pretrained_cfgs, get_pretrained_cfg

from nnkit import ModelSpec, UsageProblem, did_you_mean

FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm looks for in a repository of the hub, in its order."""


def configuration(name: str) -> PretrainedCfg:
    """Return timm's configuration for the weights of `resnet50` (its default ones) or `resnet50.a1_in1k`.

    Raises UsageProblem for weights that timm doesn't know.
    """
    try:
        return get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError as error:
        model, _, tag = name.partition(".")
        names = [f"timm/{model}.{each}" for each in tags_of(model)]
        raise UsageProblem(
            f"timm publishes no weights {tag!r} for {model}",
            did_you_mean(f"timm/{name}", names) or f"it publishes: {', '.join(names) or 'none'}",
        ) from error


def tags_of(model: str) -> list[str]:
    """Return the names of the weights that timm knows for a model; the first are its default ones."""
    return [name.partition(".")[2] for name in get_arch_pretrained_cfgs(model) if "." in name]


def cached(spec: ModelSpec) -> str | None:
    """Return the file of the published weights in a cache of this machine, or None; downloads nothing."""
    weights = configuration(spec.architecture.name)
    if weights.hf_hub_id:
        return _in_hub_cache(weights.hf_hub_id, weights.hf_hub_filename)
    return _in_torch_cache(weights.url) if weights.url else None


def _in_hub_cache(repository: str, file: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = repository.partition("@")
    for name in (file,) if file else FILES:
        path = try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(path, str):
            return path
    return None


def _in_torch_cache(url: Any) -> str | None:
    import torch

    name = url[1] if isinstance(url, (list, tuple)) else Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    return str(path) if path.is_file() else None
