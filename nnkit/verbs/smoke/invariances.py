"""Checks of what an architecture declares that its outputs do not depend on, along dims.

Values are compared on a copy with a little noise on every parameter: a head or a gate that starts at zero
would hide every difference.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.axes import names_in
from nnkit.contract.text import name_output, plural
from nnkit.verbs.smoke.judging import difference, tolerance_of
from nnkit.verbs.smoke.padding import outside_padding
from nnkit.verbs.smoke.positions import Span, depends_on, is_unaligned, spans_of, take
from nnkit.verbs.smoke.subject import NOT_DECLARED, Failed, FirstRun, Outputs, Skipped, Subject

COUNTS = ("lengths", "prefix", "suffix")  # samples that say where a sequence ends


def causality(subject: Subject) -> str:
    """Along the dim that is declared causal, no output depends on a later input."""
    dim = subject.spec.architecture.causal
    if not dim:
        raise Skipped(NOT_DECLARED)
    _require_dim(subject, dim)
    with subject.noise():
        return _cut(subject, dim, subject.first_run())


def _cut(subject: Subject, dim: str, first: FirstRun) -> str:
    """Change the inputs after two cuts along a dim. Raises Failed where outputs before a cut change."""
    length, inputs, others = subject.sizes[dim], subject.inputs(), subject.inputs(seed=1)
    module, outputs = first.module, first.outputs
    if not any(_runs_along(subject, axis, dim) for declared, _ in outputs for axis in declared.shape):
        raise Skipped(f"no output runs along {dim}")
    for cut in (length - 1, length // 2):
        mixed = [
            _replace_after(subject, declared, tensor, other, cut)
            for declared, tensor, other in zip(subject.spec.inputs, inputs, others, strict=True)
        ]
        changed = subject.evaluate(module, mixed)
        for (declared, tensor), (_, other) in zip(outputs, changed, strict=True):
            kept = outside_padding(subject, inputs, declared, tensor)
            before, after = (
                _before(subject, declared, values.masked_fill(~kept, 0), cut) for values in (tensor, other)
            )
            if difference(before, after) > tolerance_of(tensor):
                raise Failed(f"{name_output(declared.name)} before {dim} {cut} depends on inputs after it")
    return f"outputs along {dim}, cut at {length - 1} and {length // 2}"


def _require_dim(subject: Subject, dim: str, least: int = 2) -> None:
    """Raise Skipped where the inputs lack a dim, or where it has too few positions."""
    if dim not in subject.sizes:
        raise Skipped(f"the inputs have no dim named {dim}")
    if subject.sizes[dim] < least:
        raise Skipped(f"{dim} has only {plural(subject.sizes[dim], 'position')} here")


def _replace_after(subject: Subject, declared: TensorSpec, tensor: Tensor, other: Tensor, cut: int) -> Tensor:
    """Return `tensor` up to the cut along the causal dim, and `other` from there on."""
    dim = subject.spec.architecture.causal
    if not any(_runs_along(subject, axis, dim) for axis in declared.shape):
        return tensor.clone()
    mixed = other.clone()
    _before(subject, declared, mixed, cut).copy_(_before(subject, declared, tensor, cut))
    return mixed


def _before(subject: Subject, declared: TensorSpec, tensor: Tensor, cut: int) -> Tensor:
    """Return the part of a tensor that belongs to inputs before the cut along the causal dim.

    An axis may be an expression of the dim, such as `time // 2` or `past + time`: its part before the cut is
    as long as the axis is when the dim has the size of the cut. Of a tensor without such an axis, nothing.
    """
    dim = subject.spec.architecture.causal
    runs_along = False
    for axis, expression in enumerate(declared.shape):
        if _runs_along(subject, expression, dim):
            end = max(subject.size_of(expression, {dim: cut}), 0) if cut else 0
            tensor = tensor.narrow(axis, 0, min(end, tensor.shape[axis]))
            runs_along = True
    return tensor if runs_along else tensor.flatten()[:0]


def _runs_along(subject: Subject, expression: int | str, dim: str) -> bool:
    """Whether an axis follows a dim, and other dims only shift it: `past + time`, not `batch * time`."""
    if dim not in names_in(expression):
        return False
    sizes = subject.sizes

    def growth(**others: int) -> int:
        longer = subject.size_of(expression, {**others, dim: sizes[dim] + 8})
        return longer - subject.size_of(expression, {**others, dim: sizes[dim]})

    names = (names_in(expression) & set(sizes)) - {dim}
    return all(growth(**{name: sizes[name] + 8}) == growth() for name in names)


def permutation(subject: Subject) -> str:
    """In another order along the dims declared so, inputs give the same outputs in that order."""
    declared_dims = list(subject.spec.architecture.permutation)
    if not declared_dims:
        raise Skipped(NOT_DECLARED)
    # Under some configs a network takes a matrix where under others it takes a list of edges.
    dims = [dim for dim in declared_dims if subject.sizes.get(dim, 0) > 1]
    if not dims:
        _require_dim(subject, declared_dims[0])
    if subject.is_random:
        raise Skipped("it draws other random numbers for another order")
    with subject.noise():
        return _reorder(subject, dims, subject.copy())


def _reorder(subject: Subject, dims: Sequence[str], module: nn.Module) -> str:
    """Put the inputs in another order along each dim. Raises Failed where the outputs don't follow it."""
    inputs = list(subject.inputs())
    for dim in dims:
        for declared in subject.spec.inputs:
            if is_unaligned(declared, dim):
                raise Skipped(f"{declared.name} has no axis {dim} of its own")
        unended = _without_ends(subject, dim, inputs)
        order = _draw_order(subject, dim, unended)
        permuted = [
            _permute(subject, declared, tensor, dim, order)
            for declared, tensor in zip(subject.spec.inputs, unended, strict=True)
        ]
        outputs, others = subject.evaluate(module, unended), subject.evaluate(module, permuted)
        for (declared, tensor), (_, other) in zip(outputs, others, strict=True):
            if is_unaligned(declared, dim):
                continue
            apart = difference(_permute(subject, declared, tensor, dim, order), other)
            if apart > tolerance_of(tensor):
                raise Failed(
                    f"with {dim} in another order, {name_output(declared.name)} changes "
                    f"by {apart:.2g}× its spread"
                )
    return f"outputs follow the order of {' and '.join(dims)}, or don't change"


