"""The check of padding: what lies behind the end of a sequence changes nothing before it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.axes import terms_of
from nnkit.contract.text import name_output, plural
from nnkit.models.sampling import Inputs
from nnkit.verbs.smoke.judging import difference, tolerance_of
from nnkit.verbs.smoke.positions import Span, depends_on, is_unaligned, spans_of
from nnkit.verbs.smoke.subject import NOT_DECLARED, Failed, Outputs, Skipped, Subject

HIDING = ("mask", "suffix")  # masks in which True marks the padding
KEEPING = ("keep", "prefix")  # masks in which it marks the rest
APPENDED = 3  # positions of padding


def padding(subject: Subject) -> str:
    """What lies in padding, and how much of it there is, changes no output outside of it."""
    names = list(subject.spec.architecture.padding)
    if not names:
        raise Skipped(NOT_DECLARED)
    markers = [tensor for tensor in subject.spec.inputs if tensor.name in names]
    if not markers:
        raise Skipped(f"{' and '.join(names)} is left out")
    done = []
    with subject.noise():
        module = subject.copy()
        for marker in markers:
            if count := _replace_padding(subject, module, marker):
                done.append(f"{plural(count, 'input')} replaced behind {marker.name}")
            if not subject.is_random and _append_padding(subject, module, marker):
                done.append(f"padding appended by {marker.name}")
    if not done:
        raise Skipped(f"nothing lies behind {' or '.join(names)} that could be changed")
    return ", ".join(done)


@dataclass(frozen=True)
class Hidden:
    """Which positions are padding: `mask` is True there, and its axes are named; the last one is padded."""

    mask: Tensor
    axes: tuple[int | str, ...]

    def spread_over(self, subject: Subject, declared: TensorSpec, tensor: Tensor) -> Tensor | None:
        """Return which elements of a tensor lie in the padding; None where no axis of it has padding.

        The mask of `past + time` hides in a tensor along `time` what its second part does. An axis that only
        the mask has, such as one for heads, must hide a position everywhere.
        """
        found = None
        start = 0
        for term in terms_of(self.axes[-1]):
            length = subject.size_of(term)
            for span in spans_of(subject, declared, term) if isinstance(term, str) else ():
                part = self._lay_along(declared, tensor, span, start)
                found = part if found is None else found | part
            start += length
        return found

    def _lay_along(self, declared: TensorSpec, tensor: Tensor, span: Span, start: int) -> Tensor:
        """Return the part of the mask from `start` on, laid along a span of a tensor and its other axes."""
        mask, axes = self.mask.narrow(-1, start, span.length), list(self.axes)
        for axis in reversed(range(len(axes) - 1)):
            if axes[axis] not in declared.shape:
                mask = mask.all(axis)
                del axes[axis]
        # To the tensor's axes, in its order, each of the others of length 1.
        places = [*(declared.shape.index(axis) for axis in axes[:-1]), span.axis]
        order = sorted(range(len(places)), key=places.__getitem__)
        shape = [1] * tensor.ndim
        for axis in order:
            shape[places[axis]] = mask.shape[axis]
        laid = mask.permute(order).reshape(shape)
        covered = torch.zeros_like(tensor, dtype=torch.bool)
        covered.narrow(span.axis, span.start, span.length).copy_(
            laid.expand_as(covered.narrow(span.axis, span.start, span.length))
        )
        return covered


def _find_hidden(subject: Subject, marker: TensorSpec, tensor: Tensor) -> Hidden:
    """Return what an input marks as padding. Raises Failed for one that marks none."""
    if marker.padding is not None:
        return Hidden(tensor == marker.padding, marker.shape)
    if marker.sample == "lengths":
        axis = _padded_axis(marker)
        steps = torch.arange(subject.size_of(axis), device=tensor.device)
        return Hidden(steps >= tensor.unsqueeze(-1), (*marker.shape, axis))
    if marker.sample in HIDING:
        return Hidden(tensor != 0, marker.shape)
    if marker.sample in KEEPING:
        return Hidden(tensor == 0, marker.shape)
    raise Failed(
        f"{marker.name} is declared to mark padding, but it is no mask, no lengths, "
        "and no integers with a `padding` value"
    )


def outside_padding(subject: Subject, inputs: Inputs, declared: TensorSpec, output: Tensor) -> Tensor:
    """Return which elements of an output lie in no padding; all where none is declared."""
    kept = torch.ones_like(output, dtype=torch.bool)
    for marker, tensor in zip(subject.spec.inputs, inputs, strict=True):
        if marker.name in subject.spec.architecture.padding:
            hidden = _find_hidden(subject, marker, tensor).spread_over(subject, declared, output)
            kept = kept if hidden is None else kept & ~hidden
    return kept


def _replace_padding(subject: Subject, module: nn.Module, marker: TensorSpec) -> int:
    """Replace what the other inputs hold in the padding; return how many inputs that changed."""
    inputs, others = subject.inputs(), subject.inputs(seed=1)
    index = subject.spec.inputs.index(marker)
    hidden = _find_hidden(subject, marker, inputs[index])
    mixed, changed = list(inputs), 0
    for position, declared in enumerate(subject.spec.inputs):
        if not _may_change(subject, declared, inputs[position]):
            continue
        where = hidden.spread_over(subject, declared, inputs[position])
        if where is not None and where.any():
            mixed[position] = torch.where(where, others[position], inputs[position])
            changed += 1
    if changed:
        outputs, others_out = subject.evaluate(module, inputs), subject.evaluate(module, mixed)
        _compare_outside(subject, hidden, outputs, others_out, f"what lies behind {marker.name}")
    return changed


def _may_change(subject: Subject, declared: TensorSpec, tensor: Tensor) -> bool:
    """Whether an input has values of its own in the padding: it is no mask, and marks none itself."""
    if declared.name in subject.spec.architecture.padding:
        return False
    return tensor.is_floating_point() or declared.sample == "index"


def _compare_outside(subject: Subject, hidden: Hidden, outputs: Outputs, others: Outputs, what: str) -> None:
    """Raise Failed where an output changed outside of the padding; one without padding, anywhere."""
    dims = [str(term) for term in terms_of(hidden.axes[-1])]
    for (declared, tensor), (_, other) in zip(outputs, others, strict=True):
        where = hidden.spread_over(subject, declared, tensor)
        if where is None and any(depends_on(declared, dim) for dim in dims):
            continue  # `time // 2`: its positions are not those of the inputs
        kept = torch.ones_like(tensor, dtype=torch.bool) if where is None else ~where
        apart = difference(tensor[kept], other[kept])
        if apart > tolerance_of(tensor):
            raise Failed(f"{what} changes {name_output(declared.name)} before it, by {apart:.2g}× its spread")


def _append_padding(subject: Subject, module: nn.Module, marker: TensorSpec) -> bool:
    """Run again with more padding at the end. Return False where the sizes allow no more."""
    dim = terms_of(_padded_axis(marker))[-1]
    sizes = _find_lengths(subject, str(dim))
    if sizes is None or any(is_unaligned(declared, str(dim)) for declared in subject.spec.inputs):
        return False
    short, long = (subject.at({**subject.sizes, str(dim): size}) for size in sizes)
    inputs = short.inputs()
    extended = tuple(
        _extend(short, long, declared, tensor, other, str(dim))
        for declared, tensor, other in zip(subject.spec.inputs, inputs, long.inputs(seed=1), strict=True)
    )
    outputs, longer = short.evaluate(module, inputs), long.evaluate(module, extended)
    others = [
        (declared, other[_kept(short, long, declared, str(dim))])
        for (declared, tensor), (_, other) in zip(outputs, longer, strict=True)
        if not is_unaligned(declared, str(dim))
    ]
    outputs = [pair for pair in outputs if not is_unaligned(pair[0], str(dim))]
    hidden = _find_hidden(short, marker, inputs[subject.spec.inputs.index(marker)])
    _compare_outside(short, hidden, outputs, others, f"more padding by {marker.name}")
    return True


def _padded_axis(marker: TensorSpec) -> int | str:
    """Return the axis, or the dim, along which an input marks padding."""
    counts = marker.sample == "lengths" and marker.index_of is not None
    return marker.index_of if counts else marker.shape[-1]  # type: ignore[return-value]


def _find_lengths(subject: Subject, dim: str) -> tuple[int, int] | None:
    """Return two sizes of a dim that the others go with, the second one larger; None where there are none."""
    if dim not in subject.sizes:
        return None
    size, step = subject.sizes[dim], subject.spec.dims[dim].multiple_of
    for short, long in ((size, size + APPENDED * step), (size, size + step), (size - step, size)):
        if all(subject.allows({**subject.sizes, dim: length}) for length in (short, long)):
            return short, long
    return None


def _kept(short: Subject, long: Subject, declared: TensorSpec, dim: str) -> tuple[Tensor, ...]:
    """Return the index of what a longer tensor shares with the shorter one."""
    positions = [torch.arange(long.size_of(axis)) for axis in declared.shape]
    for span in spans_of(short, declared, dim):
        end = span.start + span.length
        appended = long.size_of(dim) - span.length
        positions[span.axis] = torch.cat([positions[span.axis][:end], positions[span.axis][end + appended :]])
    return torch.meshgrid(*positions, indexing="ij") if positions else ()


def _extend(
    short: Subject, long: Subject, declared: TensorSpec, tensor: Tensor, longer: Tensor, dim: str
) -> Tensor:
    """Return an input with more at its end: what `longer` has there, or in a marker of padding more of it."""
    extended = longer.clone()
    fillers = {**dict.fromkeys(HIDING, 1), **dict.fromkeys(KEEPING, 0)}
    filler = declared.padding
    if filler is None and declared.name in short.spec.architecture.padding:
        filler = fillers.get(str(declared.sample))
    if filler is not None and spans_of(short, declared, dim):
        extended.fill_(filler)
    extended[_kept(short, long, declared, dim)] = tensor
    return extended
