"""The options of a model type -> its model, whose forward takes and returns named tensors."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from nnkit_transformers.loading import translate
from nnkit_transformers.settings import configuration, parts_of
from nnkit_transformers.tasks import model_class_of
from nnkit_transformers.weightless import without_values

CACHES = ("past", "cache", "memory")
"""Parts of the names of outputs that only a next call needs."""


@dataclass(frozen=True)
class Builder:
    """Builds the model of a type.

    inputs: called with the options; returns the parameters of forward to take, by name, and whether each
    may be left out.
    """

    model_type: str
    inputs: Any

    def __call__(self, options: Any) -> nn.Module:
        """Return the model for these options, in eval mode."""
        model = build(self.model_type, options)
        return name_inputs(model, self.inputs(options))


def build(model_type: str, options: Any) -> PreTrainedModel:
    """Return the model as transformers builds it, without a cache of keys and values."""
    config = configuration(model_type, options)
    for part in parts_of(config):
        if getattr(part, "use_cache", False):
            part.use_cache = False
    model: PreTrainedModel = model_class_of(model_type, options.task)(config)
    return model.eval()


def name_inputs(model: PreTrainedModel, inputs: Mapping[str, bool]) -> PreTrainedModel:
    """Have forward take these inputs, and return its tensors by name.

    Only its class changes, to a subclass of the same name: a module around it would put its own name before
    every path and every key of the weights.
    """
    model.__class__ = _named(type(model), tuple(inputs.items()))
    return model


@cache
def _named(base: Any, inputs: tuple[tuple[str, bool], ...]) -> type:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    empty = inspect.Parameter.empty
    names = [
        inspect.Parameter(name, kind, default=None if optional else empty)
        for name, optional in sorted(inputs, key=lambda each: each[1])
    ]
    signature = inspect.Signature([inspect.Parameter("self", kind), *names])
    taken = inspect.signature(base.forward).parameters
    constants = {
        name: value for name, value in {"use_cache": False, "return_dict": True}.items() if name in taken
    }

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(self, *args, **kwargs).arguments
        del given["self"]
        named = {name: value for name, value in given.items() if value is not None}
        with without_values(self, named):
            return tensors_of(base.forward(self, **named, **constants))

    def load_state_dict(self: Any, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return base.load_state_dict(self, translate(self, state_dict), strict, assign)

    forward.__signature__ = signature  # type: ignore[attr-defined]
    attributes = {
        "forward": forward,
        "load_state_dict": load_state_dict,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    return type(base)(base.__name__, (base,), attributes)


def tensors_of(output: Any) -> Any:
    """Return what forward returned without what is no tensor and what only a next call needs."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        kept = {name: tensors_of(value) for name, value in output.items() if not _is_cache(name)}
        return {name: value for name, value in kept.items() if not _is_nothing(value)}
    if isinstance(output, (tuple, list)):
        return tuple(value for value in map(tensors_of, output) if not _is_nothing(value))
    return None


def _is_cache(name: Any) -> bool:
    return any(word in str(name) for word in CACHES)


def _is_nothing(value: Any) -> bool:
    return value is None or (not isinstance(value, Tensor) and not value)
