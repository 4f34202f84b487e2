"""Runs of a user's module at several sizes: what it returns, and which sizes it allows."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from nnkit.authoring.scaffold.expressions import divisors
from nnkit.contract.architecture import ResolvedDim
from nnkit.contract.config import config_values
from nnkit.contract.requests import Host
from nnkit.contract.spec import ModelSpec, make_spec
from nnkit.errors import NnkitError, first_line
from nnkit.models.building import build_module
from nnkit.models.outputs import declarations_of
from nnkit.models.running import evaluate
from nnkit.models.sampling import sample_inputs
from nnkit.models.tensors import registered, tensors_in

LARGEST_STEP = 64
FAR = 64  # steps away from the first size, where even an axis that grows slowly has changed
MAX_PARAMETERS = 2 * 10**8  # of a model that is also run with values, which meta tensors don't have


@dataclass(frozen=True)
class Run:
    """The shapes and dtypes that one run returned, by name, and the number of parameters of the model."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    parameters: int


class Trials:
    """A model at the sizes of `spec`, and at sizes that differ from these in one dim.

    plain: the run at the sizes of `spec`. dims: with the limits that were found. runs: for each dim, the run
    at each size that works. Raises NnkitError where a dim works at only one size.
    """

    def __init__(self, spec: ModelSpec, host: Host) -> None:
        self.spec, self._host, self._device = spec, host, "meta"  # without memory, where that works
        try:
            self.plain = _run_on(spec, host, "meta")
        except Exception:
            self._device = "cpu"
            self.plain = self.run(spec)
        self.runs = {name: {size: self.plain} for name, size in spec.sizes.items()}
        self.dims: dict[str, ResolvedDim] = {}
        for name, dim in spec.dims.items():
            limited = self._find_minimum(name, self._find_step(name, dim))
            if self._device == "meta" and self.can_run_with_values:
                limited = self._find_maximum(name, limited)
            self.dims[name] = limited
            self._run_far_away(name, limited)

    def run(self, spec: ModelSpec) -> Run:
        """Run the model with other sizes or options; raises NnkitError where it fails."""
        return run(spec, self._host, self._device)

    def with_options(self, options: Mapping[str, Any], sizes: Mapping[str, int] | None = None) -> ModelSpec:
        """Return the spec with other options and sizes; raises NnkitError where they don't go together."""
        chosen = {**self.spec.sizes, **(sizes or {}), **options}
        return make_spec(self.spec.architecture, options=chosen)

    def works(self, options: Mapping[str, Any], sizes: Mapping[str, int], with_values: bool = False) -> bool:
        """Whether the model runs with these options and sizes; with_values: also on values."""
        device = "cpu" if with_values else self._device
        try:
            run(self.with_options(options, sizes), self._host, device)
        except NnkitError:
            return False
        return True

    @property
    def can_run_with_values(self) -> bool:
        """Whether a run with values costs little."""
        return self.plain.parameters <= MAX_PARAMETERS

    def works_without(self, name: str) -> bool:
        """Whether the model runs without an optional input."""
        try:
            self.run(self.spec.with_inputs([name]))
        except NnkitError:
            return False
        return True

    @property
    def plain_values(self) -> dict[str, int]:
        """The values of the dims and integer options at the sizes of `spec`."""
        options = config_values(self.spec.config)
        return {**{name: value for name, value in options.items() if type(value) is int}, **self.spec.sizes}

    def table_sizes(self) -> set[int]:
        """Return the sizes of all axes of the parameters and buffers."""
        module = build_module(self.spec, self._host, self._device)
        return {size for tensor in registered(module).values() for size in tensor.shape}

    def at(self, name: str, size: int) -> Run | None:
        """Return the run at a size of a dim; None where it fails or returns an empty tensor."""
        if size not in self.runs[name]:
            try:
                run = self.run(self.spec.with_sizes({name: size}))
            except NnkitError:
                return None
            if any(0 in shape for shape in run.shapes.values()):
                return None
            self.runs[name][size] = run
        return self.runs[name][size]

    def _find_step(self, name: str, dim: ResolvedDim) -> ResolvedDim:
        """Return the dim with the smallest step to a size that works; with a limit if only smaller do."""
        first = self.spec.sizes[name]
        small_divisors = [divisor for divisor in divisors(first) if divisor <= LARGEST_STEP]
        steps = [dim.multiple_of] if dim.multiple_of > 1 else small_divisors
        for step in steps:
            if not dim.problem_with(first + step) and self.at(name, first + step):
                return replace(dim, multiple_of=step)
        for step in steps:
            if not dim.problem_with(first - step) and self.at(name, first - step):
                return replace(dim, multiple_of=step, max=first)
        self.run(self.spec.with_sizes({name: first + steps[0]}))  # raises the reason
        return dim

    def _find_minimum(self, name: str, dim: ResolvedDim) -> ResolvedDim:
        """Return the dim with the smallest size that works, if all sizes from there to the first do."""
        step = dim.multiple_of
        low, high = dim.least // step, self.spec.sizes[name] // step
        if self.at(name, low * step):
            return dim
        between = range(low + 1, high)
        index = bisect_left(between, True, key=lambda steps: self.at(name, steps * step) is not None)
        return replace(dim, min=(low + 1 + index) * step)

    def _find_maximum(self, name: str, dim: ResolvedDim) -> ResolvedDim:
        """Return the dim with the limit that values set, such as the rows of an embedding, if it is near.

        Meta tensors have no values, so an index out of range isn't noticed there.
        """
        first, step = self.spec.sizes[name], dim.multiple_of
        low, high = first // step, (first + first // 4) // step + 1  # as far as a proof goes
        if dim.problem_with(high * step) or self._works_with_values(name, high * step):
            return dim
        between = range(low + 1, high)
        index = bisect_left(between, True, key=lambda steps: not self._works_with_values(name, steps * step))
        largest = (low + index) * step
        self.runs[name] = {size: run for size, run in self.runs[name].items() if size <= largest}
        return replace(dim, max=largest)

    def _works_with_values(self, name: str, size: int) -> bool:
        return self.works({}, {name: size}, with_values=True)

    def _run_far_away(self, name: str, dim: ResolvedDim) -> None:
        """Run once at a size as far from the first as works."""
        first, distance = self.spec.sizes[name], FAR * dim.multiple_of
        while distance >= dim.multiple_of:
            for size in (first + distance, first - distance):
                if not dim.problem_with(size) and self.at(name, size):
                    return
            distance //= 2


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
            "declare the sizes it allows: time=32 min=8 max=64 multiple_of=8, or a number for the axis",
        ) from error


def _run_on(spec: ModelSpec, host: Host, device: str) -> Run:
    module = build_module(spec, host, device)
    value = evaluate(module, spec.signature, sample_inputs(spec, device=device))
    names = map(str, declarations_of(value, (), spec.input_names))  # none is declared yet
    named = dict(zip(names, tensors_in(value), strict=True))
    return Run(
        {name: tuple(tensor.shape) for name, tensor in named.items()},
        {name: tensor.dtype for name, tensor in named.items()},
        sum(parameter.numel() for parameter in module.parameters()),
    )
