"""Where the positions along a dim lie in a tensor: along `past + time`, step 3 of `time` is at `past + 3`."""

from typing import NamedTuple

import torch
from torch import Tensor

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.axes import names_in, terms_of
from nnkit.verbs.smoke.subject import Subject


class Span(NamedTuple):
    """A part of an axis: its positions are those of one term of the axis, in order."""

    axis: int
    start: int
    length: int


def spans_of(subject: Subject, tensor: TensorSpec, term: int | str) -> list[Span]:
    """Return the parts of the axes of a tensor that have a position for each one of `term`, in order."""
    found = []
    for axis, expression in enumerate(tensor.shape):
        start = 0
        for part in terms_of(expression):
            length = subject.size_of(part)
            if part == term:
                found.append(Span(axis, start, length))
            start += length
    return found


def depends_on(tensor: TensorSpec, dim: str) -> bool:
    """Whether an axis of a tensor follows a dim in any way."""
    return any(dim in names_in(axis) for axis in tensor.shape)


def take(tensor: Tensor, span: Span, order: Tensor) -> Tensor:
    """Return a tensor with the positions of a span in another order; `order` may hold fewer of them."""
    before = torch.arange(span.start)
    after = torch.arange(span.start + span.length, tensor.shape[span.axis])
    index = torch.cat([before, span.start + order, after])
    return tensor.index_select(span.axis, index.to(tensor.device))


def is_unaligned(tensor: TensorSpec, dim: str) -> bool:
    """Whether an axis of a tensor follows a dim, but not position by position (`time // 2`)."""
    return any(dim in names_in(axis) and dim not in terms_of(axis) for axis in tensor.shape)
