"""Find out from the source of forward which of its parameters are dicts. Torch-free."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any


def keys_taken(forward: Callable[..., Any]) -> dict[str, list[str]]:
    """Return, for each parameter that forward uses as a dict, the keys that it looks up.

    A parameter counts as a dict if forward has `batch["x"]` or `batch.get("x")`. The result is empty if the
    source of forward is not available.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(forward)))
        names = set(inspect.signature(forward).parameters)
    except (OSError, TypeError, ValueError, SyntaxError, RecursionError):
        return {}
    keys: dict[str, list[str]] = {}
    for name, key in _look_ups(tree):
        if name in names and key not in keys.setdefault(name, []):
            keys[name].append(key)
    return keys


def _look_ups(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (variable, key) for each look-up of a string key."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))):
                yield name, key
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[first, *_]):
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield name, first.value
