"""A module in float64 without a copy of its weights, which would take twice their memory.

Each weight is converted where an operator reads it, and the converted one is let go after that. A float32
number is the same number in float64, so the results are those of `module.double()`.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from nnkit.models.copies import copy_of, whole_copy_of
from nnkit.models.members import named_parameters

M = TypeVar("M", bound=nn.Module)
aten = torch.ops.aten


class _ReadInFloat64(Tensor):
    """A tensor that is one of float64 to whoever reads it, and takes no memory beside the one it is made of.

    Raises RuntimeError where something would write into it.
    """

    _stored: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls: type["_ReadInFloat64"], stored: Tensor) -> "_ReadInFloat64":
        made: _ReadInFloat64 = Tensor._make_wrapper_subclass(
            cls,
            stored.shape,
            strides=stored.stride(),
            dtype=torch.float64,
            layout=stored.layout,
            device=stored.device,
        )
        made._stored = stored
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operator: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator on the converted values."""
        if operator is aten.detach.default:
            return cls(args[0]._stored)
        if operator._schema.is_mutable:
            raise RuntimeError("a weight is written to")
        if operator is aten.embedding.default and isinstance(args[0], cls):  # reads few rows of a large table
            return operator(args[0]._stored, *args[1:], **(kwargs or {})).double()
        args, keywords = tree_map(_convert, (args, dict(kwargs or {})))
        return operator(*args, **keywords)


def _convert(value: Any) -> Any:
    return value._stored.double() if isinstance(value, _ReadInFloat64) else value


def read_in_float64(module: M) -> M:
    """Return a copy that computes in float64; it can be run, but not trained."""
    parameters = named_parameters(module).values()
    weights = [
        parameter
        for parameter in parameters
        if type(parameter) is nn.Parameter
        and parameter.is_floating_point()
        and parameter.layout == torch.strided
    ]
    replaced = {id(each): nn.Parameter(_ReadInFloat64(each.detach()), False) for each in weights}
    own = [parameter for parameter in parameters if id(parameter) not in replaced]
    return copy_of(module, own, replaced).double()


def copy_in_float64(module: M) -> M:
    """Return a copy in float64, with weights of its own."""
    return whole_copy_of(module).double()
