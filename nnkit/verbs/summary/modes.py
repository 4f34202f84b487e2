"""Torch modes that see every call of a function and of an operator while a model runs."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nnkit.models.tensors import storages_of, tensors_in
from nnkit.verbs.summary.arguments import named_arguments
from nnkit.verbs.summary.counting import Traits, product_shape, traits_of, values_read

# Functions that hand the values of a tensor to Python without calling an operator.
VALUE_READERS = frozenset({"tolist", "numpy", "__array__"})

# Operators whose results depend on the shape of their argument, but not on its values.
SHAPE_READERS = frozenset(
    """
    empty_like zeros_like ones_like full_like rand_like randn_like randint_like
    new_empty new_empty_strided new_zeros new_ones new_full
    """.split()
)


class NeedsValues(Exception):
    """The model depends on the values of tensors that have none."""


class Unknowns:
    """The storages that hold no values: uninitialized weights, products that were not computed, and
    everything made from those."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.storages = storages_of(*tensors)

    def among(self, tensors: Iterable[Tensor]) -> bool:
        """Whether one of the tensors has no values."""
        return self.hold(storages_of(*tensors))

    def hold(self, storages: set[int]) -> bool:
        """Whether one of the storages has no values."""
        return not self.storages.isdisjoint(storages)

    def note(self, results: Iterable[Tensor], unknown: bool) -> None:
        """Record whether results have values; known ones too, for storages are reused at the same address."""
        storages = storages_of(*results)
        if unknown:
            self.storages |= storages
        else:
            self.storages -= storages


class Watcher(Protocol):
    """What the modes hand the calls to. notes_reads: whether it wants to be told of reads."""

    notes_reads: bool

    def call_function(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function and return its result."""

    def note_read(self, storages: set[int]) -> None:
        """Take note of storages whose values are read."""

    def before_write(self, tensors: Iterable[Tensor]) -> None:
        """Take note of tensors that are about to be written to."""

    def has_formula(self, operator: Any) -> bool:
        """Whether the cost of an operator is known."""

    def count(self, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Note the cost of an operator that was called."""


class Functions(TorchFunctionMode):
    """Hands the calls of functions to a watcher."""

    def __init__(self, watcher: Watcher, unknowns: Unknowns | None) -> None:
        super().__init__()
        self.watcher, self.unknowns = watcher, unknowns

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in VALUE_READERS:
            with torch._C.DisableTorchFunction():
                self._read(storages_of(*tensors_in(args)))
        return self.watcher.call_function(func, args, kwargs or {})

    def _read(self, storages: set[int]) -> None:
        if self.unknowns and self.unknowns.hold(storages):
            raise NeedsValues
        self.watcher.note_read(storages)


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hands the calls of operators to a watcher.

    unknowns: the storages without values, None if all tensors have values. With it, dense products are not
    computed.
    """

    supports_higher_order_operators = True

    def __init__(self, watcher: Watcher, unknowns: Unknowns | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watcher, self.unknowns, self.in_parts = watcher, unknowns, False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo, half a second, for a compiler that never runs here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return self._call_higher_order(func, args, kwargs)
        if func.namespace == "prim":  # a question about the device of a fake tensor
            return device_of_fake(func, args)
        traits, tensors = traits_of(func), tensors_in((args, kwargs) if kwargs else args)
        wrapped = bool(types) and _has_own_dispatch(types)
        if wrapped and not (self.watcher.has_formula(func) and not any(x.is_nested for x in tensors)):
            return NotImplemented  # the operators that the subclass calls come here next
        storages = storages_of(*tensors) if self.watcher.notes_reads else set()
        if not traits.is_view:
            self.watcher.note_read(storages)
        if traits.is_mutable:
            self.watcher.before_write(_written(func, args, kwargs))
        if traits.is_composite and self._comes_whole(tensors):
            return self._in_parts(func, args, kwargs)
        result = self._call(func, args, kwargs, traits, tensors, storages, wrapped)
        self.watcher.count(func, args, kwargs, result)
        return result

    def _call(
        self,
        func: Any,
        args: Any,
        kwargs: Any,
        traits: Traits,
        tensors: list[Tensor],
        storages: set[int],
        wrapped: bool,
    ) -> Any:
        """Return the result of an operator, or memory of its shape if the values aren't needed."""
        if self.unknowns is None:
            return func(*args, **kwargs)
        if traits.reads_values and self.unknowns.among(values_read(func, args, tensors)):
            raise NeedsValues
        shape = product_shape(func, args) if traits.has_known_shape and not wrapped else None
        result = func(*args, **kwargs) if shape is None else args[0].new_empty(shape)
        if traits.is_mutable:
            storages = storages_of(*tensors)  # `set_` gives a tensor another one
        unknown = shape is not None or (traits.name not in SHAPE_READERS and self.unknowns.hold(storages))
        self.unknowns.note(tensors_in(result), unknown)
        if unknown and traits.is_mutable:
            self.unknowns.note(_written(func, args, kwargs), unknown)
        return result

    def _comes_whole(self, tensors: list[Tensor]) -> bool:
        """Whether a composite operator comes here in one piece.

        Outside inference mode torch splits these operators before they come here. In it, and on tensors
        made in it, they come in one piece, and so do the composite operators within them.
        """
        in_one_piece = torch.is_inference_mode_enabled() or any(tensor.is_inference() for tensor in tensors)
        return (in_one_piece or self.in_parts) and not any(tensor.is_nested for tensor in tensors)

    def _in_parts(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the result of a composite operator, run so that its parts are seen."""
        outer, self.in_parts = self.in_parts, True
        try:
            with self:
                return func.decompose(*args, **kwargs)
        finally:
            self.in_parts = outer

    def _call_higher_order(self, operator: HigherOrderOperator, args: Any, kwargs: Any) -> Any:
        """Return the result of an operator that takes functions; the operators in those are seen too."""
        tensors = tensors_in((args, kwargs))
        self.watcher.note_read(storages_of(*tensors))
        if self.watcher.has_formula(operator):
            result = operator(*args, **kwargs)
            if self.unknowns:
                self.unknowns.note(tensors_in(result), self.unknowns.among(tensors))
            self.watcher.count(operator, args, kwargs, result)
            return result
        if self.unknowns:
            raise NeedsValues  # they may decide which function it calls
        return operator(*map(self._watch, args), **kwargs)

    def _watch(self, argument: Any) -> Any:
        """Return an argument as it is, or a function wrapped so that this mode is on again within it."""
        if isinstance(argument, Tensor) or not callable(argument):
            return argument
        # A graph that a compiler made from a function is not one of the model's modules.
        function = argument.forward if isinstance(argument, nn.Module) else argument

        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return call


def device_of_fake(func: Any, args: Any) -> Any:
    """Return what `prim.device` does, which autograd asks for more often than for any operator."""
    device = getattr(args[0], "fake_device", None) if func is torch.ops.prim.device.default else None
    return func(*args) if device is None else device


def _has_own_dispatch(types: Any) -> bool:
    """Whether the types include a subclass of Tensor, other than fake ones, that handles operators itself."""
    fakes = sys.modules.get("torch._subclasses.fake_tensor")
    own = (subclass for subclass in types if subclass.__torch_dispatch__ is not Tensor.__torch_dispatch__)
    return any(fakes is None or not issubclass(subclass, fakes.FakeTensor) for subclass in own)


def _written(operator: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """Return the tensors that a call of an operator writes to."""
    values = named_arguments(operator, args) | kwargs
    arguments = operator._schema.arguments
    return tensors_in([values[argument.name] for argument in arguments if _is_written(argument)])


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write