def _without_ends(subject: Subject, dim: str, inputs: list[Tensor]) -> list[Tensor]:
    """Return inputs that end nowhere along a dim: padding that is moved is no longer at the end."""
    filled = []
    for declared, tensor in zip(subject.spec.inputs, inputs, strict=True):
        counts = declared.sample in COUNTS and declared.index_of == dim
        values = {"lengths": subject.sizes[dim], "prefix": 1, "suffix": 0}
        filled.append(torch.full_like(tensor, values[str(declared.sample)]) if counts else tensor)
    return filled


def _draw_order(subject: Subject, dim: str, inputs: list[Tensor]) -> Tensor:
    """Return a random order of the positions along a dim that keeps sorted inputs sorted."""
    cycle = torch.randperm(subject.sizes[dim], generator=torch.Generator().manual_seed(1))
    order = torch.empty_like(cycle)
    order[cycle] = cycle.roll(1)  # so that none stays in its place
    for declared, tensor in zip(subject.spec.inputs, inputs, strict=True):
        if declared.sample == "sorted" and depends_on(declared, dim):
            if tensor.ndim != 1:
                raise Skipped(f"{declared.name} is sorted along {dim}, each row for itself")
            order = order[torch.sort(tensor.cpu()[order], stable=True).indices]
    return order


def _permute(subject: Subject, declared: TensorSpec, tensor: Tensor, dim: str, order: Tensor) -> Tensor:
    """Return a tensor with its positions along a dim in another order.

    Integers that name positions are renamed: an edge from node 3 comes from wherever node 3 is now.
    """
    for span in spans_of(subject, declared, dim):
        tensor = take(tensor, span, order)
    if declared.index_of == dim and declared.sample not in COUNTS and not tensor.is_floating_point():
        tensor = order.argsort().to(tensor.device)[tensor.long()].to(tensor.dtype)
    return tensor


def pointwise(subject: Subject) -> str:
    """Along the dims declared so, each position of an output depends on that position of the inputs only."""
    dims = list(subject.spec.architecture.pointwise)
    if not dims:
        raise Skipped(NOT_DECLARED)
    for dim in dims:
        _require_dim(subject, dim, least=1)
    with subject.noise():
        return _change_positions(subject, dims, subject.first_run())


def _change_positions(subject: Subject, dims: Sequence[str], first: FirstRun) -> str:
    """Change the inputs at two positions. Raises Failed where outputs elsewhere change."""
    inputs, others = subject.inputs(), subject.inputs(seed=1)
    module, outputs = first.module, first.outputs
    if not any(spans_of(subject, declared, dim) for declared, _ in outputs for dim in dims):
        raise Failed(f"no output has an axis {' or '.join(dims)}")
    positions = [
        {dim: subject.sizes[dim] - 1 for dim in dims},
        {dim: subject.sizes[dim] // 2 for dim in dims},
    ]
    for position in positions:
        mixed = [
            torch.where(_at(subject, declared, tensor, position), other, tensor)
            for declared, tensor, other in zip(subject.spec.inputs, inputs, others, strict=True)
        ]
        _compare_elsewhere(subject, outputs, subject.evaluate(module, mixed), position)
    return f"two positions of {' × '.join(dims)}, each changed by itself"


def _at(subject: Subject, declared: TensorSpec, tensor: Tensor, position: dict[str, int]) -> Tensor:
    """Return a mask of the elements of a tensor that belong to a position along dims."""
    mask = torch.ones_like(tensor, dtype=torch.bool)
    spans = {dim: spans_of(subject, declared, dim) for dim in position}
    for dim, index in position.items():
        for span in spans[dim]:
            mask &= _row(tensor, span, index)
    return mask if any(spans.values()) else ~mask


def _row(tensor: Tensor, span: Span, index: int) -> Tensor:
    """Return a mask of one position of a span, for all others of the tensor to be broadcast to."""
    shape = [1] * tensor.ndim
    shape[span.axis] = tensor.shape[span.axis]
    row = torch.zeros(tensor.shape[span.axis], dtype=torch.bool, device=tensor.device)
    row[span.start + index] = True
    return row.view(shape)


def _compare_elsewhere(subject: Subject, outputs: Outputs, others: Outputs, position: dict[str, int]) -> None:
    """Raise Failed where an output with the dims changes elsewhere than at the position."""
    for (declared, tensor), (_, other) in zip(outputs, others, strict=True):
        if tensor.shape == other.shape and any(spans_of(subject, declared, dim) for dim in position):
            elsewhere = ~_at(subject, declared, tensor, position)
            apart = difference(tensor[elsewhere], other[elsewhere])
            if apart > tolerance_of(tensor):
                where = ", ".join(f"{dim} {index}" for dim, index in position.items())
                raise Failed(
                    f"a change of {where} changes {name_output(declared.name)} elsewhere "
                    f"by {apart:.2g}× its spread"
                )
