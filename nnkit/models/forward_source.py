"""What the source of a forward shows of its parameters, where they are no tensors. Torch-free."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any


def keys_taken(forward: Callable[..., Any]) -> dict[str, list[str]]:
    """Return, for each parameter that forward takes for a dict, the keys that it looks up in it.

    A dict is what is subscripted by text (`batch["x"]`) or asked for by it (`batch.get("x")`). A forward
    whose source isn't at hand takes none.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(forward)))
        names = set(inspect.signature(forward).parameters)
    except (OSError, TypeError, ValueError, SyntaxError, RecursionError):
        return {}
    found: dict[str, list[str]] = {}
    for name, key in _look_ups(tree):
        if name in names and key not in found.setdefault(name, []):
            found[name].append(key)
    return found


def _look_ups(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (variable, key) for each look-up of a key that is text."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))):
                yield name, key
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[first, *_]):
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield name, first.value


def wrapper_for(keys: list[str]) -> str:
    """Return how a forward that takes a dict is called with tensors: a forward of a module around it."""
    pairs = ", ".join(f'"{key}": {key}' for key in keys)
    return f"wrap it: a module with forward(self, {', '.join(keys)}) that returns self.net({{{pairs}}})"
