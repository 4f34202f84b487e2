"""What a module of the user's own returns, found by running it at several sizes: its outputs, axes named."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnkit.architecture import Architecture, TensorSpec
from nnkit.building import build_module
from nnkit.config import config_values
from nnkit.errors import NnkitError, first_line
from nnkit.exporting.sizes import traced_sizes
from nnkit.hookspecs import Host
from nnkit.sampling import sample_inputs
from nnkit.scaffold.expressions import find_product
from nnkit.spec import ModelSpec, make_spec
from nnkit.tensors import tensors_in

FAR = (64, 32, 16, 8, 4, 2)  # steps up, else down, to see what grows slowly: the first that can be taken


@dataclass(frozen=True)
class Run:
    """What one run returned: its tensors by name, and how many parameters the model has."""

    outputs: dict[str, Tensor]
    parameters: int


def find_outputs(architecture: Architecture, host: Host) -> tuple[tuple[TensorSpec, ...], int]:
    """Return what `forward` returns at the default options, and the number of parameters.

    An axis is named by the dim or the option whose size it has, or by arithmetic of a dim. Raises
    NnkitError where a run fails, or where an axis follows the sizes in a way that has no name.
    """
    runs = _Runs(make_spec(architecture), host)
    fields = _fields_that_lead(runs.spec, runs.plain, host)

    def declared(name: str, axis: int) -> int | str:
        found = runs.name_of(name, axis)
        return fields.get((name, axis), found) if isinstance(found, int) else found

    outputs = tuple(
        TensorSpec(
            name,
            tuple(declared(name, axis) for axis in range(tensor.ndim)),
            "float" if tensor.dtype is torch.float32 else str(tensor.dtype).removeprefix("torch."),
        )
        for name, tensor in runs.plain.outputs.items()
    )
    return outputs, runs.plain.parameters


class _Runs:
    """A model at its first sizes, and at others that differ from them in one dim.

    spec: at the first sizes. plain: what it returned there.
    """

    def __init__(self, spec: ModelSpec, host: Host) -> None:
        self._dims = spec.architecture.dims_for(spec.config)
        self._base = traced_sizes(self._dims, {})
        self._host = host
        self.spec = spec.with_sizes(self._base)
        self.plain = run(self.spec, host)
        self._runs = {name: {size: self.plain} for name, size in self._base.items()}
        for name, dim in self._dims.items():
            self._run(name, traced_sizes({name: dim}, {name: self._base[name] + 1})[name])
            far = (self._base[name] + steps * dim.multiple_of for steps in (*FAR, *(-each for each in FAR)))
            next((size for size in far if self._try(name, size)), None)

    def name_of(self, output: str, axis: int) -> int | str:
        """Return what an axis is declared by: the size that it has always, or how it follows the dims."""
        every = [each for runs in self._runs.values() for each in runs.values()]
        if any(_axes(each) != _axes(self.plain) for each in every):
            raise NnkitError("what it returns depends on the sizes of its inputs", "declare outputs by hand")
        seen = {
            name: {size: each.outputs[output].shape[axis] for size, each in runs.items()}
            for name, runs in self._runs.items()
        }
        moving = {name: sizes for name, sizes in seen.items() if len(set(sizes.values())) > 1}
        if not moving:
            return self.plain.outputs[output].shape[axis]

        def ask(name: str, size: int) -> int | None:
            found = self._try(name, size)
            return found.outputs[output].shape[axis] if found else None

        between = {
            name: range(min(sizes), max(sizes), self._dims[name].multiple_of)
            for name, sizes in moving.items()
        }
        if expression := find_product(moving, between, ask):
            return expression
        found = ", ".join(
            f"{each} at {name}={size}" for name in moving for size, each in moving[name].items()
        )
        raise NnkitError(
            f"axis {axis} of {output!r} follows the sizes in a way that has no name: {found}",
            "fix that axis of the input (x: float32[batch, 32]), or declare the outputs by hand",
        )

    def _run(self, name: str, size: int) -> Run:
        runs = self._runs[name]
        if size not in runs:
            runs[size] = run(self.spec.with_sizes({name: size}), self._host)
        return runs[size]

    def _try(self, name: str, size: int) -> Run | None:
        """Run with another size of a dim; None where it can't be, whether or not it is declared so."""
        if self._dims[name].problem_with(size):
            return None
        try:
            return self._run(name, size)
        except NnkitError:
            return None


def _axes(found: Run) -> dict[str, int]:
    return {name: tensor.ndim for name, tensor in found.outputs.items()}


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
        value = module(*sample_inputs(spec, device=device))
    return Run(_named(value), sum(each.numel() for each in module.parameters()))


def _named(value: Any) -> dict[str, Tensor]:
    """Return the tensors of what forward returned, by the names that it has for them."""
    tensors = list(tensors_in(value))
    if isinstance(value, dict) and all(isinstance(each, Tensor) for each in value.values()):
        return {str(key): each for key, each in value.items()}
    if len(tensors) == 1:
        return {"output": tensors[0]}
    return {f"output_{place}": each for place, each in enumerate(tensors)}


def _fields_that_lead(spec: ModelSpec, plain: Run, host: Host) -> dict[tuple[str, int], str]:
    """Return the option that each axis follows: twice as large where the option is."""
    found: dict[tuple[str, int], str] = {}
    for field, value in config_values(spec.config).items():
        axes = [
            (name, axis)
            for name, tensor in plain.outputs.items()
            for axis, size in enumerate(tensor.shape)
            if size == value and not isinstance(value, bool)
        ]
        if not axes:
            continue
        try:
            doubled = run(make_spec(spec.architecture, options={**spec.sizes, field: 2 * value}), host)
            found |= {
                (name, axis): field for name, axis in axes if doubled.outputs[name].shape[axis] == 2 * value
            }
        except (NnkitError, KeyError, IndexError):  # an option that doesn't go with the others
            continue
    return found
