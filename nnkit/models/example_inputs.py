"""The example inputs that a class gives, as Lightning, transformers and torch's own benchmarks name them."""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from torch import Tensor, nn

from nnkit.models.structure import Flat, flatten

NAMES = ("example_input_array", "example_inputs", "dummy_inputs", "get_dummy_inputs", "dummy_input")


class Examples(NamedTuple):
    """Example inputs, and the name of the attribute, property or method that gives them."""

    name: str
    flat: Flat


def examples_of(module: nn.Module) -> Examples | None:
    """Return the example inputs that a module gives, or None."""
    for name in NAMES:
        with suppress(Exception):  # it may need what is not there, as of a property of a base class
            value = getattr(module, name, None)
            value = value() if callable(value) and not isinstance(value, nn.Module) else value
            if value is not None and (flat := flatten(_by_name(module, value))).tensors:
                return Examples(name, flat)
    return None


def _by_name(module: nn.Module, value: Any) -> dict[str, Any]:
    """Return example inputs by the names of forward's parameters: a tuple by position, a mapping by name."""
    parameters = inspect.signature(module.forward).parameters
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if isinstance(value, Mapping) and (is_open or parameters.keys() >= value.keys()):
        return dict(value)
    is_plain = isinstance(value, (list, tuple)) and not hasattr(value, "_fields")
    is_arguments = is_plain and (isinstance(value, tuple) or all(isinstance(x, Tensor) for x in value))
    return dict(zip(parameters, value if is_arguments else (value,), strict=False))
