"""The weights that torchvision publishes: what network they are of, and where a cache has them."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

from nnkit import ModelSpec, Preset
from nnkit_torchvision.options import Builder, builder_of
from nnkit_torchvision.replacing import replaced


def weights_of(builder: Builder) -> list[Any]:
    """Return the published weights of a builder that are of a whole float network, the default ones first."""
    from torchvision.models import get_model_weights

    enum = get_model_weights(builder)
    default = getattr(enum, "DEFAULT", None)
    weights = sorted(enum, key=lambda each: each is not default)
    # The builders of quantizable networks load int8 weights only into int8 networks.
    floating = [each.meta.get("unquantized", each) for each in weights]
    return list(dict.fromkeys(each for each in floating if each.meta.get("categories", ()) is not None))


def weights_named(builder: Builder, name: str) -> Any:
    """Return the published weights of a name; None for the name `none`."""
    return next((weights for weights in weights_of(builder) if weights.name == name), None)


def side_of(weights: Any) -> int | None:
    """Return the side of the square that images are cut to for published weights, if they are."""
    size = getattr(weights.transforms, "keywords", {}).get("crop_size")
    return size[0] if isinstance(size, (tuple, list)) else size


def preset(weights: Any, options: Collection[str], dims: Collection[str]) -> Preset:
    """Return the network that weights are of, and the images that they are evaluated on, as a preset."""
    side = side_of(weights)
    config: dict[str, Any] = {"published": weights.name}
    if side and "image_size" in options:
        config["image_size"] = side
    if "aux_loss" in options:
        config["aux_loss"] = True
    if "num_classes" in options:
        config["num_classes"] = len(weights.meta["categories"])
    sizes = {"height": side, "width": side} if side and "height" in dims else {}
    scores = ", ".join(
        f"{metric} {value:g}" for data in weights.meta["_metrics"].values() for metric, value in data.items()
    )
    return Preset(config=config, sizes=sizes, description=f"the network of these weights ({scores})")


@contextmanager
def not_downloaded() -> Iterator[None]:
    """Let builders make the network of published weights without these: nothing is downloaded or loaded."""
    from torch import nn
    from torchvision.models import WeightsEnum

    with (
        replaced(WeightsEnum, "get_state_dict", lambda *args, **kwargs: {}),
        replaced(nn.Module, "load_state_dict", lambda *args, **kwargs: None),
    ):
        yield


def cached(spec: ModelSpec) -> Path | None:
    """Return the file of published weights in torch's cache: those of the config, or the default ones."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for weights in weights_of(builder_of(spec.architecture.name)):
        file = folder / PurePosixPath(urlparse(weights.url).path).name
        if spec.config.published in (weights.name, "none") and file.is_file():
            return file
    return None
