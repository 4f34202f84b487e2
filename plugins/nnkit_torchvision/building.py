"""Builds an architecture of torchvision from nnkit's options. No weights are downloaded."""

import warnings
from contextlib import nullcontext
from difflib import get_close_matches
from typing import Any

from torch import nn

from nnkit import UsageProblem, settings_of
from nnkit_torchvision.detection import is_detector, with_batches
from nnkit_torchvision.options import WEIGHTS, Builder, arguments_of, builder_of, known_to, without_weights
from nnkit_torchvision.published import not_downloaded, weights_named

REFUSED = (TypeError, ValueError, AttributeError, AssertionError, RuntimeError)
"""What torchvision raises for options that it can't have."""


def build(name: str, config: Any) -> nn.Module:
    """Return the module. Raises UsageProblem for options that torchvision refuses."""
    builder = builder_of(name)
    settings = settings_of(config)
    _check_known(name, builder, settings)
    weights = weights_named(builder, config.published)
    arguments = {**without_weights(builder), **arguments_of(name, config), **settings}
    if weights is not None:
        arguments |= {"weights": weights}
    try:
        with warnings.catch_warnings(), nullcontext() if weights is None else not_downloaded():
            warnings.simplefilter("ignore")
            module = builder(**arguments)
    except REFUSED as error:
        if not settings and config == type(config)():
            raise
        raise UsageProblem(
            f"torchvision/{name} can't be built with these options: {error}",
            f"see its options: nnkit info torchvision/{name}",
        ) from error
    return with_batches(module) if is_detector(module) else module


def _check_known(name: str, builder: Builder, settings: dict[str, Any]) -> None:
    """Raise UsageProblem for settings that the builder doesn't know: some builders ignore these."""
    for key in settings:
        if key in WEIGHTS:
            raise UsageProblem(
                f"--set {key} would download weights",
                "load them from a file: --weights FILE, or --weights cached",
            )
        if key == "quantize":
            raise UsageProblem(
                "--set quantize makes a network of int8, whose weights nnkit can't count or export",
                f"leave it out; torchvision/{name} is the network before it is quantized",
            )
        known = known_to(builder)
        if key not in known:
            near = " or ".join(get_close_matches(key, sorted(known)))
            raise UsageProblem(
                f"torchvision/{name} has no option {key!r}",
                f"did you mean {near}?" if near else f"see its options: nnkit info torchvision/{name}",
            )
