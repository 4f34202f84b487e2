"""What a module of the user's own returns, found by running it at two sizes: its outputs, axes named."""

from collections.abc import Mapping
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
from nnkit.spec import ModelSpec, make_spec
from nnkit.tensors import tensors_in


@dataclass(frozen=True)
class Run:
    """What one run returned: its tensors by name, and how many parameters the model has."""

    outputs: dict[str, Tensor]
    parameters: int


def find_outputs(architecture: Architecture, host: Host) -> tuple[tuple[TensorSpec, ...], int]:
    """Return what `forward` returns at the default options, and the number of parameters.

    An axis is named by the dim or the option whose size it has in both runs. Raises NnkitError where a
    run fails, or where an axis follows the sizes in a way that has no name.
    """
    spec = make_spec(architecture)
    dims = architecture.dims_for(spec.config)
    small = traced_sizes(dims, {})
    large = traced_sizes(dims, {name: size + 1 for name, size in small.items()})
    one, other = (run(spec.with_sizes(sizes), host) for sizes in (small, large))
    if list(one.outputs) != list(other.outputs):
        raise NnkitError("what it returns depends on the sizes of its inputs", "declare outputs by hand")
    fields = _fields_that_lead(spec.with_sizes(small), one, host)
    outputs = tuple(
        TensorSpec(
            name,
            tuple(
                _axis(name, axis, sizes, (small, large), fields)
                for axis, sizes in enumerate(zip(tensor.shape, other.outputs[name].shape, strict=True))
            ),
            "float" if tensor.dtype is torch.float32 else str(tensor.dtype).removeprefix("torch."),
        )
        for name, tensor in one.outputs.items()
    )
    return outputs, one.parameters


def _axis(
    name: str,
    axis: int,
    sizes: tuple[int, int],
    assignments: tuple[Mapping[str, int], Mapping[str, int]],
    fields: Mapping[tuple[str, int], str],
) -> int | str:
    small, large = assignments
    if sizes[0] == sizes[1]:
        return fields.get((name, axis), sizes[0])
    for dim in small:
        if (small[dim], large[dim]) == sizes:
            return dim
    moved = " and ".join(f"{size} at {dict(at)}" for size, at in zip(sizes, assignments, strict=True))
    raise NnkitError(
        f"axis {axis} of {name!r} has a size that is no dim's: {moved}",
        "nnkit declares outputs by dims and options: fix that axis: x: float32[batch, 32]",
    )


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
