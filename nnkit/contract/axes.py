"""The axes of a declared tensor: numbers, names, and arithmetic of both (`(time + 1) // 2`). Torch-free."""

import ast
import operator
from collections.abc import Callable, Mapping

OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def size_of(axis: int | str, sizes: Mapping[str, int]) -> int:
    """Return the size of an axis: its number, or what its expression is with the names' `sizes`.

    An expression holds integers, names, `+ - * //` and parentheses. Raises KeyError for a name without a
    size, ValueError for what is no such expression or divides by zero.
    """
    if isinstance(axis, int):
        return axis
    if axis.isidentifier():
        return sizes[axis]
    try:
        return _value(_parsed(axis), sizes)
    except ZeroDivisionError as error:
        raise ValueError(f"{axis!r} divides by zero") from error


def names_in(axis: int | str) -> set[str]:
    """Return the names that the size of an axis follows; raises ValueError for what is no expression."""
    if isinstance(axis, int):
        return set()
    return {axis} if axis.isidentifier() else _names(_parsed(axis))


def _parsed(expression: str) -> ast.expr:
    try:
        return ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{expression!r} is not arithmetic of names and integers") from error


def _value(node: ast.expr, sizes: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return sizes[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left, sizes), _value(right, sizes))
    raise _unknown(node)


def _names(node: ast.expr) -> set[str]:
    match node:
        case ast.Constant(value=int()):
            return set()
        case ast.Name(id=name):
            return {name}
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return _names(left) | _names(right)
    raise _unknown(node)


def _unknown(node: ast.expr) -> ValueError:
    return ValueError(f"{ast.unparse(node)!r} is not arithmetic of names and integers by + - * //")
