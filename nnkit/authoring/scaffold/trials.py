"""A module of the user's own, run at other sizes than its first: what comes out, and what it can take."""

from bisect import bisect_left
from dataclasses import dataclass, replace

import torch

from nnkit.authoring.scaffold.expressions import divisors
from nnkit.contract.architecture import Dim
from nnkit.contract.requests import Host
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, first_line
from nnkit.models.building import build_module
from nnkit.models.running import evaluate
from nnkit.models.sampling import sample_inputs
from nnkit.models.tensors import output_names, tensors_in

LARGEST_STEP = 64
FAR = 64  # steps away from the first size: what grows slowly has moved by then
REAL = 2 * 10**8  # parameters, for which memory can be taken to see what meta tensors don't show


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
        self.spec, self._host, self._device = spec, host, "meta"  # without memory, where that works
        try:
            self.plain = _run_on(spec, host, "meta")
        except Exception:
            self._device = "cpu"
            self.plain = self.run(spec)
        self.runs = {name: {size: self.plain} for name, size in spec.sizes.items()}
        self.dims: dict[str, Dim] = {}
        for name, dim in spec.architecture.dims_for(spec.config).items():
            found = self._with_least(name, self._with_step(name, dim))
            self.dims[name] = self._with_most(name, found) if self._can_be_real() else found
            self._go_far(name, self.dims[name])

    def run(self, spec: ModelSpec) -> Run:
        """Run the model with other sizes or options; raises NnkitError where it fails."""
        return run(spec, self._host, self._device)

    def _can_be_real(self) -> bool:
        return self._device == "meta" and self.plain.parameters <= REAL

    def at(self, name: str, size: int) -> Run | None:
        """Return what comes out at another size of a dim; None where it fails, or nothing comes out."""
        if size not in self.runs[name]:
            try:
                found = self.run(self.spec.with_sizes({name: size}))
            except NnkitError:
                return None
            if any(0 in shape for shape in found.shapes.values()):
                return None
            self.runs[name][size] = found
        return self.runs[name][size]

    def _with_step(self, name: str, dim: Dim) -> Dim:
        """Return the dim with the least step to another size; where all of those are less, with a limit."""
        first = self.spec.sizes[name]
        small = [each for each in divisors(first) if each <= LARGEST_STEP]
        steps = [dim.multiple_of] if dim.multiple_of > 1 else small
        for step in steps:
            if not dim.problem_with(first + step) and self.at(name, first + step):
                return replace(dim, multiple_of=step)
        for step in steps:
            if not dim.problem_with(first - step) and self.at(name, first - step):
                return replace(dim, multiple_of=step, max=first)
        self.run(self.spec.with_sizes({name: first + steps[0]}))  # raises, and says why
        return dim

    def _with_least(self, name: str, dim: Dim) -> Dim:
        """Return the dim with the least size that can be taken, as if all between it and the first could."""
        step = dim.multiple_of
        low, high = dim.least // step, self.spec.sizes[name] // step
        if self.at(name, low * step):
            return dim
        between = range(low + 1, high)
        least = low + 1 + bisect_left(between, True, key=lambda each: self.at(name, each * step) is not None)
        return replace(dim, min=least * step)

    def _with_most(self, name: str, dim: Dim) -> Dim:
        """Return the dim with the limit that values set, such as the rows of an embedding, if one is near.

        Meta tensors have no values, so an index beyond them passes there.
        """
        first, step = self.spec.sizes[name], dim.multiple_of
        low, high = first // step, (first + first // 4) // step + 1  # as far as a proof goes
        if dim.problem_with(high * step) or self._is_real(name, high * step):
            return dim
        between = range(low + 1, high)
        most = step * (
            low + bisect_left(between, True, key=lambda each: not self._is_real(name, each * step))
        )
        self.runs[name] = {size: each for size, each in self.runs[name].items() if size <= most}
        return replace(dim, max=most)

    def _is_real(self, name: str, size: int) -> bool:
        try:
            run(self.spec.with_sizes({name: size}), self._host, "cpu")
        except NnkitError:
            return False
        return True

    def _go_far(self, name: str, dim: Dim) -> None:
        """Run once at a size as far from the first as can be taken."""
        first, away = self.spec.sizes[name], FAR * dim.multiple_of
        while away >= dim.multiple_of:
            for size in (first + away, first - away):
                if not dim.problem_with(size) and self.at(name, size):
                    return
            away //= 2


def run(spec: ModelSpec, host: Host, device: str) -> Run:
    """Run a model on `cpu`, or on `meta` without memory for its weights; raises NnkitError where it fails."""
    try:
        return _run_on(spec, host, device)
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
    value = evaluate(module, spec.input_names, sample_inputs(spec, device=device))
    named = dict(zip(output_names(value), tensors_in(value), strict=True))
    return Run(
        {name: tuple(each.shape) for name, each in named.items()},
        {name: each.dtype for name, each in named.items()},
        sum(each.numel() for each in module.parameters()),
    )
