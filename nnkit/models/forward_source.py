"""Find out from the source of forward which of its parameters are dicts, and of what. Torch-free."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterator
from typing import Any

from nnkit.contract.signature import is_within


def keys_taken(forward: Callable[..., Any]) -> dict[str, list[str]]:
    """Return, for each parameter that forward uses as a dict, the keys that it looks up, in their order.

    A parameter counts as a dict if forward has `batch["x"]` or `batch.get("x")`. The result is empty if the
    source of forward is not available.
    """
    keys, _ = _read_keys(forward)
    return keys


def keys_needed(forward: Callable[..., Any]) -> dict[str, list[str]]:
    """Return the same without the keys that may be missing: those of `batch.get("x")`, or `"x" in batch`."""
    keys, optional = _read_keys(forward)
    return {name: [key for key in own if (name, key) not in optional] for name, own in keys.items()}


def needed_inputs(forward: Callable[..., Any], declared: Collection[str]) -> list[str]:
    """Return the dotted names of what forward needs beside what is declared, in the order of its parameters.

    A parameter that forward uses as a dict counts as the keys that it must have. forward: may be a function
    of a class; its `self` is no input.
    """
    keys = keys_needed(forward)
    needed = []
    for name in required_parameters(forward)[_has_self(forward) :]:
        parts = [f"{name}.{key}" for key in keys.get(name, ())] or [name]
        if name not in declared and (keys.get(name) or not any(is_within(other, name) for other in declared)):
            needed += [part for part in parts if not any(is_within(other, part) for other in declared)]
    return needed


def required_parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that a call must give; none if the signature is not known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind not in variadic
    ]


def _has_self(forward: Callable[..., Any]) -> bool:
    """Whether a function still takes its object: it was looked up in a class, and is no static method."""
    return inspect.isfunction(forward) and next(iter(inspect.signature(forward).parameters), "") == "self"


def _read_keys(forward: Callable[..., Any]) -> tuple[dict[str, list[str]], set[tuple[str, str]]]:
    """Return the keys looked up in each parameter, and (parameter, key) for those that may be missing."""
    keys: dict[str, list[str]] = {}
    optional: set[tuple[str, str]] = set()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(forward)))
        names = set(inspect.signature(forward).parameters)
    except (OSError, TypeError, ValueError, SyntaxError, RecursionError):
        return keys, optional
    for name, key, is_needed in _look_ups(tree):
        if name not in names:
            continue
        if not is_needed:
            optional.add((name, key))
        if key not in keys.setdefault(name, []):
            keys[name].append(key)
    return keys, optional


def _look_ups(tree: ast.AST) -> Iterator[tuple[str, str, bool]]:
    """Yield (variable, key, whether it must be there) for each look-up of a string key, in order."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.expr)]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))):
                yield name, key, True
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[first, *_]):
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield name, first.value, False
            case ast.Compare(left=ast.Constant(value=str(key)), comparators=[ast.Name(id=name)]):
                yield name, key, False
