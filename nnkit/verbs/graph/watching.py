"""Watches a run of a model, and finds which call made each tensor that another call takes.

Every tensor that is made gets a number, later ones larger numbers. The number is kept in two places, and the
later one holds:

- as an attribute of the Python object, which dies with it, and which a copy of the object takes along;
- for each storage, as the number of the last write. A write through a view is seen by the operator's schema.

The model's parameters are never marked. Afterwards no tensor is.
"""

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import _disable_current_modes

from nnkit.models.members import named_buffers, named_parameters
from nnkit.models.tensors import storages_of, tensors_in
from nnkit.models.user_lines import users_frame
from nnkit.verbs.graph.flow import Flow, FlowTrace, Take
from nnkit.verbs.graph.writes import Writes, is_strided, is_whole, region_of, storages_in
from nnkit.verbs.summary.formulas import Formula
from nnkit.verbs.summary.keeping import Snapshot
from nnkit.verbs.summary.modes import SHAPE_READERS, VALUE_READERS, Unknowns
from nnkit.verbs.summary.tracing import Call, Watcher, describe, describe_value, shape_of

MARK = "_nnkit_number"

# Functions that make no step: what they return is still the tensor that they were given.
ASIDES = frozenset({"__get__", "__set__", "detach", "requires_grad_", "set_", "alias", "lift_fresh"})

# Functions that take a second tensor for its shape, dtype or device, but not for its values.
OF_FIRST = frozenset({"view_as", "reshape_as", "expand_as", "type_as", "to"})


