"""The outputs of a user's module, with named axes, found by running it at several sizes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nnkit.authoring.scaffold.expressions import find_product
from nnkit.authoring.scaffold.trials import Run, Trials
from nnkit.contract.architecture import Architecture, ResolvedDim, TensorSpec
from nnkit.contract.config import config_values
from nnkit.contract.requests import Host
from nnkit.contract.spec import make_spec
from nnkit.errors import NnkitError
from nnkit.models.precision import name_of


@dataclass(frozen=True)
class Findings:
    """What runs at the default options showed: outputs, dims with their limits, number of parameters."""

    outputs: tuple[TensorSpec, ...]
    dims: Mapping[str, ResolvedDim]
    parameters: int


def find_outputs(architecture: Architecture, host: Host) -> Findings:
    """Return the outputs of `forward` at the default options, and the sizes that it allows.

    Each axis is a dim, an option, or arithmetic of dims. Raises NnkitError where a run fails, or where an
    axis depends on the sizes in a way that can't be expressed.
    """
    trials = Trials(make_spec(architecture), host)
    plain = trials.plain
    options = _find_options(trials)

    def declare_axis(name: str, axis: int) -> int | str:
        expression = _find_expression(trials, name, axis)
        if isinstance(expression, int):  # no dim changes it, but an option may
            return options.get((name, axis), expression)
        return expression

    outputs = []
    for name, shape in plain.shapes.items():
        axes = tuple(declare_axis(name, axis) for axis in range(len(shape)))
        outputs.append(TensorSpec(name, axes, _name_dtype(plain.dtypes[name])))
    return Findings(tuple(outputs), trials.dims, plain.parameters)


def _name_dtype(dtype: torch.dtype) -> str:
    return "float" if dtype is torch.float32 else name_of(dtype)


def _find_expression(trials: Trials, output: str, axis: int) -> int | str:
    """Return the size of an axis where no dim changes it, or an expression of the dims that do."""
    all_runs = [run for runs in trials.runs.values() for run in runs.values()]
    if any(_count_axes(run) != _count_axes(trials.plain) for run in all_runs):
        raise NnkitError(
            "the number of outputs or axes depends on the sizes of the inputs", "declare the outputs by hand"
        )
    seen = {
        name: {size: run.shapes[output][axis] for size, run in runs.items()}
        for name, runs in trials.runs.items()
    }
    changing = {name: sizes for name, sizes in seen.items() if len(set(sizes.values())) > 1}
    if not changing:
        return trials.plain.shapes[output][axis]

    def ask(name: str, size: int) -> int | None:
        run = trials.at(name, size)
        return run.shapes[output][axis] if run else None

    between = {
        name: range(min(sizes), max(sizes), trials.dims[name].multiple_of) for name, sizes in changing.items()
    }
    if expression := find_product(changing, between, ask):
        return expression
    measured = ", ".join(
        f"{axis_size} at {name}={size}"
        for name, sizes in changing.items()
        for size, axis_size in sorted(sizes.items())
    )
    raise NnkitError(
        f"axis {axis} of {output!r} depends on the sizes in a way that can't be expressed: {measured}",
        "fix that axis of the input (x: float32[batch, 32]), or declare the outputs by hand",
    )


def _count_axes(run: Run) -> dict[str, int]:
    return {name: len(shape) for name, shape in run.shapes.items()}


def _find_options(trials: Trials) -> dict[tuple[str, int], str]:
    """Return the option that decides each axis: where the option is doubled, so is the axis."""
    spec, options = trials.spec, dict[tuple[str, int], str]()
    for field, value in config_values(spec.config).items():
        axes = [
            (name, axis)
            for name, shape in trials.plain.shapes.items()
            for axis, size in enumerate(shape)
            if size == value and not isinstance(value, bool)
        ]
        if not axes:
            continue
        try:
            doubled = trials.run(
                make_spec(spec.architecture, options={**spec.sizes, field: 2 * value})
            ).shapes
            options |= {(name, axis): field for name, axis in axes if doubled[name][axis] == 2 * value}
        except (NnkitError, KeyError, IndexError):  # the doubled option conflicts with others
            continue
    return options
