"""What a module of the user's own returns, found by running it at several sizes: its outputs, axes named."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nnkit.authoring.scaffold.expressions import find_product
from nnkit.authoring.scaffold.trials import Run, Trials
from nnkit.contract.architecture import Architecture, Dim, TensorSpec
from nnkit.contract.config import config_values
from nnkit.contract.requests import Host
from nnkit.contract.spec import make_spec
from nnkit.errors import NnkitError


@dataclass(frozen=True)
class Found:
    """What running a model at its default options showed: outputs, dims with their limits, parameters."""

    outputs: tuple[TensorSpec, ...]
    dims: Mapping[str, Dim]
    parameters: int


def find_outputs(architecture: Architecture, host: Host) -> Found:
    """Return what `forward` returns at the default options, and which sizes it takes.

    An axis is named by the dim or the option whose size it has, or by arithmetic of dims. Raises NnkitError
    where a run fails, or where an axis follows the sizes in a way that has no name.
    """
    trials = Trials(make_spec(architecture), host)
    plain = trials.plain
    fields = _fields_that_lead(trials)

    def declared(name: str, axis: int) -> int | str:
        found = _name_of(trials, name, axis)
        return fields.get((name, axis), found) if isinstance(found, int) else found

    outputs = tuple(
        TensorSpec(
            name,
            tuple(declared(name, axis) for axis in range(len(shape))),
            _dtype(plain.dtypes[name]),
        )
        for name, shape in plain.shapes.items()
    )
    return Found(outputs, trials.dims, plain.parameters)


def _dtype(kind: torch.dtype) -> str:
    return "float" if kind is torch.float32 else str(kind).removeprefix("torch.")


def _name_of(trials: Trials, output: str, axis: int) -> int | str:
    """Return what an axis is declared by: the size that it has always, or how it follows the dims."""
    every = [each for runs in trials.runs.values() for each in runs.values()]
    if any(_axes(each) != _axes(trials.plain) for each in every):
        raise NnkitError("what it returns depends on the sizes of its inputs", "declare outputs by hand")
    seen = {
        name: {size: each.shapes[output][axis] for size, each in runs.items()}
        for name, runs in trials.runs.items()
    }
    moving = {name: sizes for name, sizes in seen.items() if len(set(sizes.values())) > 1}
    if not moving:
        return trials.plain.shapes[output][axis]

    def ask(name: str, size: int) -> int | None:
        found = trials.at(name, size)
        return found.shapes[output][axis] if found else None

    between = {
        name: range(min(sizes), max(sizes), trials.dims[name].multiple_of) for name, sizes in moving.items()
    }
    if expression := find_product(moving, between, ask):
        return expression
    found = ", ".join(
        f"{each} at {name}={size}" for name in moving for size, each in sorted(moving[name].items())
    )
    raise NnkitError(
        f"axis {axis} of {output!r} follows the sizes in a way that has no name: {found}",
        "fix that axis of the input (x: float32[batch, 32]), or declare the outputs by hand",
    )


def _axes(found: Run) -> dict[str, int]:
    return {name: len(shape) for name, shape in found.shapes.items()}


def _fields_that_lead(trials: Trials) -> dict[tuple[str, int], str]:
    """Return the option that each axis follows: twice as large where the option is."""
    spec, found = trials.spec, dict[tuple[str, int], str]()
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
            found |= {(name, axis): field for name, axis in axes if doubled[name][axis] == 2 * value}
        except (NnkitError, KeyError, IndexError):  # an option that doesn't go with the others
            continue
    return found
