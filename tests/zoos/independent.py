"""Builds by the zoos themselves, without nnkit: what its figures are compared with."""

from collections.abc import Callable, Mapping
from typing import Any


def parameters_of_own_build(zoo: str, name: str, options: Mapping[str, Any]) -> int:
    """Return the elements of the parameters of a model as its zoo builds it, each tensor once."""
    import torch

    build = BUILDS[zoo]
    try:
        with torch.device("meta"):
            module = build(name, **options)
    except (RuntimeError, NotImplementedError):  # its constructor computes with values
        module = build(name, **options)
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


def build_transformers(name: str, layers: int | None = None) -> Any:
    """Return the model of a type as transformers' own factories make it from the settings that nnkit chose."""
    import transformers
    from transformers import CONFIG_MAPPING, AutoModel
    from transformers.initialization import no_init_weights
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    from nnkit_transformers.gaps import GAPS
    from nnkit_transformers.layers import shrink

    config_class = CONFIG_MAPPING[name]
    settings = dict(GAPS.get(name, {}))
    if layers is not None:
        settings = shrink(config_class, settings, layers)
    config = configure(config_class, settings)
    with no_init_weights():
        try:
            model = AutoModel.from_config(config)
        except (
            TypeError,
            ValueError,
        ):  # there are two classes for it, or none that is found by its configuration
            classes = MODEL_MAPPING_NAMES[name]
            model = getattr(transformers, classes if isinstance(classes, str) else classes[0])(config)
    model.tie_weights()  # initialization would have done so
    return model


def configure(config_class: Any, settings: Mapping[str, Any]) -> Any:
    """Return a configuration; a part of it is of the class that it has by default."""
    parts = {}
    for key, value in settings.items():
        if isinstance(value, dict) and key in config_class.sub_configs_defaults:
            of_part = type(getattr(config_class(), key))
            parts[key] = configure(of_part, {**config_class.sub_configs_defaults[key].init_kwargs, **value})
        else:
            parts[key] = value
    return config_class(**parts)


BUILDS: dict[str, Callable[..., Any]] = {
    "torchvision": build_torchvision,
    "timm": build_timm,
    "transformers": build_transformers,
}
