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
    """Return the size of an axis: a number, or its expression evaluated with `sizes`.

    An expression holds integers, names, `+ - * //` and parentheses. Raises KeyError for a name without a
    size, and ValueError for any other expression or a division by zero.
    """
    if isinstance(axis, int):
        return axis
    if axis.isidentifier():
        return sizes[axis]
    try:
        return _evaluate(_parse(axis), sizes)
    except ZeroDivisionError as error:
        raise ValueError(f"{axis!r} divides by zero") from error


def names_in(axis: int | str) -> set[str]:
    """Return the names that the size of an axis depends on; raises ValueError for an invalid expression."""
    if isinstance(axis, int):
        return set()
    return {axis} if axis.isidentifier() else _collect_names(_parse(axis))


def _parse(expression: str) -> ast.expr:
    try:
        return ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{expression!r} is not arithmetic of names and integers") from error


def _evaluate(node: ast.expr, sizes: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return sizes[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_evaluate(left, sizes), _evaluate(right, sizes))
    raise _invalid(node)


def _collect_names(node: ast.expr) -> set[str]:
    match node:
        case ast.Constant(value=int()):
            return set()
        case ast.Name(id=name):
            return {name}
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return _collect_names(left) | _collect_names(right)
    raise _invalid(node)


def _invalid(node: ast.expr) -> ValueError:
    return ValueError(f"{ast.unparse(node)!r} is not arithmetic of names and integers by + - * //")
