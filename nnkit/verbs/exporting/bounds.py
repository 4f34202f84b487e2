"""The sizes for which a captured program is right, as torch found them while capturing.

forward may branch on a size. torch follows the branch that the traced sizes take, and keeps the condition:
a range for one dim, or a guard on several. An ONNX file has neither, so they are read here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.export import ExportedProgram
from torch.utils._sympy.functions import FloorDiv
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.printers import PythonPrinter
from torch.utils._sympy.value_ranges import ValueRanges

from nnkit.contract.architecture import ResolvedDim
from nnkit.contract.axes import names_in, size_of
from nnkit.contract.sizes import Dims
from nnkit.models.sizes import Sizes, allowed_sizes, complete
from nnkit.verbs.exporting.capture import NotDynamic

# The sizes tried for each dim of a guard: all below NEAR, those in FAR, and those next to its numbers.
NEAR = 12
FAR = (16, 31, 32, 33, 64, 100, 128, 256, 512, 1000, 1024, 4096)

# The sizes tried for each dim of a guard that may hold only because none is 0 or 1.
PLAIN = (2, 3, 4, 7, 8, 33, 100, 1000, 4096)

Names = Mapping[sympy.Symbol, str]
Axes = Sequence[Mapping[int, str] | None]
"""For each input of a program, in its order: axis -> the dim that stays free on it, or arithmetic of dims."""


@dataclass(frozen=True)
class Guard:
    """A condition on sizes that was true while capturing, and the smallest allowed sizes that break it."""

    condition: str
    broken_at: Sizes


def check_ranges(program: ExportedProgram, name: str, axes: Axes, dims: Dims) -> None:
    """Raise VerificationFailed where a dim may be larger or smaller than the program allows.

    dims: the declared free dims.
    """
    for symbol, dim_name in _name_symbols(program, axes).items():
        limits = program.range_constraints.get(symbol)
        if limits is None or dim_name not in dims:
            continue
        dim = dims[dim_name]
        lower, upper = _integer(limits.lower), _integer(limits.upper)
        if upper is not None and _may_exceed(upper, dim_name, dims):
            raise _undeclared_bound(name, dim_name, f"up to {upper}", f"max={upper}", f"<= {upper}")
        # A lower bound of 2 is only how torch says that a size is not constant: such a program also takes 1.
        assumed = lower is not None and _has_one_below(program, symbol, lower, dim)
        if lower is not None and lower > max(2, dim.least) and not assumed:
            raise _undeclared_bound(name, dim_name, f"from {lower} up", f"min={lower}", f">= {lower}")


def _has_one_below(program: ExportedProgram, symbol: sympy.Symbol, lower: int, dim: ResolvedDim) -> bool:
    """Whether some size inside of forward is 0 or 1 at every allowed size of a dim below `lower`.

    Then the bound is no more than torch's assumption that none is, as `height // 4 > 1` gives `height >= 8`.
    """
    inside = {size for size in _sizes_inside(program) if size.free_symbols == {symbol}}
    return all(
        any(size.xreplace({symbol: sympy.Integer(below)}) in (0, 1) for size in inside)
        for below in range(dim.least, lower, dim.multiple_of)
    )


def _sizes_inside(program: ExportedProgram) -> Iterator[sympy.Expr]:
    """Yield the sizes of all tensors in the graph that follow from dims."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        for size in value.shape if isinstance(value, torch.Tensor) else ():
            if not isinstance(size, int):
                yield size.node.expr


