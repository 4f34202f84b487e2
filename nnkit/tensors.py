"""The tensors in whatever a module takes and gives, and how far their values lie apart."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a value in order, however nested in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_in(each)


def spread_of(tensor: Tensor) -> float:
    """Return the standard deviation of a tensor's values, or the largest of them where that is zero."""
    values = tensor.detach().double()
    return float(values.std(correction=0)) or float(values.abs().max())
