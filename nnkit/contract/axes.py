"""Arithmetic of sizes: axes (`(time + 1) // 2`), bounds (`2 ** levels`) and constraints. Torch-free."""

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

LARGEST = 2**63 - 1
"""The largest size: torch's integers have 64 bits."""


def _power(base: int, exponent: int) -> int:
    if exponent < 0 or (abs(base) > 1 and exponent > 63):
        raise ValueError(f"{base} ** {exponent} is not a size")
    power: int = base**exponent
    return power


OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: _power,
}
COMPARISONS: Mapping[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.GtE: operator.ge,
    ast.Gt: operator.gt,
}


def size_of(axis: int | str, sizes: Mapping[str, int]) -> int:
    """Return the size of an axis: a number, or its expression evaluated with `sizes`.

    An expression holds integers, names, `+ - * // **` and parentheses. Raises KeyError for a name without a
    size, and ValueError for any other expression, a division by zero or a power that is no size.
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


def substitute(axis: int | str, sizes: Mapping[str, int]) -> int | str:
    """Return an axis with numbers for the names that have a size, simplified where one is 0 or 1.

    `past + time` with past 0 is `time`, with past 3 it is `3 + time`. Raises ValueError as size_of does.
    """
    if isinstance(axis, int) or not names_in(axis) & sizes.keys():
        return axis
    try:
        node = _substitute(_parse(axis), sizes)
    except ZeroDivisionError as error:
        raise ValueError(f"{axis!r} divides by zero") from error
    return node.value if isinstance(node, ast.Constant) else ast.unparse(node)  # type: ignore[return-value]


def _substitute(node: ast.expr, sizes: Mapping[str, int]) -> ast.expr:
    match node:
        case ast.Name(id=name) if name in sizes:
            return ast.Constant(sizes[name])
        case ast.BinOp(left=left, op=op, right=right):
            return _simplify(ast.BinOp(_substitute(left, sizes), op, _substitute(right, sizes)))
    return node


def _simplify(node: ast.BinOp) -> ast.expr:
    match node:
        case ast.BinOp(left=ast.Constant(), right=ast.Constant()):
            number = _evaluate(node, {})
            return ast.Constant(number) if number >= 0 else node
        case (
            ast.BinOp(left=ast.Constant(value=0), op=ast.Add(), right=other)
            | ast.BinOp(left=other, op=ast.Add() | ast.Sub(), right=ast.Constant(value=0))
            | ast.BinOp(left=ast.Constant(value=1), op=ast.Mult(), right=other)
            | ast.BinOp(left=other, op=ast.Mult() | ast.FloorDiv(), right=ast.Constant(value=1))
        ):
            return other
    return node


def terms_of(axis: int | str) -> list[int | str]:
    """Return what an axis is the sum of, in order: of `past + time`, `past` and `time`.

    Raises ValueError for an invalid expression.
    """
    if isinstance(axis, int) or axis.isidentifier():
        return [axis]
    return [_plain(term) for term in _addends(_parse(axis))]


def _addends(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [*_addends(left), *_addends(right)]
    _collect_names(node)
    return [node]


def _plain(node: ast.expr) -> int | str:
    match node:
        case ast.Constant(value=int(number)):
            return number
    return ast.unparse(node)


def holds(constraint: str, sizes: Mapping[str, int]) -> bool:
    """Return whether a constraint on sizes holds: two expressions, compared (`past + time <= context`).

    The comparisons are `<`, `<=`, `==`, `>=` and `>`. Raises KeyError and ValueError as size_of does.
    """
    left, compare, right = _parts_of(constraint)
    try:
        return compare(_evaluate(left, sizes), _evaluate(right, sizes))
    except ZeroDivisionError as error:
        raise ValueError(f"{constraint!r} divides by zero") from error


def names_in_constraint(constraint: str) -> set[str]:
    """Return the names in a constraint; raises ValueError for one that is invalid."""
    left, _, right = _parts_of(constraint)
    return _collect_names(left) | _collect_names(right)


def _parts_of(constraint: str) -> tuple[ast.expr, Callable[[int, int], bool], ast.expr]:
    match _parse(constraint):
        case ast.Compare(left=left, ops=[comparison], comparators=[right]) if type(comparison) in COMPARISONS:
            return left, COMPARISONS[type(comparison)], right
    raise ValueError(f"{constraint!r} is not a comparison of two sizes, such as 'past + time <= context'")


@lru_cache(maxsize=1024)
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
    return ValueError(f"{ast.unparse(node)!r} is not arithmetic of names and integers by + - * // **")
