"""The options of an architecture: what its builder lets a user choose, with what the builder chooses itself.

Most builders are `resnet50(*, weights, progress, **kwargs)` and give `kwargs`, with choices of their own, to
a class. So the options are the parameters of that class, their defaults are what the builder gives it, and
those that the builder doesn't let a user choose are left out. All three are asked of the builder itself.
"""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import nn

from nnkit import OpenField
from nnkit_torchvision.descriptions import DESCRIPTIONS
from nnkit_torchvision.replacing import replaced

Builder: TypeAlias = Callable[..., nn.Module]

WEIGHTS = ("weights", "weights_backbone", "weights_encoder")
"""They name weights to download. nnkit loads weights from a file: `--weights`."""

NOT_OFFERED = (*WEIGHTS, "progress", "trainable_backbone_layers", "quantize")
"""Without weights for the backbone, all of its layers are trained. Int8 weights can't be counted."""

SIDES = {"image_size": 1, "input_size": 2, "spatial_size": 2}
"""Parameters that fix the height and width of the images, and how many numbers each takes."""

SHAPING = ("num_classes", "aux_loss", "image_size", "temporal_size", "num_keypoints")
"""Options that inputs and outputs depend on. A builder that has choices of its own is always given them."""

OWN_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "quantized_googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"init_weights": False},
    "quantized_inception_v3": {"init_weights": False},
}
"""The network that torchvision returns with its weights, where the builder makes another without them, and
the initialization that torchvision announces as its next default."""


def builder_of(name: str) -> Builder:
    """Return the function of torchvision that builds an architecture."""
    from torchvision.models import get_model_builder

    builder: Builder = get_model_builder(name)
    return builder


def without_weights(builder: Builder) -> dict[str, None]:
    """Return the arguments that keep a builder from downloading weights."""
    parameters = inspect.signature(builder).parameters
    return {name: None for name in WEIGHTS if name in parameters}


def options_of(name: str) -> dict[str, OpenField]:
    """Return the options of an architecture, by nnkit's name for them."""
    own = OWN_DEFAULTS.get(name, {})
    options = {}
    for parameter, (annotation, value) in _choices(name).items():
        option = "image_size" if parameter in SIDES else parameter
        default = own.get(option, value[0] if SIDES.get(parameter) == 2 else value)
        kind = annotation if default is None else _kind(annotation, default)
        if not (default is None and _is_unknown(kind)):
            options[option] = OpenField(kind, default, DESCRIPTIONS.get(option, ""))
    return options


def arguments_of(name: str, config: Any) -> dict[str, Any]:
    """Return what the builder is given for a config: what it would choose otherwise itself.

    To build the network of published weights, a builder makes choices of its own, and refuses others.
    """
    own = OWN_DEFAULTS.get(name, {})
    is_published = config.published != "none"
    arguments = {}
    for parameter, (_, value) in _choices(name).items():
        option = "image_size" if parameter in SIDES else parameter
        chosen = getattr(config, option, value)
        given = (chosen, chosen) if SIDES.get(parameter) == 2 else chosen
        if is_published and option in own:
            is_needed = chosen != own[option]
        else:
            is_needed = given != value or (is_published and option in SHAPING)
        if is_needed:
            arguments[parameter] = given
    return arguments


def drops_in_training(name: str) -> bool:
    """Whether a builder gives its class the rate of something to drop in training, and it isn't 0."""
    given = _given_to_class(builder_of(name), {})
    return any(bool(rate) for key, rate in given.items() if key.startswith(("drop", "stochastic_depth")))


def fixed_sizes_of(name: str) -> tuple[int | None, int | None]:
    """Return the side of images and the frames of videos that a builder fixes and no option changes."""
    given, choices = _given_to_class(builder_of(name), {}), _choices(name)
    sides = [given[key] for key in SIDES if key in given and key not in choices]
    side = sides[0][0] if sides else None
    return side, None if "temporal_size" in choices else given.get("temporal_size")


