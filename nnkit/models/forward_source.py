"""Find out from the source of forward which of its parameters are dicts, and of what. Torch-free."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any


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
