"""Find out by running which sizes the axes of guessed inputs may have, and say so in their declarations.

x: float32[batch, 3, height, width]   ->   x: float32[batch, 3, height=224 min=32 multiple_of=32, …]
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from torch import Tensor, nn

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.spec import ModelSpec
from nnkit.models.assumed import Axis, Found, FreeAxis, find_free_axes
from nnkit.models.dim_names import name_dims
from nnkit.models.examples import Example
from nnkit.models.sampling import sample_inputs

SAMPLES = 4  # of a batch, so that smaller and larger ones can be tried
LONGER = (
    16,
    32,
    64,
    128,
    256,
    512,
    1024,
)  # lengths to try of a sequence, for the end of a table of positions
USUAL = 8  # the size of an axis of which nothing else is known


def declare_axes(
    module: nn.Module,
    spec: ModelSpec,
    declared: Collection[str],
    examples: Mapping[str, Tensor] | None,
    runs: Callable[[str, int], bool],
) -> dict[str, str]:
    """Return the inputs of a spec as typed, with a number for each axis that can't vary.

    declared: the dims that the user declared. examples: tensors to try with, of which any axis may turn out
    to vary; by default they are drawn, and only axes with a name may. runs: whether the module runs at that
    size of a dim.
    """
    are_drawn = examples is None
    if examples is None:
        sizes = {"batch": SAMPLES} if "batch" in spec.dims else {}
        examples = dict(zip(spec.input_names, sample_inputs(spec, sizes=sizes), strict=True))
    wrapped = {name: Example(tensor) for name, tensor in examples.items()}
    found = find_free_axes(module, spec.signature, wrapped)
    free = _name_axes(spec, found, wrapped)
    said: set[str] = set()

    def declare(tensor: TensorSpec, index: int) -> str:
        axis, size = tensor.shape[index], examples[tensor.name].shape[index]
        if axis in declared:
            return str(axis)
        name, limits = free.get((tensor.name, index), (axis, None))
        if are_drawn and isinstance(axis, int):
            limits = None
        if limits is None and axis != "batch":
            return str(size)
        if name in said:
            return str(name)
        said.add(str(name))
        return "batch" if axis == "batch" else _sized(str(name), size, limits, runs)

    def values(tensor: TensorSpec) -> str:
        coupling = found.coupled.get(tensor.name)
        if coupling is None or coupling.axis not in free:
            return _values(tensor)
        dim, _ = free[coupling.axis]
        return f" in 1..{dim}" if coupling.counts else f" < {dim}"

    return {
        tensor.name: f"{tensor.name}: {tensor.dtype}"
        f"[{', '.join(declare(tensor, index) for index in range(len(tensor.shape)))}]{values(tensor)}"
        for tensor in spec.inputs
    }


def _name_axes(
    spec: ModelSpec, found: Found, examples: Mapping[str, Example]
) -> dict[Axis, tuple[str, FreeAxis | None]]:
    """Return the name of each axis that varies, the one that it has if there is one, and its limits."""
    own = {
        (tensor.name, index): axis
        for tensor in spec.inputs
        for index, axis in enumerate(tensor.shape)
        if isinstance(axis, str)
    }
    free: dict[Axis, tuple[str, FreeAxis | None]] = {}
    for name, limits in name_dims(found, examples):
        own_name = next((own[axis] for axis in sorted(limits.axes) if axis in own), name)
        free |= dict.fromkeys(limits.axes, (own_name, limits))
    return free


def _sized(name: str, size: int, found: FreeAxis | None, runs: Callable[[str, int], bool]) -> str:
    """Return an axis as typed where it is first named: `height=224 min=32 multiple_of=32`."""
    if found is None:
        return name
    if name == "time" and found.max is None:
        found = replace(found, max=_longest(name, runs))
    bounds = f" min={found.min}" if found.min > max(1, found.multiple_of) else ""
    bounds += f" max={found.max}" if found.max is not None else ""
    bounds += f" multiple_of={found.multiple_of}" if found.multiple_of > 1 else ""
    return f"{name}={size}{bounds}" if bounds or size != USUAL or name == "batch" else name


def _longest(name: str, runs: Callable[[str, int], bool]) -> int | None:
    """Return the longest sequence that runs, if it isn't longer than those that are tried."""
    fits = USUAL
    for length in LONGER:
        if runs(name, length):
            fits = length
            continue
        fails = length
        while fails - fits > 1:
            middle = (fits + fails) // 2
            fits, fails = (middle, fails) if runs(name, middle) else (fits, middle)
        return fits
    return None


def _values(tensor: TensorSpec) -> str:
    """Return what is typed behind the axes: `< 100`, `in 1..time`."""
    if tensor.sample == "index":
        return f" < {tensor.index_of}"
    return f" in {tensor.least}..{tensor.index_of}" if tensor.sample == "lengths" else ""