def _may_exceed(upper: int, name: str, dims: Dims) -> bool:
    """Whether a dim may be larger than `upper`, with the other dims not at 0 or 1, as torch assumes."""
    dim = dims[name]
    larger = (upper // dim.multiple_of + 1) * dim.multiple_of
    if dim.problem_with(larger):
        return False
    sizes = complete(dims, {name: larger})
    return sizes[name] == larger and all(sizes[other] >= min(2, dims[other].max or 2) for other in sizes)


def relax(program: ExportedProgram) -> None:
    """Let a program take sizes at which a size is 0 or 1, and what follows from them in other sizes.

    torch assumes while capturing that no size is 0 or 1. From that it derives guards on sizes inside of
    forward, such as `height // 4 != 1` or `height < height * width`, and ranges of other sizes, such as
    `past + time >= 4` and, if they are at most 16 together, `past <= 14`. A program refuses sizes outside of
    them. Whether it is right there, the proof shows. What forward itself needs is kept, as other guards.
    """
    program._guards_code[:] = [
        code
        for code, guard in zip(program._guards_code, _guards(program), strict=True)
        if not is_assumed(guard)
    ]
    for expression in program.range_constraints:
        program.range_constraints[expression] = ValueRanges(sympy.Integer(0), int_oo)


def _guards(program: ExportedProgram) -> list[sympy.Basic]:
    """Return the guards that torch writes into a program, in its order."""
    guards = [guard.expr for environment in _environments(program) for guard in environment.guards]
    known = {symbol for environment in _environments(program) for symbol in environment.var_to_sources}
    return [guard for guard in guards if guard.free_symbols <= known]


def is_assumed(condition: sympy.Basic) -> bool:
    """Whether a guard holds wherever no size in it is 0 or 1: torch assumes that none is.

    Example: `Max(1, h // 2) < Max(1, h // 2) * Max(1, w // 2)` is false only where `w // 2` is 0 or 1.

    It is tried on some sizes. They would miss those at which `h * w` is 6006, so a guard that compares with a
    number other than 0 and 1 is never taken for assumed.
    """
    if not isinstance(condition, sympy.Rel) or abs(_constant(condition)) > 1:
        return False
    symbols = sorted(condition.free_symbols, key=str)
    sizes = {*symbols, *condition.atoms(FloorDiv)}
    numbers = {abs(int(number)) for number in condition.atoms(sympy.Integer)}
    near = {number + step for number in numbers for step in (-1, 0, 1)}
    multiples = {number * factor for number in numbers for factor in (2, 3, 8)}
    tried = {*PLAIN, *near, *multiples} if len(symbols) < 3 else {*PLAIN[:4], *multiples}
    held = False
    for chosen in product(sorted(size for size in tried if size > 1), repeat=len(symbols)):
        values = {symbol: sympy.Integer(size) for symbol, size in zip(symbols, chosen, strict=True)}
        if any(size.xreplace(values) in (0, 1) for size in sizes):
            continue
        held = bool(condition.xreplace(values) is sympy.true)
        if not held:
            break
    return held


def _constant(condition: sympy.Rel) -> sympy.Basic:
    """Return the number that the sizes in a guard are compared with."""
    return sympy.expand(condition.lhs - condition.rhs).as_coeff_Add()[0]


def broken_guards(program: ExportedProgram, axes: Axes, dims: Dims) -> list[Guard]:
    """Return the guards that some allowed sizes break, each with the smallest such sizes found."""
    names = _name_symbols(program, axes)
    guards: dict[str, Guard] = {}
    for condition in _conditions(program):
        symbols = sorted(condition.free_symbols, key=str)
        if symbols and all(symbol in names for symbol in symbols):
            sizes = _find_breaking_sizes(condition, {symbol: names[symbol] for symbol in symbols}, dims)
            if sizes is not None:
                text = _format_condition(condition, names)
                guards.setdefault(text, Guard(text, sizes))
    return list(guards.values())


def _name_symbols(program: ExportedProgram, axes: Axes) -> Names:
    """Return the dim of each symbol of the program, found by the shapes of its inputs."""
    nodes = dict(_input_tensors(program))
    inputs = [name for name in program.graph_signature.user_inputs if isinstance(name, str) and name in nodes]
    names: dict[sympy.Symbol, str] = {}
    for node, axes_of_input in zip(inputs, axes, strict=False):
        for axis, name in (axes_of_input or {}).items():
            size: Any = nodes[node].shape[axis]
            symbol = None if isinstance(size, int) else size.node.expr
            # A dim itself says more than arithmetic of dims that has the same size.
            if isinstance(symbol, sympy.Symbol) and (symbol not in names or name.isidentifier()):
                names[symbol] = name
    return names


def _input_tensors(program: ExportedProgram) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors that enter the graph, weights included, each with the name of its node."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and isinstance(value, torch.Tensor):
            yield node.name, value


def _conditions(program: ExportedProgram) -> Iterator[sympy.Basic]:
    """Yield what torch assumed about the sizes: guards, and what it left to be asserted at run time."""
    for environment in _environments(program):
        yield from (guard.expr for guard in environment.guards)
        for asserts in environment.deferred_runtime_asserts.values():
            yield from (runtime_assert.expr for runtime_assert in asserts)


def _environments(program: ExportedProgram) -> list[Any]:
    """Return where torch keeps what it knows about the sizes of a program."""
    environments: dict[int, Any] = {}
    for _, value in _input_tensors(program):
        for size in value.shape:
            symbolic: Any = size
            if not isinstance(size, int):
                environments[id(symbolic.node.shape_env)] = symbolic.node.shape_env
    return list(environments.values())


def _find_breaking_sizes(condition: sympy.Basic, names: Names, dims: Dims) -> Sizes | None:
    """Return the smallest tried sizes for which a condition is false, and that the constraints allow."""
    numbers = {int(number) for number in condition.atoms(sympy.Integer)}
    wanted = {*range(NEAR), *FAR, *(number + step for number in numbers for step in (-1, 0, 1))}
    involved = sorted(set().union(*map(names_in, names.values())), key=list(dims).index)
    if len(involved) > 2:
        wanted = {*range(5), *FAR}
    choices = [allowed_sizes(dims[name], wanted) for name in involved]
    for chosen in sorted(product(*choices), key=prod):
        sizes = dict(zip(involved, chosen, strict=True))
        values = {symbol: sympy.Integer(size_of(name, sizes)) for symbol, name in names.items()}
        if condition.xreplace(values) is sympy.false and _is_allowed(sizes, dims):
            return sizes
    return None


def _is_allowed(sizes: Sizes, dims: Dims) -> bool:
    """Whether the constraints allow these sizes of some dims, with some sizes of the others."""
    others = complete(dims, sizes)
    return not dims.problem_with(others) and all(others[name] == size for name, size in sizes.items())


def _format_condition(condition: sympy.Basic, names: Names) -> str:
    named = condition.xreplace(
        {symbol: sympy.Symbol(name if name.isidentifier() else f"({name})") for symbol, name in names.items()}
    )
    return str(PythonPrinter().doprint(named))


def _integer(bound: sympy.Basic) -> int | None:
    return int(bound) if isinstance(bound, sympy.Integer) else None


def _undeclared_bound(name: str, dim: str, sizes: str, declared: str, bound: str) -> NotDynamic:
    return NotDynamic(
        f"{name} can be exported only for {dim} {sizes}, but declares no such bound: "
        f"forward does something different, or fails, for other sizes",
        f'declare the bound ("{dim} {declared}"), or make forward do the same for every size',
        dim=dim,
        bound=bound,
    )
