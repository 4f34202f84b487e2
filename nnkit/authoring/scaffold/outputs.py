"""The outputs of a user's module, with named axes, found by running it at several sizes and options."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from nnkit.authoring.scaffold.expressions import find_product, find_sum
from nnkit.authoring.scaffold.limits import find_constraints, follow_options
from nnkit.authoring.scaffold.trials import Run, Trials
from nnkit.contract.architecture import Architecture, Dim, TensorSpec
from nnkit.contract.axes import size_of
from nnkit.contract.config import config_values
from nnkit.contract.requests import Host
from nnkit.contract.spec import make_spec
from nnkit.errors import NnkitError
from nnkit.models.precision import name_of


@dataclass(frozen=True)
class Findings:
    """What runs showed.

    outputs: of forward. dims: with their limits. constraints: on sums of dims. required: the optional inputs
    that forward needs. parameters: how many the model has.
    """

    outputs: tuple[TensorSpec, ...]
    dims: Mapping[str, Dim]
    constraints: tuple[str, ...]
    required: tuple[str, ...]
    parameters: int


def find_outputs(architecture: Architecture, host: Host) -> Findings:
    """Return the outputs of `forward`, the sizes that it allows, and the optional inputs that it needs.

    Each axis is a dim, an option, or arithmetic of these. Raises NnkitError where a run fails, or where an
    axis depends on the sizes in a way that can't be expressed.
    """
    trials = Trials(make_spec(architecture), host)
    axes = _Axes(trials)
    outputs = [
        TensorSpec(
            name,
            tuple(axes.declare(name, axis) for axis in range(len(shape))),
            _name_dtype(trials.plain.dtypes[name]),
        )
        for name, shape in trials.plain.shapes.items()
    ]
    required = tuple(name for name in trials.spec.optional_inputs if not trials.works_without(name))
    dims = follow_options(trials)
    return Findings(tuple(outputs), dims, find_constraints(trials, dims), required, trials.plain.parameters)


def _name_dtype(dtype: torch.dtype) -> str:
    return "float" if dtype is torch.float32 else name_of(dtype)


@dataclass(frozen=True)
class _Varied:
    """A run in which one option is doubled, with the values of all dims and options."""

    option: str
    run: Run
    values: Mapping[str, int]


class _Axes:
    """Declares each axis of the outputs."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._varied = _double_options(trials)
        inputs = trials.spec.declared_inputs
        computed = {axis for tensor in inputs for axis in tensor.shape if isinstance(axis, str)}
        self._of_inputs = sorted(computed - trials.dims.keys() - trials.plain_values.keys())
        all_runs = [run for runs in trials.runs.values() for run in runs.values()]
        if any(_count_axes(run) != _count_axes(trials.plain) for run in all_runs):
            raise NnkitError(
                "the number of outputs or axes depends on the sizes of the inputs",
                "declare the outputs by hand",
            )

    def declare(self, output: str, axis: int) -> int | str:
        """Return the size of an axis, as a number where nothing that was tried changes it."""
        seen = {
            name: {size: run.shapes[output][axis] for size, run in runs.items()}
            for name, runs in self._trials.runs.items()
        }
        for expression in self._of_inputs:  # a cache grows as the mask does
            if self._explains(expression, output, axis, seen):
                return expression
        changing = {name: sizes for name, sizes in seen.items() if len(set(sizes.values())) > 1}
        if changing:
            return self._express(output, axis, changing)
        return self._name_options(output, axis)

    def _explains(
        self, expression: str, output: str, axis: int, seen: Mapping[str, Mapping[int, int]]
    ) -> bool:
        """Whether an expression has the size of the axis in every run, and changes in some of them."""
        plain = self._trials.plain_values
        pairs = [
            (size_of(expression, {**plain, name: size}), axis_size)
            for name, sizes in seen.items()
            for size, axis_size in sizes.items()
        ]
        pairs += [
            (size_of(expression, varied.values), _size(varied.run, output, axis) or 0)
            for varied in self._varied
        ]
        return all(left == right for left, right in pairs) and len(set(pairs)) > 1

    def _express(self, output: str, axis: int, changing: Mapping[str, Mapping[int, int]]) -> str:
        """Return an expression of the dims that change an axis; raises NnkitError where none is found."""
        trials = self._trials

        def ask(name: str, size: int) -> int | None:
            run = trials.at(name, size)
            return run.shapes[output][axis] if run else None

        def ask_all(sizes: Mapping[str, int]) -> int | None:
            return _size(trials.run(trials.spec.with_sizes(sizes)), output, axis)

        between = {
            name: range(min(sizes), max(sizes), trials.dims[name].multiple_of)
            for name, sizes in changing.items()
        }
        found = find_product(changing, between, ask) or find_sum(changing, ask_all)
        if found:
            return found
        measured = ", ".join(
            f"{axis_size} at {name}={size}"
            for name, sizes in changing.items()
            for size, axis_size in sorted(sizes.items())
        )
        raise NnkitError(
            f"axis {axis} of {output!r} depends on the sizes in a way that can't be expressed: {measured}",
            "fix that axis of the input (x: float32[batch, 32]), or declare the outputs by hand",
        )

    def _name_options(self, output: str, axis: int) -> int | str:
        """Return an axis that no dim changes: a number, or a multiple of the options that it doubles with."""
        plain = self._trials.plain.shapes[output][axis]
        sizes = {varied.option: _size(varied.run, output, axis) for varied in self._varied}
        options = [option for option, size in sizes.items() if size == 2 * plain]
        changed = [option for option, size in sizes.items() if size not in (plain, None)]
        product = math.prod(self._trials.plain_values[option] for option in options)
        if not options or changed != options or not product or plain % product:
            return plain
        rest = [str(plain // product)] if plain > product else []
        return " * ".join([*rest, *options])


def _double_options(trials: Trials) -> Sequence[_Varied]:
    """Return a run with each integer option doubled, where the others allow it."""
    varied = []
    for option, value in config_values(trials.spec.config).items():
        if type(value) is not int or value < 1 or not _may_decide(value, trials.plain):
            continue
        try:
            spec = trials.with_options({option: 2 * value})
            run = trials.run(spec)
        except NnkitError:
            continue
        varied.append(_Varied(option, run, {**trials.plain_values, option: 2 * value}))
    return varied


def _may_decide(value: int, plain: Run) -> bool:
    """Whether some axis may be a multiple of an option with this value."""
    return any(size and size % value == 0 for shape in plain.shapes.values() for size in shape)


def _size(run: Run, output: str, axis: int) -> int | None:
    """Return the size of an axis, or None where a run has no such axis."""
    shape = run.shapes.get(output, ())
    return shape[axis] if axis < len(shape) else None


def _count_axes(run: Run) -> dict[str, int]:
    return {name: len(shape) for name, shape in run.shapes.items()}
