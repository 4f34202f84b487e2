"""The sizes for which a captured program is right, as torch found them while capturing.

forward may branch on a size. torch follows the branch that the traced sizes take, and keeps the condition:
a range for one dim, or a guard on several. Neither is in an ONNX file, so they are read here.
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

from nnkit.contract.architecture import Dim
from nnkit.errors import VerificationFailed
from nnkit.verbs.exporting.sizes import Sizes, allowed_sizes

NEAR = 12  # sizes up to here are tried for each dim of a guard, beside those next to its numbers
FAR = (16, 31, 32, 33, 64, 100, 128, 256, 512, 1000, 1024, 4096)

Names = Mapping[sympy.Symbol, str]
Axes = Mapping[str, Mapping[int, str] | None]


@dataclass(frozen=True)
class Guard:
    """A condition on sizes that held while capturing, and the smallest allowed sizes at which it doesn't."""

    condition: str
    broken_at: Sizes


def check_ranges(program: ExportedProgram, name: str, axes: Axes, dims: Mapping[str, Dim]) -> None:
    """Raise VerificationFailed where a dim may be larger or smaller than the program allows.

    axes: for each input by name, axis -> the dim that stays free on it. dims: the free ones, as declared.
    """
    for symbol, dim_name in _names_of(program, axes).items():
        dim, limits = dims[dim_name], program.range_constraints.get(symbol)
        if limits is None:
            continue
        lower, upper = _integer(limits.lower), _integer(limits.upper)
        if upper is not None and (dim.max is None or dim.max > upper):
            raise _bounded(name, dim_name, f"up to {upper}", f"max={upper}")
        # A program for sizes from 2 up also takes 1: torch's way to say that it is no constant.
        if lower is not None and lower > max(2, dim.least):
            raise _bounded(name, dim_name, f"from {lower} up", f"min={lower}")


def broken_guards(program: ExportedProgram, axes: Axes, dims: Mapping[str, Dim]) -> list[Guard]:
    """Return the guards that some allowed sizes break, each with the smallest that were found."""
    names = _names_of(program, axes)
    found: dict[str, Guard] = {}
    for condition in _conditions(program):
        symbols = sorted(condition.free_symbols, key=str)
        if symbols and all(symbol in names for symbol in symbols):
            broken = _broken_at(condition, {symbol: names[symbol] for symbol in symbols}, dims)
            if broken is not None:
                text = _in_words(condition, names)
                found.setdefault(text, Guard(text, broken))
    return list(found.values())


def _names_of(program: ExportedProgram, axes: Axes) -> Names:
    """Return which dim each symbol of the program is, by the shapes of its inputs."""
    inputs = dict(zip(program.graph_signature.user_inputs, axes.values(), strict=False))
    inputs.update((name, each) for name, each in axes.items() if name in inputs)
    names = {}
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in inputs and isinstance(value, torch.Tensor):
            for axis, name in (inputs[node.name] or {}).items():
                size: Any = value.shape[axis]
                if not isinstance(size, int) and isinstance(size.node.expr, sympy.Symbol):
                    names[size.node.expr] = name
    return names


def _conditions(program: ExportedProgram) -> Iterator[sympy.Basic]:
    """Yield what torch assumed of the sizes: guards, and those that it left to be asserted at run time."""
    sizes: list[Any] = [
        size
        for node in program.graph.nodes
        if node.op == "placeholder" and isinstance(value := node.meta.get("val"), torch.Tensor)
        for size in value.shape
    ]
    environments = {
        id(size.node.shape_env): size.node.shape_env for size in sizes if not isinstance(size, int)
    }
    for environment in environments.values():
        yield from (guard.expr for guard in environment.guards)
        for asserts in environment.deferred_runtime_asserts.values():
            yield from (each.expr for each in asserts)


def _broken_at(condition: sympy.Basic, names: Names, dims: Mapping[str, Dim]) -> Sizes | None:
    numbers = {int(number) for number in condition.atoms(sympy.Integer)}
    wanted = {*range(NEAR), *FAR, *(number + step for number in numbers for step in (-1, 0, 1))}
    if len(names) > 2:
        wanted = {*range(5), *FAR}
    choices = [allowed_sizes(dims[name], wanted) for name in names.values()]
    for sizes in sorted(product(*choices), key=prod):
        if condition.xreplace(dict(zip(names, map(sympy.Integer, sizes), strict=True))) is sympy.false:
            return dict(zip(names.values(), sizes, strict=True))
    return None


def _in_words(condition: sympy.Basic, names: Names) -> str:
    named = condition.xreplace({symbol: sympy.Symbol(name) for symbol, name in names.items()})
    return str(PythonPrinter().doprint(named))


def _integer(bound: sympy.Basic) -> int | None:
    return int(bound) if isinstance(bound, sympy.Integer) else None


def _bounded(name: str, dim: str, words: str, bound: str) -> VerificationFailed:
    return VerificationFailed(
        f"{name} can be exported for {dim} {words} only, and it is declared without that bound: "
        f"forward does something else, or fails, for other sizes",
        f'declare the bound ("{dim} {bound}"), or write forward so that it does the same for every size',
    )
