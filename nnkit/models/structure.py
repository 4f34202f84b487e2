"""The arguments of forward, a tree of dicts, lists, tuples and dataclasses <-> tensors with dotted names.

forward(tokens, cache=[(k, v)], train=False)   <->   tokens, cache.0.0, cache.0.1  beside  train=False
"""

import copy
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any

from torch import Tensor, nn

from nnkit.contract.loading import load
from nnkit.contract.signature import Container, Signature
from nnkit.errors import UsageProblem
from nnkit.models.tensors import parts_of

SEQUENCES: Mapping[str, type] = {"list": list, "tuple": tuple}


@dataclass(frozen=True)
class Flat:
    """A tree taken apart: its tensors by dotted name in order, and what puts them together again."""

    tensors: dict[str, Tensor]
    constants: dict[str, Any]
    containers: dict[str, Container]


def flatten(arguments: Mapping[str, Any]) -> Flat:
    """Take named arguments apart. What is no tensor and no container becomes a constant."""
    flat = Flat({}, {}, {})
    for name, value in arguments.items():
        _flatten(value, name, flat)
    return flat


def _flatten(value: Any, name: str, flat: Flat) -> None:
    if isinstance(value, Tensor):
        flat.tensors[name] = value
        return
    parts = [(str(key), part) for key, part in parts_of(value)]
    if not parts or any("." in key for key, _ in parts):
        flat.constants[name] = value
        return
    flat.containers[name] = _container_of(value)
    for key, part in parts:
        _flatten(part, f"{name}.{key}", flat)


def _container_of(value: Any) -> Container:
    kind = type(value)
    return kind.__name__ if kind in (list, tuple, dict) else kind


def assemble(module: nn.Module, signature: Signature, values: Sequence[Any]) -> dict[str, Any]:
    """Return the arguments of forward by name, with `values` for the tensors of the signature, in order.

    Raises UsageProblem where the parts of an argument can't be put together.
    """
    leaves = dict(zip(signature.names, values, strict=True))
    leaves |= {name: _own_copy(value) for name, value in signature.constants.items()}
    if signature.is_flat:
        return leaves
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *path, last = name.split(".")
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        branch[last] = _Leaf(value)
    hints = _annotations(module)
    return {name: _build(part, name, signature, hints.get(name)) for name, part in tree.items()}


def _own_copy(constant: Any) -> Any:
    """Return a constant that forward may change: a list of the caller's stays as it is."""
    return copy.copy(constant) if isinstance(constant, (list, dict, set)) else constant


@dataclass(frozen=True)
class _Leaf:
    value: Any


def _build(part: Any, path: str, signature: Signature, hint: Any) -> Any:
    """Return the value that a branch of the tree describes; hint: the annotation of this place, or None."""
    if isinstance(part, _Leaf):
        return part.value
    container = signature.container_at(path)
    hint = _without_none(hint)
    children = {
        key: _build(child, f"{path}.{key}", signature, _hint_of_part(hint, key, index))
        for index, (key, child) in enumerate(part.items())
    }
    try:
        return _fill(container if container is not None else _container_by(hint, children), children)
    except (TypeError, ValueError) as error:
        raise UsageProblem(
            f"the parts of {path!r} can't be put together: {error}",
            f'say what holds them: containers={{"{path}": "list"}}, or annotate it in forward',
        ) from error


def _container_by(hint: Any, children: Mapping[str, Any]) -> Container:
    """Return the container that an annotation names; without one, what the names of the parts suggest."""
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type):
        if issubclass(origin, tuple) or dataclasses.is_dataclass(origin):
            return "tuple" if origin is tuple else origin
        if typing.is_typeddict(origin) or issubclass(origin, Mapping):
            return "dict"
        if issubclass(origin, Sequence):
            return "list"
    return "list" if all(key.isdecimal() for key in children) else "dict"


def _fill(container: Container, children: Mapping[str, Any]) -> Any:
    if isinstance(container, str) and ":" in container:
        container = load(container)  # type: ignore[assignment]
    if container == "dict":
        return dict(children)
    if container in SEQUENCES:
        if list(children) != [str(index) for index in range(len(children))]:
            raise ValueError(f"its parts are {', '.join(children)}, not 0 to {len(children) - 1}")
        return SEQUENCES[str(container)](children.values())
    if not isinstance(container, type):
        raise ValueError(f"{container!r} is no container")
    if hasattr(container, "_fields") or dataclasses.is_dataclass(container):
        return container(**children)
    rebuild: Any = container
    return rebuild(children) if issubclass(container, Mapping) else rebuild(children.values())


def _annotations(module: nn.Module) -> dict[str, Any]:
    """Return the annotations of forward, evaluated; none where they name what can't be found."""
    try:
        return typing.get_type_hints(module.forward)
    except Exception:
        return {}


def _without_none(hint: Any) -> Any:
    """Return the first type of `X | None`."""
    if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union:
        return next((kind for kind in typing.get_args(hint) if kind is not NoneType), None)
    return hint


def _hint_of_part(hint: Any, key: str, index: int) -> Any:
    """Return the annotation of a part of a container with this annotation, or None."""
    arguments, origin = typing.get_args(hint), typing.get_origin(hint) or hint
    if not isinstance(origin, type):
        return None
    if dataclasses.is_dataclass(origin) or hasattr(origin, "_fields") or typing.is_typeddict(origin):
        try:
            return typing.get_type_hints(origin).get(key)
        except Exception:
            return None
    if not arguments:
        return None
    if issubclass(origin, tuple) and arguments[-1] is not Ellipsis:
        return arguments[index] if index < len(arguments) else None
    return arguments[-1] if issubclass(origin, Mapping) else arguments[0]
