"""How timm would construct a model: its class and every argument, found without constructing it.

timm's registered functions take `**kwargs`, so their signatures say nothing. Each calls
`timm.models._builder.build_model_with_cfg` with the class and its own arguments, which adds those that follow
from the configuration of the weights. Here that function gets a class that only records its arguments.
"""

import dataclasses
import inspect
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import timm
from timm.models import _builder


class Parameter(NamedTuple):
    """A parameter of a model class: its type if it has an annotation, and its default if it has one."""

    kind: Any
    default: Any


class Construction(NamedTuple):
    """The class that timm would call, and the arguments that it would pass."""

    model: type
    arguments: Mapping[str, Any]

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Everything that the class takes; what it passes on to its base class too."""
        found: dict[str, Parameter] = {}
        for owner in self.model.__mro__:
            if "__init__" not in vars(owner):
                continue
            parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
            kinds = _annotations(owner.__init__)
            for each in parameters:
                if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                    found.setdefault(each.name, Parameter(kinds.get(each.name, Any), each.default))
            if not any(each.kind is each.VAR_KEYWORD for each in parameters):
                break
            # Some classes take a dataclass instead, and keywords replace its fields.
            config = self.arguments.get("cfg")
            if dataclasses.is_dataclass(config):
                kinds = _annotations(type(config))
                for each in dataclasses.fields(config):
                    found.setdefault(
                        each.name, Parameter(kinds.get(each.name, Any), getattr(config, each.name))
                    )
        return found

    @property
    def input_name(self) -> str:
        """The name of the image in the class's forward."""
        return next(name for name in inspect.signature(self.model.forward).parameters if name != "self")


def find(name: str, arguments: Mapping[str, Any] | None = None) -> Construction:
    """Return how `timm.create_model(name, **arguments)` would construct the model."""
    with _recording():
        try:
            model = timm.create_model(name, **(arguments or {}))
        except _Found as found:
            return found.construction
    return Construction(type(model), {})  # a model that isn't built by timm's own builder


class _Found(Exception):
    def __init__(self, construction: Construction) -> None:
        super().__init__()
        self.construction = construction


@contextmanager
def _recording() -> Iterator[None]:
    """In this thread, let timm's builder raise _Found instead of constructing a model."""
    builder, thread = _builder.build_model_with_cfg, threading.get_ident()

    def build(model_cls: type, *args: Any, **kwargs: Any) -> Any:
        is_ours = threading.get_ident() == thread
        return builder(_recorder(model_cls) if is_ours else model_cls, *args, **kwargs)

    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("timm.models.") and vars(module).get("build_model_with_cfg") is builder
    ]
    for module in modules:
        module.build_model_with_cfg = build  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.build_model_with_cfg = builder  # type: ignore[attr-defined]


def _recorder(model: type) -> Callable[..., Any]:
    def record(**arguments: Any) -> Any:
        raise _Found(Construction(model, arguments))

    return record


def _annotations(owner: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(owner)
    except (NameError, TypeError):
        return {}
