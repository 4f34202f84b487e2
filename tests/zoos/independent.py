"""Builds by the zoos themselves, without nnkit: what its figures are compared with."""

from collections.abc import Callable
from typing import Any


def parameters_of_own_build(zoo: str, name: str) -> int:
    """Return the elements of the parameters of a model as its zoo builds it, each tensor once."""
    import torch

    build = BUILDS[zoo]
    try:
        with torch.device("meta"):
            module = build(name)
    except (RuntimeError, NotImplementedError):  # its constructor computes with values
        module = build(name)
    return sum(parameter.numel() for parameter in module.parameters())


def build_torchvision(name: str) -> Any:
    from torchvision.models import get_model, get_model_builder

    # As torchvision returns them with their weights: GoogLeNet without auxiliary heads, Inception with them.
    options: dict[str, Any] = {"weights_backbone": None} if is_on_backbone(get_model_builder(name)) else {}
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False}
    if name in ("googlenet", "quantized_googlenet"):
        options |= {"aux_logits": False}
    return get_model(name, weights=None, **options)


def is_on_backbone(builder: Callable[..., Any]) -> bool:
    from inspect import signature

    return "weights_backbone" in signature(builder).parameters


def build_timm(name: str) -> Any:
    import timm

    return timm.create_model(name, pretrained=False)


BUILDS: dict[str, Callable[[str], Any]] = {"torchvision": build_torchvision, "timm": build_timm}