class FlowWatcher(Watcher):
    """Keeps, beside the calls under way, which of them made each tensor.

    It also has calls that a summary leaves out: the functions within torch's own modules, values that come
    from no tensor, and operators that no function calls, as in compiled code.
    """

    def __init__(self, formulas: Mapping[str, Formula], budget: int | None = None) -> None:
        super().__init__(formulas, budget)
        self.flow = Flow([self.top])
        self.writes = Writes()
        self.marked: list[weakref.ref[Tensor]] = []
        self.own: dict[int, Tensor] = {}  # the model's own tensors, which it keeps while it runs
        self.given: list[Tensor] = []  # what the function under way was given
        self.began = 0  # the number of tensors that there were when it began
        self.wrote = False  # whether it wrote to a tensor that was there before
        self.part: Call | None = None  # the module that the function under way is a part of
        self.asides = 0  # how many functions are under way that make no step
        self.latest: tuple[Call, Any] | None = None  # the last call of a function, and what it returned

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
                if tensor is not None:
                    tensor.__dict__.pop(MARK, None)

    @contextmanager
    def under_way(self, call: Call) -> Iterator[None]:
        """Put `call` on top of the stack."""
        self.flow.order.append(call)
        with super().under_way(call):
            yield

    def call_module(self, called: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Note the call of a module and make it."""
        outermost = self.current is self.top
        if outermost:
            with torch._C.DisableTorchFunction():
                self._begin(module, args, kwargs)
        siblings, before = self.current.children, len(self.flow.makers)
        position = len(siblings)
        result = super().call_module(called, module, args, kwargs)
        with torch._C.DisableTorchFunction():
            call = next(each for each in siblings[position:] if each.module is module)
            if not call.children:
                result = self._pass_on(call, result, before)
            if outermost:
                self._end(result)
        return result

    def call_function(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function; note it if it makes a tensor or writes to one."""
        parent = self.current
        if parent.kind == "function" or self.part is not None:
            return func(*args, **kwargs)
        name = name_of(func)
        if name in ASIDES:
            return self._call_aside(func, args, kwargs)
        name = name.strip("_")
        self.given = given = _tensors((args, kwargs))
        if is_leaf(parent):
            return self._call_part(func, args, kwargs)
        call = Call(f"{parent.path}.{name}".lstrip("."), "function", name, inputs=describe(args, kwargs))
        read = [] if name in SHAPE_READERS else given[:1] if name in OF_FIRST else given
        takes = self._takes(call, read)
        if func.__name__ in VALUE_READERS and takes:
            self.flow.through_python.append(call.path)
        self.began, self.wrote = len(self.flow.makers), False
        try:
            with self.under_way(call):
                result = func(*args, **kwargs)
        except Exception:
            parent.children.append(call)
            raise
        call.outputs = describe((result,))
        made = [tensor for tensor in _tensors(result) if self.wrote or not any(tensor is x for x in given)]
        if made or self.wrote or call.macs:
            self._note(call, parent, takes)
            for tensor in made:
                self._mark(tensor, call)
            self.latest = call, result
        else:
            self.flow.reads.pop(call, None)
            self.leave_out(call, parent)
        return result

    def before_write(self, tensors: Iterable[Tensor]) -> None:
        """Take note of tensors that are about to be written to."""
        tensors = list(tensors)
        super().before_write(tensors)
        if self.current.kind == "function" or self.part is not None:
            with torch._C.DisableTorchFunction():
                for tensor in tensors:
                    self._note_write(tensor)

    def count(self, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Note the cost of an operator, and the storages of what it made."""
        with torch._C.DisableTorchFunction():
            if self.current.kind == "function" or self.part is not None:
                if not (operator.is_view or operator._schema.is_mutable):
                    self._note_made(result, self.current)
            elif not self.asides:
                self._note_stray(operator, args, kwargs, result)
        super().count(operator, args, kwargs, result)

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Mark the inputs of the model; learn which tensors it has itself."""
        for tensors in (named_buffers(module), named_parameters(module)):
            self.own.update((id(tensor), tensor) for tensor in tensors.values())
            for name, tensor in tensors.items():
                self.flow.registered.update(dict.fromkeys(storages_of(tensor), name))
        for tensor in tensors_in((args, kwargs)):
            call = Call("", "function", "input", outputs=(describe_value(tensor),))
            self.flow.inputs.append((tensor, call))
            self._mark(tensor, call)

    def _end(self, result: Any) -> None:
        """Note what the model returned."""
        root = self.top.children[0]
        takes = (self._takes(root, [tensor], may_be_own=False) for tensor in tensors_in(result))
        self.flow.outputs = list(takes)

    def _call_part(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function in one of torch's own modules that has none: a part of its call."""
        call = self.part = self.current
        self.began, self.wrote = len(self.flow.makers), False
        self.flow.takes.setdefault(call, []).extend(self._takes(call, self.given))
        try:
            result = func(*args, **kwargs)
        finally:
            self.part = None
        for tensor in _tensors(result):
            if self.wrote or not any(tensor is each for each in self.given):
                self._mark(tensor, call)
        return result

    def _call_aside(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function whose result is the tensor that it was given, seen in another way."""
        self.asides += 1
        try:
            result = func(*args, **kwargs)
        finally:
            self.asides -= 1
        if func.__name__ == "__set__" and len(args) > 1 and isinstance(args[1], Tensor):
            self._mark_as(args[0], self._number(args[1]))
        elif func.__name__ == "set_":
            self._mark_as(args[0], self.writes.numbers(args[0], 0)[0])
        elif isinstance(result, Tensor) and result is not args[0]:
            self._mark_as(result, self._number(args[0]))
        return result

    def _pass_on(self, call: Call, result: Any, before: int) -> Any:
        """Return the result of a module that called nothing, as something other than its input.

        `Identity` and a dropout in eval mode return the very tensor that they were given. Later calls may
        take that one or this one, so this one becomes another Python object on the same memory.
        """
        passed = [tensor for tensor in _tensors(result) if self._number(tensor) < before]
        if not passed:
            return result
        self.flow.takes.setdefault(call, []).extend(self._takes(call, passed))
        if isinstance(result, Tensor):
            result = _alias(result)
        elif type(result) is tuple:
            result = tuple(_alias(x) if isinstance(x, Tensor) else x for x in result)
        for tensor in _tensors(result):
            self._mark(tensor, call)
        return result

    def _note(self, call: Call, parent: Call, takes: list[Take]) -> None:
        parent.children.append(call)
        self.flow.takes[call] = takes
        self.flow.lines[call] = users_frame(sys._getframe(1))

    def _note_stray(self, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Note an operator that no function called, or that came here before the function that calls it."""
        parent, name = self.current, operator._overloadpacket.__name__
        if name in ASIDES:
            return
        if self.latest is not None and self.latest[1] is result:
            call = self.latest[0]
            if call.type == name.strip("_"):
                self._note_made(result, call)
                return
            parent.children.remove(call)  # what stands for a product that isn't computed
        name = name.strip("_")
        call = Call(f"{parent.path}.{name}".lstrip("."), "function", name, inputs=describe(args, kwargs))
        call.outputs = describe((result,))
        self._note(call, parent, self._takes(call, _tensors((args, kwargs))))
        for tensor in _tensors(result):
            self._mark(tensor, call)
        if not operator.is_view:
            self._note_made(result, call)

    def _note_made(self, result: Any, call: Call) -> None:
        """Note that a call made memory."""
        number = self._own_number(call)
        for tensor in _tensors(result):
            self.writes.note(storages_in(tensor), number)

    def _note_write(self, tensor: Tensor) -> None:
        """Note that the function under way is about to write to a tensor.

        If it was given a larger part of the same memory, it writes all of that: `y[0] = a` takes `y`.
        """
        storages = storages_in(tensor)
        self.wrote = self.wrote or any(self.writes.last(storage) < self.began for storage in storages)
        number = self._own_number(self.current)
        if not is_strided(tensor):
            self.writes.note(storages, number)
            return
        written = region_of(tensor)
        given = (each for each in self.given if is_strided(each) and storages_in(each) == storages)
        sharing = [tensor, *given]
        if any(is_whole(each) for each in sharing):
            self.writes.note(storages, number)
            return
        for region in map(region_of, sharing):
            if region.overlaps(written):
                self.writes.note_part(storages, number, region)

    def _own_number(self, call: Call) -> int:
        """Return the number of the last tensor that a call has made, or a new one."""
        if self.flow.makers[-1] is not call:
            self.flow.makers.append(call)
        return len(self.flow.makers) - 1

    def _takes(self, call: Call, tensors: list[Tensor], may_be_own: bool = True) -> list[Take]:
        """Return what a call takes; note the parameters among it, and what comes from nowhere."""
        takes = []
        for tensor in tensors:
            numbers = self.writes.numbers(tensor, tensor.__dict__.get(MARK, 0))
            if not numbers[-1]:
                names = map(self.flow.registered.get, storages_in(tensor))
                name = next((name for name in names if name is not None), None)
                if name is None or not may_be_own:
                    numbers[-1] = self._constant(tensor, name)
                else:
                    self.flow.reads.setdefault(call, []).append(name)
            takes += [Take(number, shape_of(tensor), tensor.dtype) for number in numbers if number]
        return takes

    def _constant(self, tensor: Tensor, name: str | None) -> int:
        """Return a number for a tensor that no call made, given to a call made up for it.

        It belongs to the innermost module that isn't one of torch's own: what those take is given to them.
        """
        root = self.top.children[0]
        parent = next((x for x in self.stack[:0:-1] if x.module is not None and not x.hides_functions), root)
        kind = "tensor" if name is None else "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
        path = name or f"{parent.path}.{_attribute(parent.module, tensor) or kind}".lstrip(".")
        call = Call(path, "function", kind, outputs=(describe_value(tensor),))
        below = next((x for x in self.stack if x in parent.children), None)
        position = len(parent.children) if below is None else parent.children.index(below)
        parent.children.insert(position, call)
        self._mark(tensor, call)
        return len(self.flow.makers) - 1

    def _number(self, tensor: Tensor) -> int:
        """Return the number of a tensor as it is now, 0 if no call made it."""
        return max(self.writes.numbers(tensor, tensor.__dict__.get(MARK, 0)))

    def _mark(self, tensor: Tensor, call: Call) -> None:
        """Give a tensor that `call` made a number of its own."""
        self.flow.makers.append(call)
        number = len(self.flow.makers) - 1
        self._mark_as(tensor, number)
        for storage in storages_in(tensor):
            if self.flow.makers[self.writes.last(storage)] is call:
                self.writes.renumber(storage, number)

    def _mark_as(self, tensor: Tensor, number: int) -> None:
        if number and id(tensor) not in self.own:
            tensor.__dict__[MARK] = number
            self.marked.append(weakref.ref(tensor))


def name_of(func: Callable[..., Any]) -> str:
    """Return the name of a function, of an operator without that of its overload."""
    name: str = func.__name__
    return name.partition(".")[0] if isinstance(func, OpOverload) else name


def is_leaf(call: Call) -> bool:
    """Whether a call is of one of torch's own modules that has none: its functions are parts of it."""
    return call.hides_functions and call.module is not None and not call.module._modules


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors of a value in order, as `tensors_in` does, faster for what most functions take."""
    if isinstance(value, Tensor):
        return [value]
    if value is None or isinstance(value, (int, float, str)):
        return []
    if type(value) in (tuple, list):
        return [tensor for element in value for tensor in _tensors(element)]
    if type(value) is dict:
        return [tensor for element in value.values() for tensor in _tensors(element)]
    return list(tensors_in(value))


def _attribute(module: nn.Module | None, tensor: Tensor) -> str:
    """Return the name of the attribute that holds a tensor, "" if none does."""
    attributes = vars(module) if module is not None else {}
    return next((name for name, value in attributes.items() if value is tensor), "")


def _alias(tensor: Tensor) -> Tensor:
    """Return a plain tensor as another Python object on the same memory, others unchanged."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_nested:
        return tensor
    with _disable_current_modes():
        alias: Tensor = torch.ops.aten.alias.default(tensor)
        return alias
