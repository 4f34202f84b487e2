"""Names for the dims that were found in example inputs: `batch`, `time`, `height`, or a number."""

from collections.abc import Iterator, Mapping

from nnkit.contract.config import RESERVED
from nnkit.models.assumed import Axis, Found, FreeAxis
from nnkit.models.examples import Example


def name_dims(found: Found, examples: Mapping[str, Example]) -> Iterator[tuple[str, FreeAxis]]:
    """Yield a name for each free dim: what its first axis means by custom, or a number."""
    taken = {*examples, *RESERVED}
    if found.batch is not None:
        yield _unused("batch", taken), found.batch
    for free in found.others:
        first = min(free.axes, key=lambda axis: (list(examples).index(axis[0]), axis[1]))
        yield _unused(_customary_name(first, found, examples), taken, first[0].replace(".", "_")), free


def _unused(name: str, taken: set[str], prefix: str = "") -> str:
    """Return a name that isn't taken yet, and take it: `time`, then `target_time` or `time_2`."""
    candidates: list[str] = [name, *([f"{prefix}_{name}"] if prefix and name[-1].isalpha() else ())]
    stem = name.rstrip("0123456789").rstrip("_")
    candidates += [f"{stem}_{number}" for number in range(1 if name != stem else 2, len(taken) + 3)]
    chosen = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(chosen)
    return chosen


def _customary_name(axis: Axis, found: Found, examples: Mapping[str, Example]) -> str:
    name, index = axis
    tensor = examples[name].tensor
    if name.rpartition(".")[2].startswith("edge") and not found.batch:
        return "edges"
    if any(axis in others.axes for others in found.others) and _is_indexed_by_pairs(axis, found, examples):
        return "nodes"
    free = sorted(
        other for others in found.others for tensor_name, other in others.axes if tensor_name == name
    )
    if tensor.ndim >= 4 and tensor.is_floating_point() and len(free) >= 2 and index in free[-2:]:
        return "height" if index == free[-2] else "width"
    if tensor.ndim == 3 and tensor.is_floating_point() and len(free) == 1:
        return "length" if index == 2 else "time"
    has_batch = found.batch is not None and (name, 0) in found.batch.axes
    if tensor.ndim == 2 and not tensor.is_floating_point() and index == 1 and has_batch:
        return "time"
    return "size_1"


def _is_indexed_by_pairs(axis: Axis, found: Found, examples: Mapping[str, Example]) -> bool:
    free = next(others for others in found.others if axis in others.axes)
    indexing = [name for name, coupling in found.coupled.items() if coupling.axis in free.axes]
    return any(examples[name].tensor.shape[:1] == (2,) for name in indexing)
