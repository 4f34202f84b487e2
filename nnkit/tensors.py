"""The tensors that a module has, takes and gives, and how far their values lie apart."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

CORE = 10


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


def registered(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, a tied one under each of its names."""
    return {
        **{name: each.detach() for name, each in module.named_parameters(remove_duplicate=False)},
        **{name: each.detach() for name, each in module.named_buffers(remove_duplicate=False)},
    }


def spread_of(tensor: Tensor) -> float:
    """Return the standard deviation of a tensor's values, or the largest of them where that is zero."""
    values = tensor.detach().double()
    return float(values.std(correction=0)) or float(values.abs().max())


def core_of(tensor: Tensor) -> Tensor:
    """Return which elements of a floating-point tensor make up its body, as a mask.

    Left out are those that are not finite, and those more than ten times as large as a quarter of the
    others: scores that were masked with a large number say nothing of the scale of the rest.
    """
    sizes = tensor.detach().abs()
    finite = sizes.isfinite()
    told = sizes[finite & (sizes > 0)]
    if told.numel() == 0:
        return finite
    quarter = told.double().kthvalue((told.numel() + 3) // 4).values
    return finite & (sizes <= CORE * quarter.to(sizes))
