"""The sizes for which a captured program is right, as torch found them while capturing.

forward may branch on a size. torch follows the branch that the traced sizes take, and keeps the condition:
a range for one dim, or a guard on several. An ONNX file has neither, so they are read here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.export import ExportedProgram
from torch.utils._sympy.printers import PythonPrinter

from nnkit.contract.architecture import ResolvedDim
from nnkit.errors import VerificationFailed
from nnkit.verbs.exporting.sizes import Sizes, allowed_sizes

# The sizes tried for each dim of a guard: all below NEAR, those in FAR, and those next to its numbers.
NEAR = 12
FAR = (16, 31, 32, 33, 64, 100, 128, 256, 512, 1000, 1024, 4096)

Names = Mapping[sympy.Symbol, str]
Axes = Mapping[str, Mapping[int, str] | None]


@dataclass(frozen=True)
class Guard:
    """A condition on sizes that was true while capturing, and the smallest allowed sizes that break it."""

    condition: str
    broken_at: Sizes


def check_ranges(program: ExportedProgram, name: str, axes: Axes, dims: Mapping[str, ResolvedDim]) -> None:
    """Raise VerificationFailed where a dim may be larger or smaller than the program allows.

    axes: for each input by name, axis -> the dim that stays free on it. dims: the declared free dims.
    """
    for symbol, dim_name in _name_symbols(program, axes).items():
        dim, limits = dims[dim_name], program.range_constraints.get(symbol)
        if limits is None:
            continue
        lower, upper = _integer(limits.lower), _integer(limits.upper)
        if upper is not None and (dim.max is None or dim.max > upper):
            raise _undeclared_bound(name, dim_name, f"up to {upper}", f"max={upper}")
        # A lower bound of 2 is only how torch says that a size is not constant: such a program also takes 1.
        if lower is not None and lower > max(2, dim.least):
            raise _undeclared_bound(name, dim_name, f"from {lower} up", f"min={lower}")


def broken_guards(program: ExportedProgram, axes: Axes, dims: Mapping[str, ResolvedDim]) -> list[Guard]:
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
    axes_by_node = dict(zip(program.graph_signature.user_inputs, axes.values(), strict=False))
    axes_by_node.update((name, dims) for name, dims in axes.items() if name in axes_by_node)
    names = {}
    for node, value in _input_tensors(program):
        for axis, name in (axes_by_node.get(node) or {}).items():
            size: Any = value.shape[axis]
            if not isinstance(size, int) and isinstance(size.node.expr, sympy.Symbol):
                names[size.node.expr] = name
    return names


def _input_tensors(program: ExportedProgram) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors that enter the graph, weights included, each with the name of its node."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and isinstance(value, torch.Tensor):
            yield node.name, value


def _conditions(program: ExportedProgram) -> Iterator[sympy.Basic]:
    """Yield what torch assumed about the sizes: guards, and what it left to be asserted at run time."""
    environments: dict[int, Any] = {}
    for _, value in _input_tensors(program):
        for size in value.shape:
            symbolic: Any = size
            if not isinstance(size, int):
                environments[id(symbolic.node.shape_env)] = symbolic.node.shape_env
    for environment in environments.values():
        yield from (guard.expr for guard in environment.guards)
        for asserts in environment.deferred_runtime_asserts.values():
            yield from (runtime_assert.expr for runtime_assert in asserts)


def _find_breaking_sizes(
    condition: sympy.Basic, names: Names, dims: Mapping[str, ResolvedDim]
) -> Sizes | None:
    """Return the smallest tried sizes for which a condition is false."""
    numbers = {int(number) for number in condition.atoms(sympy.Integer)}
    wanted = {*range(NEAR), *FAR, *(number + step for number in numbers for step in (-1, 0, 1))}
    if len(names) > 2:
        wanted = {*range(5), *FAR}
    choices = [allowed_sizes(dims[name], wanted) for name in names.values()]
    for sizes in sorted(product(*choices), key=prod):
        values = dict(zip(names, map(sympy.Integer, sizes), strict=True))
        if condition.xreplace(values) is sympy.false:
            return dict(zip(names.values(), sizes, strict=True))
    return None


def _format_condition(condition: sympy.Basic, names: Names) -> str:
    named = condition.xreplace({symbol: sympy.Symbol(name) for symbol, name in names.items()})
    return str(PythonPrinter().doprint(named))


def _integer(bound: sympy.Basic) -> int | None:
    return int(bound) if isinstance(bound, sympy.Integer) else None


def _undeclared_bound(name: str, dim: str, sizes: str, bound: str) -> VerificationFailed:
    return VerificationFailed(
        f"{name} can be exported only for {dim} {sizes}, but declares no such bound: "
        f"forward does something different, or fails, for other sizes",
        f'declare the bound ("{dim} {bound}"), or make forward do the same for every size',
    )
