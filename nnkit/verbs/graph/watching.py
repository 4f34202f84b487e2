"""Watches a run of a model, and finds which call made each tensor that another call takes.

Every tensor that is made gets a number. The number is kept in two places, and the larger, later one holds:

- as an attribute of the Python object, which dies with it, and which a copy of the object takes along;
- for each storage, as the number of the last write. A write through a view is seen by the operator's schema.

Parameters are never marked. What a run has marked is as before afterwards.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from nnkit.models.tensors import storages_of, tensors_in
from nnkit.verbs.summary.formulas import Formula
from nnkit.verbs.summary.keeping import Snapshot
from nnkit.verbs.summary.modes import SHAPE_READERS, Unknowns
from nnkit.verbs.summary.report import TensorInfo
from nnkit.verbs.summary.tracing import Call, Trace, Watcher, describe, describe_value

MARK = "_nnkit_number"

# Functions that make no step: what they return is still the tensor that they were given.
ASIDES = frozenset({"__get__", "__set__", "detach", "requires_grad_"})


@dataclass(frozen=True)
class Take:
    """A tensor that a call took: its number, 0 if no call made it."""

    number: int
    info: TensorInfo


@dataclass
class Flow:
    """Which call made and took which tensor.

    makers: the call that made each tensor, by number; the first one stands for none. takes: what each call
    took itself. reads: the tensors that no call made, held until the run ends. inputs: a call for each tensor
    that forward was given. outputs: what became of each tensor that forward returned.
    """

    makers: list[Call]
    takes: dict[Call, list[Take]] = field(default_factory=dict)
    reads: dict[Call, list[Tensor]] = field(default_factory=dict)
    inputs: list[tuple[Tensor, Call]] = field(default_factory=list)
    outputs: list[Take] = field(default_factory=list)


@dataclass
class FlowTrace(Trace):
    """What a run showed, with which tensors flowed."""

    flow: Flow = field(default_factory=lambda: Flow([]))


class FlowWatcher(Watcher):
    """Keeps, beside the calls under way, which of them made each tensor.

    It also has calls that a summary leaves out: the functions within torch's own modules, values that come
    from no tensor, and operators that no function calls, as in compiled code.
    """

    def __init__(self, formulas: Mapping[str, Formula], budget: int | None = None) -> None:
        super().__init__(formulas, budget)
        self.flow = Flow([self.top])
        self.writers: dict[int, int] = {}
        self.marked: list[weakref.ref[Tensor]] = []
        self.began = 0  # the number of tensors that there were when the function under way began
        self.wrote = False  # whether it wrote to a tensor that was there before
        self.asides = 0  # how many functions are under way that make no step

    def result(self, error: Exception | None = None) -> FlowTrace:
        """Return what was seen."""
        return FlowTrace(**vars(super().result(error)), flow=self.flow)

    @contextmanager
    def watching(self, unknowns: Unknowns | None = None, snapshot: Snapshot | None = None) -> Iterator[None]:
        """See every call; afterwards no tensor is marked."""
        try:
            with super().watching(unknowns, snapshot):
                yield
        finally:
            for reference in self.marked:
                tensor = reference()
                if tensor is not None and MARK in tensor.__dict__:
                    delattr(tensor, MARK)

    def call_module(self, called: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Note the call of a module and make it."""
        outermost, before = self.current is self.top, len(self.flow.makers)
        if outermost:
            self._begin(args, kwargs)
        siblings = self.current.children
        position = len(siblings)
        result = super().call_module(called, module, args, kwargs)
        call = siblings[position]
        with torch._C.DisableTorchFunction():
            if not call.children:
                result = self._pass_on(call, result, before)
            if outermost:
                self.flow.outputs = [self._take(tensor) for tensor in tensors_in(result)]
        return result

    def call_function(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function; note it if it makes a tensor or writes to one."""
        parent, name = self.current, func.__name__
        if parent.kind == "function":
            return func(*args, **kwargs)
        if name in ASIDES:
            return self._call_aside(func, args, kwargs)
        name = name.strip("_")
        call = Call(f"{parent.path}.{name}".lstrip("."), "function", name, inputs=describe(args, kwargs))
        given = list(tensors_in((args, kwargs)))
        takes = [self._take(tensor) for tensor in given] if name not in SHAPE_READERS else []
        self.began, self.wrote = len(self.flow.makers), False
        try:
            with self.under_way(call):
                result = func(*args, **kwargs)
        except Exception:
            parent.children.append(call)
            raise
        call.outputs = describe((result,))
        made = [tensor for tensor in tensors_in(result) if self.wrote or not any(tensor is x for x in given)]
        if made or self.wrote or call.macs:
            self._note(call, parent, takes, given)
            for tensor in made:
                self._mark(tensor, call)
        else:
            self.leave_out(call, parent)
        return result

    def before_write(self, tensors: Iterable[Tensor]) -> None:
        """Take note of tensors that are about to be written to."""
        tensors = list(tensors)
        super().before_write(tensors)
        if self.current.kind == "function":
            storages = {storage for tensor in tensors for storage in _storages(tensor)}
            self.wrote = self.wrote or any(self.writers.get(each, 0) < self.began for each in storages)
            self._note_written(storages)

    def count(self, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Note the cost of an operator, and the storages of what it made."""
        if self.current.kind == "module" and not self.asides:
            self._note_stray(operator, args, kwargs, result)
        elif self.current.kind == "function" and not operator.is_view:
            self._note_written({storage for tensor in tensors_in(result) for storage in _storages(tensor)})
        super().count(operator, args, kwargs, result)

    def _begin(self, args: Any, kwargs: Any) -> None:
        """Mark the inputs of the model."""
        for tensor in tensors_in((args, kwargs)):
            call = Call("", "function", "input", outputs=(describe_value(tensor),))
            self.flow.inputs.append((tensor, call))
            self._mark(tensor, call)

    def _call_aside(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function whose result is the tensor that it was given, seen in another way."""
        self.asides += 1
        try:
            result = func(*args, **kwargs)
        finally:
            self.asides -= 1
        if func.__name__ == "__set__" and len(args) > 1 and isinstance(args[1], Tensor):
            self._mark_as(args[0], self._number(args[1]))
        elif isinstance(result, Tensor) and result is not args[0]:
            self._mark_as(result, self._number(args[0]))
        return result

    def _pass_on(self, call: Call, result: Any, before: int) -> Any:
        """Return the result of a module that called nothing, such that it can be told from its input.

        `Identity` and a dropout in eval mode return the very tensor that they were given. Later calls may
        take that one or this one, so this one becomes another Python object on the same memory.
        """
        passed = [tensor for tensor in tensors_in(result) if self._number(tensor) < before]
        if not passed:
            return result
        takes = [self._take(tensor) for tensor in passed]
        self.flow.takes[call] = [take for take in takes if take.number]
        if isinstance(result, Tensor):
            result = _alias(result)
        elif type(result) is tuple:
            result = tuple(_alias(x) if isinstance(x, Tensor) else x for x in result)
        for tensor in tensors_in(result):
            self._mark(tensor, call)
        return result

    def _note(self, call: Call, parent: Call, takes: list[Take], given: list[Tensor]) -> None:
        parent.children.append(call)
        self.flow.takes[call] = [take for take in takes if take.number]
        if takes and len(self.flow.takes[call]) < len(takes):
            self.flow.reads[call] = [x for x, take in zip(given, takes, strict=True) if not take.number]

    def _note_stray(self, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Note an operator that no function called."""
        name = operator._overloadpacket.__name__
        parent = self.current
        call = Call(f"{parent.path}.{name}".lstrip("."), "function", name, inputs=describe(args, kwargs))
        call.outputs = describe((result,))
        given = list(tensors_in((args, kwargs)))
        self._note(call, parent, [self._take(tensor) for tensor in given], given)
        for tensor in tensors_in(result):
            self._mark(tensor, call)
            if not operator.is_view:
                for storage in _storages(tensor):
                    self.writers[storage] = len(self.flow.makers) - 1

    def _note_written(self, storages: set[int]) -> None:
        """Note that the function under way writes to storages, or has made them."""
        if self.flow.makers[-1] is not self.current:
            self.flow.makers.append(self.current)
        number = len(self.flow.makers) - 1
        for storage in storages:
            self.writers[storage] = number

    def _take(self, tensor: Tensor) -> Take:
        info = describe_value(tensor)
        assert isinstance(info, TensorInfo)
        return Take(self._number(tensor), info)

    def _number(self, tensor: Tensor) -> int:
        """Return the number of a tensor as it is now, 0 if no call made it."""
        written = max((self.writers.get(storage, 0) for storage in _storages(tensor)), default=0)
        marked: int = tensor.__dict__.get(MARK, 0)
        return max(written, marked)

    def _mark(self, tensor: Tensor, call: Call) -> None:
        """Give a tensor that `call` made a number of its own."""
        if isinstance(tensor, nn.Parameter):
            return
        self.flow.makers.append(call)
        number = len(self.flow.makers) - 1
        self._mark_as(tensor, number)
        for storage in _storages(tensor):
            if self.flow.makers[self.writers.get(storage, 0)] is call:
                self.writers[storage] = number

    def _mark_as(self, tensor: Tensor, number: int) -> None:
        if number and not isinstance(tensor, nn.Parameter):
            tensor.__dict__[MARK] = number
            self.marked.append(weakref.ref(tensor))


def _storages(tensor: Tensor) -> set[int]:
    """Return ids of the storages of a tensor, for a wrapper such as `vmap` makes those of what it wraps."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return storages_of(tensor)


def _alias(tensor: Tensor) -> Tensor:
    """Return a plain tensor as another Python object on the same memory, others unchanged."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_nested:
        return tensor
    with _disable_current_modes():
        alias: Tensor = torch.ops.aten.alias.default(tensor)
        return alias
