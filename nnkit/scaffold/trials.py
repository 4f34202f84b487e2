"""A module of the user's own, run at other sizes than its first: what comes out, and what it can take."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nnkit.architecture import Dim
from nnkit.building import build_module
from nnkit.errors import NnkitError, first_line
from nnkit.hookspecs import Host
from nnkit.sampling import sample_inputs
from nnkit.spec import ModelSpec
from nnkit.tensors import tensors_in

LARGEST_STEP = 64
FAR = 64  # steps away from the first size: what grows slowly has moved by then


@dataclass(frozen=True)
class Run:
    """What one run returned, by name: shapes and dtypes; and how many parameters the model has."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    parameters: int


class Trials:
    """A model at the sizes of `spec`, and at others that differ from them in one dim.

    plain: what it returned at the first. dims: with the limits that were found. runs: for each dim, what it
    returned at each size that was tried and can be taken. Raises NnkitError where a dim has one size alone.
    """

    def __init__(self, spec: ModelSpec, host: Host) -> None:
        self.spec, self._host = spec, host
        self.plain = run(spec, host)
        self.runs = {name: {size: self.plain} for name, size in spec.sizes.items()}
        self.dims: dict[str, Dim] = {}
        for name, dim in spec.architecture.dims_for(spec.config).items():
            self.dims[name] = self._with_least(name, self._with_step(name, dim))
            self._go_far(name, self.dims[name])

    def at(self, name: str, size: int) -> Run | None:
        """Return what comes out at another size of a dim; None where it fails, or nothing comes out."""
        if size not in self.runs[name]:
            try:
                found = run(self.spec.with_sizes({name: size}), self._host)
            except NnkitError:
                return None
            if any(0 in shape for shape in found.shapes.values()):
                return None
            self.runs[name][size] = found
        return self.runs[name][size]

    def _with_step(self, name: str, dim: Dim) -> Dim:
        """Return the dim with the least step to another size; where all of those are less, with a limit."""
        first = self.spec.sizes[name]
        steps = [dim.multiple_of] if dim.multiple_of > 1 else _divisors(first)
        for step in steps:
            if not dim.problem_with(first + step) and self.at(name, first + step):
                return replace(dim, multiple_of=step)
        for step in steps:
            if not dim.problem_with(first - step) and self.at(name, first - step):
                return replace(dim, multiple_of=step, max=first)
        run(self.spec.with_sizes({name: first + steps[0]}), self._host)  # raises, and says why
        return dim

    def _with_least(self, name: str, dim: Dim) -> Dim:
        """Return the dim with the least size that can be taken, as if all between it and the first could."""
        step = dim.multiple_of
        low, high = dim.least // step, self.spec.sizes[name] // step
        if self.at(name, low * step):
            return dim
        while high - low > 1:
            middle = (low + high) // 2
            if self.at(name, middle * step):
                high = middle
            else:
                low = middle
        return replace(dim, min=high * step)

    def _go_far(self, name: str, dim: Dim) -> None:
        """Run once at a size as far from the first as can be taken."""
        first, away = self.spec.sizes[name], FAR * dim.multiple_of
        while away >= dim.multiple_of:
            for size in (first + away, first - away):
                if not dim.problem_with(size) and self.at(name, size):
                    return
            away //= 2


def _divisors(size: int) -> list[int]:
    return [each for each in range(1, LARGEST_STEP + 1) if size % each == 0]


def run(spec: ModelSpec, host: Host) -> Run:
    """Run a model, without memory for its weights where that works; raises NnkitError where it fails."""
    try:
        return _run_on(spec, host, "meta")
    except Exception:
        try:
            return _run_on(spec, host, "cpu")
        except NnkitError:
            raise
        except Exception as error:
            sizes = ", ".join(f"{name}={size}" for name, size in spec.sizes.items())
            raise NnkitError(
                f"forward fails at {sizes or 'its sizes'}: {type(error).__name__}: {first_line(error)}",
                "say which sizes it takes: time=32 min=8 max=64 multiple_of=8, or a number for the axis",
            ) from error


def _run_on(spec: ModelSpec, host: Host, device: str) -> Run:
    module = build_module(spec, host, device)
    with torch.no_grad():
        named = _named(module(*sample_inputs(spec, device=device)))
    return Run(
        {name: tuple(each.shape) for name, each in named.items()},
        {name: each.dtype for name, each in named.items()},
        sum(each.numel() for each in module.parameters()),
    )


def _named(value: Any) -> dict[str, Tensor]:
    """Return the tensors of what forward returned, by the names that it has for them."""
    tensors = list(tensors_in(value))
    if isinstance(value, dict) and all(isinstance(each, Tensor) for each in value.values()):
        return {str(key): each for key, each in value.items()}
    if len(tensors) == 1:
        return {"output": tensors[0]}
    return {f"output_{place}": each for place, each in enumerate(tensors)}
