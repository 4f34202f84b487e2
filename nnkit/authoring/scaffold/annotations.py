"""Values and types written as Python source, formatted as ruff formats it. Torch-free."""

import json
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta

PLAIN = (bool, int, float, str)
LINE_LENGTH = 110  # of the plugins that are written


def type_source(annotation: Any) -> str:
    """Return the source of an option's type, or an empty string for a type that can't be written.

    Besides builtins it may use `Annotated`, `Literal` and `Meta`.
    """
    if annotation in PLAIN:
        return str(annotation.__name__)
    if annotation in (None, types.NoneType):
        return "None"
    if annotation is Ellipsis:
        return "..."
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(map(value_source, arguments))}]"
    if origin is Annotated:
        metas = [_meta_source(argument) for argument in arguments[1:] if isinstance(argument, Meta)]
        inner = type_source(arguments[0])
        return f"Annotated[{', '.join([inner, *metas])}]" if inner and metas else inner
    parts = [type_source(argument) for argument in arguments]
    if not parts or not all(parts):
        return ""
    if origin in (Union, types.UnionType):
        return " | ".join(parts)
    return f"tuple[{', '.join(parts)}]" if origin is tuple else ""


def _meta_source(meta: Meta) -> str:
    names = ("gt", "ge", "lt", "le", "multiple_of", "description")
    values = {name: getattr(meta, name) for name in names}
    return call_source("Meta", **{name: value for name, value in values.items() if value is not None})


def value_source(value: Any) -> str:
    """Return the source of a plain value: a number, text, None, or a tuple of them."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        inner = ", ".join(map(value_source, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return repr(value)


def call_source(name: str, *values: Any, **named: Any) -> str:
    """Return the source of a call with plain arguments."""
    arguments = [value_source(value) for value in values]
    arguments += [f"{key}={value_source(value)}" for key, value in named.items()]
    return f"{name}({', '.join(arguments)})"


def wrapped_call(prefix: str, name: str, *values: Any, indent: int, **named: Any) -> str:
    """Return the source of a call behind a prefix, an item of a block, on as many lines as it needs."""
    arguments = [value_source(value) for value in values]
    arguments += [f"{key}={value_source(value)}" for key, value in named.items()]
    line, inner, end = ", ".join(arguments), " " * (indent + 4), " " * indent
    if indent + len(f"{prefix}{name}({line}),") <= LINE_LENGTH:
        return f"{prefix}{name}({line})"
    if len(inner + line) > LINE_LENGTH:
        line = f",\n{inner}".join(arguments) + ","
    return f"{prefix}{name}(\n{inner}{line}\n{end})"


def block_source(opening: str, lines: list[str], closing: str, indent: int) -> str:
    """Return a pair of brackets with an item on each line, or on one line where it is empty."""
    if not lines:
        return f"{opening}{closing}"
    inner = "".join(f"{' ' * (indent + 4)}{line},\n" for line in lines)
    return f"{opening}\n{inner}{' ' * indent}{closing}"
