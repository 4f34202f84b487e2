"""Expressions of sizes in a stranger's torch.export program, which torch evaluates as Python.

SymPy's `sympify` runs `eval`, and guards go through `exec`. So an expression is parsed here first, and may
contain only numbers, sizes, operators and the functions that torch itself writes.
"""

import ast
import re

SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
FUNCTIONS = frozenset(
    """
    Abs Add And CeilDiv CeilToInt CleanDiv Eq Equality FloatPow FloatTrueDiv FloorDiv FloorToInt Float Ge
    GreaterThan Gt ITE Identity IntTrueDiv Integer IsNonOverlappingAndDenseIndicator LShift Le LessThan Lt
    Max Min Mod ModularIndexing Mul Ne Not OpaqueUnaryFn_sqrt Or Piecewise Pow PowByNatural PythonMod RShift
    Rational RoundDecimal RoundToInt StrictGreaterThan StrictLessThan ToFloat TruncToFloat TruncToInt
    Unequality Where abs bool ceiling exp float floor int log max min round sqrt
    """.split()
)
"""The functions of sizes that torch writes, in SymPy's notation and in Python's."""
POWERS = frozenset({"FloatPow", "LShift", "Pow", "PowByNatural"})
OF_TENSORS = frozenset({"dtype", "shape", "size", "storage_offset", "stride"})
OF_MATH = frozenset({"ceil", "floor", "inf", "isnan", "log2", "pow", "sqrt", "trunc"})
LARGEST_POWER = 64
LONGEST = 20_000  # characters


class NotOfSizes(Exception):
    """An expression that does more than compute with sizes."""


def check_expression(text: str, guard: bool = False) -> None:
    """Raise NotOfSizes for an expression that could run code, or take long to evaluate.

    guard: whether it may name inputs and their shapes, as in `L['x'].size()[0] <= 8`.
    """
    if len(text) > LONGEST:
        raise NotOfSizes("too long")
    try:
        _Checker(guard).visit(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotOfSizes(type(error).__name__) from error


class _Checker(ast.NodeVisitor):
    """Visits the nodes that an expression of sizes may have, and refuses all others."""

    def __init__(self, guard: bool) -> None:
        self._guard = guard

    def generic_visit(self, node: ast.AST) -> None:
        raise NotOfSizes(type(node).__name__)

    def _visit_all(self, *nodes: ast.expr) -> None:
        for node in nodes:
            self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        _check_symbol(node.id)

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, (bool, int, float)):
            raise NotOfSizes("text")

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.visit(node.operand)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, (ast.Pow, ast.LShift)):
            _check_power(node.right)
        self._visit_all(node.left, node.right)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._visit_all(*node.values)

    def visit_Compare(self, node: ast.Compare) -> None:
        self._visit_all(node.left, *node.comparators)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        self._visit_all(*node.elts)

    def visit_Call(self, node: ast.Call) -> None:
        match node:
            case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)]):
                _check_symbol(name)
            case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str() as number)]):
                _check_number(number)
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in FUNCTIONS:
                if name in POWERS and arguments:
                    _check_power(arguments[-1])
                self._visit_all(*arguments)
            case ast.Call(func=ast.Attribute(attr=name) as method, args=arguments) if self._guard:
                if name not in OF_TENSORS | OF_MATH:
                    raise NotOfSizes(name)
                self._visit_all(method, *arguments)
            case _:
                raise NotOfSizes("call")
        self._visit_all(*(keyword.value for keyword in node.keywords))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        of_math = isinstance(node.value, ast.Name) and node.value.id == "math"
        if not self._guard or (of_math and node.attr not in OF_MATH):
            raise NotOfSizes(node.attr)
        _check_symbol(node.attr)  # besides sizes, the field of an input: L['cache'].key
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        match node.slice:
            case ast.Constant(value=str() as key) if self._guard:
                _check_symbol(key)
            case ast.Constant(value=int()) if self._guard:
                pass
            case _:
                raise NotOfSizes("subscript")
        self.visit(node.value)


def _check_symbol(name: str) -> None:
    if not SYMBOL.fullmatch(name):
        raise NotOfSizes(name)


def _check_number(text: str) -> None:
    try:
        float(text)
    except ValueError as error:
        raise NotOfSizes(text) from error


def _check_power(exponent: ast.expr) -> None:
    """Check that an exponent is a size or a small number."""
    match exponent:
        case ast.Name() | ast.Call(func=ast.Name(id="Symbol")):
            return
        case ast.UnaryOp(operand=inner) | ast.Call(func=ast.Name(id="Integer"), args=[inner]):
            _check_power(inner)
        case ast.Constant(value=int() | float() as value) if abs(value) <= LARGEST_POWER:
            return
        case _:
            raise NotOfSizes("power")
