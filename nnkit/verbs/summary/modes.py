"""What sees every call of a function and of an operator while a model runs."""

import functools
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nnkit.models.tensors import storages_of, tensors_in
from nnkit.verbs.summary.counting import product_shape, values_read

if TYPE_CHECKING:
    from nnkit.verbs.summary.tracing import Watcher

# What hands the values of a tensor to Python without calling an operator.
READERS = frozenset("tolist numpy __array__".split())

# Operators whose results have the shape of what they are given, and nothing of its values.
SHAPES_ONLY = frozenset(
    "empty_like zeros_like ones_like full_like rand_like randn_like randint_like "
    "new_empty new_empty_strided new_zeros new_ones new_full".split()
)


class NeedsValues(Exception):
    """What the model does depends on the values of tensors, and there are none."""


class Unknowns:
    """The storages that hold no values: of weights that are not initialised, of products that are not
    computed, and of all that is made from those."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.storages = {storage for each in tensors for storage in storages_of(each)}

    def among(self, tensors: Iterable[Tensor]) -> bool:
        """Whether one of the tensors has no values."""
        return any(not self.storages.isdisjoint(storages_of(each)) for each in tensors)

    def note(self, results: Iterable[Tensor], unknown: bool) -> None:
        """Take note of what an operator gave: storages come and go, so of known values as well."""
        storages = {storage for each in results for storage in storages_of(each)}
        if unknown:
            self.storages |= storages
        else:
            self.storages -= storages


class Functions(TorchFunctionMode):
    """Hands the calls of functions to a watcher."""

    def __init__(self, watcher: "Watcher", unknowns: Unknowns | None) -> None:
        super().__init__()
        self.watcher, self.unknowns = watcher, unknowns

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in READERS:
            with torch._C.DisableTorchFunction():
                self._read(list(tensors_in(args)))
        return self.watcher.call_function(func, args, kwargs or {})

    def _read(self, tensors: list[Tensor]) -> None:
        if self.unknowns and self.unknowns.among(tensors):
            raise NeedsValues
        self.watcher.note_read(tensors)


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands the calls of operators to a watcher.

    unknowns: None where all tensors have values; else dense products are not computed.
    """

    supports_higher_order_operators = True

    def __init__(self, watcher: "Watcher", unknowns: Unknowns | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watcher, self.unknowns, self.in_parts = watcher, unknowns, False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo, half a second, for a compiler that never runs here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return self._call_higher_order(func, args, kwargs)
        if func.namespace == "prim":  # a fake tensor is asked for its device
            return func(*args, **kwargs)
        tensors = list(tensors_in((args, kwargs)))
        wrapped = _has_own_dispatch(types)
        if wrapped and not (self.watcher.has_formula(func) and not any(x.is_nested for x in tensors)):
            return NotImplemented  # what the subclass makes of it comes back here
        if not func.is_view:
            self.watcher.note_read(tensors)
        if func._schema.is_mutable:
            self.watcher.before_write(_written(func, args, kwargs))
        if (parts := self._in_parts(func, args, kwargs, tensors)) is not NotImplemented:
            return parts
        result = self._call(func, args, kwargs, tensors, wrapped)
        self.watcher.count(func, args, kwargs, result)
        return result

    def _call(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], wrapped: bool) -> Any:
        """Return the result of an operator, or memory of its shape where nobody needs the values."""
        if self.unknowns is None:
            return func(*args, **kwargs)
        if self.unknowns.among(values_read(func, args, tensors)):
            raise NeedsValues
        shape = None if wrapped else product_shape(func, args)
        result = func(*args, **kwargs) if shape is None else args[0].new_empty(shape)
        unknown = shape is not None or (
            func._overloadpacket.__name__ not in SHAPES_ONLY and self.unknowns.among(tensors)
        )
        self.unknowns.note(tensors_in(result), unknown)
        if unknown and func._schema.is_mutable:
            self.unknowns.note(_written(func, args, kwargs), unknown)
        return result

    def _in_parts(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        """Return the result of an operator made of others, each of which is seen; else NotImplemented.

        In inference mode, and on tensors made in it, such operators come here whole, and so do those
        within them.
        """
        whole = self.in_parts or torch.is_inference_mode_enabled() or any(x.is_inference() for x in tensors)
        if not whole or not _is_made_of_others(func) or any(x.is_nested for x in tensors):
            return NotImplemented
        outer, self.in_parts = self.in_parts, True
        try:
            with self:
                return func.decompose(*args, **kwargs)
        finally:
            self.in_parts = outer

    def _call_higher_order(self, operator: HigherOrderOperator, args: Any, kwargs: Any) -> Any:
        """Return the result of an operator that is given functions, within which the operators are seen."""
        tensors = list(tensors_in((args, kwargs)))
        self.watcher.note_read(tensors)
        if self.watcher.has_formula(operator):
            result = operator(*args, **kwargs)
            if self.unknowns:
                self.unknowns.note(tensors_in(result), self.unknowns.among(tensors))
            self.watcher.count(operator, args, kwargs, result)
            return result
        if self.unknowns:
            raise NeedsValues  # it may choose by them which function it calls
        return operator(*(self._seen(each) for each in args), **kwargs)

    def _seen(self, argument: Any) -> Any:
        """Return an argument; of a function one in which this mode is on again."""
        if isinstance(argument, Tensor) or not callable(argument):
            return argument
        # A graph that a compiler made of a function is no module of the model's.
        call = argument.forward if isinstance(argument, nn.Module) else argument

        def call_seen(*args: Any, **kwargs: Any) -> Any:
            with self:
                return call(*args, **kwargs)

        return call_seen


def _has_own_dispatch(types: Any) -> bool:
    """Whether there is a subclass of Tensor among the types that sees to operators itself."""
    fakes = sys.modules.get("torch._subclasses.fake_tensor")
    own = (each for each in types if each.__torch_dispatch__ is not Tensor.__torch_dispatch__)
    return any(fakes is None or not issubclass(each, fakes.FakeTensor) for each in own)


@functools.cache
def _is_made_of_others(operator: Any) -> bool:
    return bool(operator._can_decompose())


def _written(operator: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Return the tensors that a call of an operator writes to."""
    values = dict(zip((each.name for each in operator._schema.arguments), args, strict=False)) | kwargs
    written = [values.get(each.name) for each in operator._schema.arguments if _is_written(each)]
    return list(tensors_in(written))


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write