def known_to(builder: Builder) -> set[str]:
    """Return the names of all parameters that a builder passes to something."""
    module = inspect.getmodule(builder)
    helpers = [
        helper for name, helper in vars(module).items() if name.startswith("_") and inspect.isfunction(helper)
    ]
    classes = [each.__init__ for each in class_of(builder).__mro__]
    named = {name for each in (builder, *helpers, *classes) for name in inspect.signature(each).parameters}
    return named - {"self", "args", "kwargs", *WEIGHTS, "progress"} | {"backend"}


def class_of(builder: Builder) -> type[nn.Module]:
    """Return the class whose objects a builder returns."""
    built: type[nn.Module] = inspect.signature(builder).return_annotation
    return built


@functools.cache
def _choices(name: str) -> dict[str, tuple[Any, Any]]:
    """Return the annotation and the builder's own value of each parameter that it lets a user choose."""
    builder = builder_of(name)
    given = _given_to_class(builder, {})
    annotations = {key: each.annotation for key, each in _signature_of(class_of(builder)).parameters.items()}
    own = {
        key: (each.annotation, given.get(key, each.default))
        for key, each in inspect.signature(builder).parameters.items()
        if key not in NOT_OFFERED and each.kind is each.KEYWORD_ONLY
    }
    if own.get("num_classes", (None, 0))[1] is None:
        own["num_classes"] = (int, _number_of_categories(builder))
    if "aux_loss" in own:
        own["aux_loss"] = (bool, False)
    values = {key: value for key, value in given.items() if key not in own and _is_plain(value)}
    return {
        **own,
        **{key: (annotations[key], value) for key, value in _taken_from_user(builder, values).items()},
    }


def _number_of_categories(builder: Builder) -> int:
    """Return how many classes the published weights tell apart: the builder's own choice."""
    from torchvision.models import get_model_weights

    return len(next(iter(get_model_weights(builder))).meta["categories"])


def _signature_of(built: type[nn.Module]) -> inspect.Signature:
    """Return how a class is called, or its base, if it passes all on to that, as the quantizable ones do."""
    for each in built.__mro__:
        signature = inspect.signature(each.__init__)
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        if "__init__" in vars(each) and inspect.Parameter.VAR_POSITIONAL not in kinds:
            return signature
    raise TypeError(f"{built.__name__} takes no named arguments")


class _Given(Exception):
    """Carries the arguments that a builder gave its class."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.arguments = arguments


def _given_to_class(builder: Builder, choices: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments that a builder gives its class when a user makes these choices.

    The network isn't built. A backbone that the builder makes before has no weights.
    """
    signature = _signature_of(class_of(builder))

    def take(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        raise _Given(bound.arguments)

    fixed = without_weights(builder)
    with (
        warnings.catch_warnings(),
        replaced(class_of(builder), "__init__", take),
        torch.random.fork_rng(devices=[]),
        torch.device("meta") if "weights_backbone" in fixed else nullcontext(),
    ):
        warnings.simplefilter("ignore")
        try:
            builder(**fixed, **choices)
        except _Given as given:
            return given.arguments
    raise TypeError(f"{builder.__name__} doesn't build a {class_of(builder).__name__}")


def _taken_from_user(builder: Builder, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values that a user may choose; a builder refuses the others, or repeats them."""
    left = dict(values)
    while left:
        try:
            _given_to_class(builder, {name: _another(value) for name, value in left.items()})
        except (TypeError, ValueError) as error:
            refused = next((name for name in left if f"'{name}'" in str(error)), None)
            if refused is None:
                raise
            del left[refused]
        else:
            break
    return left


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(part, int) for part in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _another(value: Any) -> Any:
    """Return another value of the same kind, where there is one."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, (int, float)) else value


def _kind(annotation: Any, default: Any) -> Any:
    """Return the type of an option: `drop_rate: float = 0` is a number that needn't be whole."""
    return float if annotation is float else type(default)


def _is_unknown(annotation: Any) -> bool:
    return annotation in (inspect.Parameter.empty, Any)
