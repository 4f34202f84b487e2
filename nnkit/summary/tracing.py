"""One run of a model, watched: the calls of its modules and functions in order, with their costs."""

import dataclasses
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nnkit.process import random_states_kept
from nnkit.summary.counting import Cost, Formula, cost_of, is_mover, product_shape, reads_values
from nnkit.summary.report import Failure, Shape, TensorInfo, Value, tensors_of
from nnkit.tensors import tensors_in

# Functions that return a tensor but are no step of a computation.
ASIDES = frozenset("__get__ __set__ detach requires_grad_ new_zeros new_ones new_empty new_full".split())
# What hands the values of a tensor to Python without calling an operator.
READERS = frozenset("tolist numpy __array__".split())

LONGEST_WORDS = 40  # of an argument that is no tensor


class BudgetExceeded(Exception):
    """The run costs more multiply-adds than it was given."""


class NeedsValues(Exception):
    """What the model does depends on the values of tensors, and there are none."""


@dataclass
class Call:
    """A call under way or done: of a module, or of a function in a module's own forward.

    macs and backward are its own, without those of the calls beneath; saved and peak are the bytes
    that its forward keeps for a backward pass and has alive at most, where somebody watches memory.
    """

    path: str
    kind: Literal["module", "function"]
    type: str
    module: nn.Module | None = None
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    macs: int = 0
    backward: int = 0
    saved: int = 0
    peak: int = 0
    children: list["Call"] = field(default_factory=list)

    @property
    def hides_functions(self) -> bool:
        """Whether the functions in its forward are torch's own business, not the model's."""
        return self.module is not None and type(self.module).__module__.startswith("torch.nn.")

    def total(self, what: Literal["macs", "backward", "saved"]) -> int:
        """Return its multiply-adds or bytes and those of everything beneath."""
        own: int = getattr(self, what)
        return own + sum(child.total(what) for child in self.children)


@dataclass
class Trace:
    """What a run showed.

    root: the outermost call. uncounted: the operators without a formula, with how often. read: the
    storages that operators took values from. failure, error: set where forward failed.
    """

    root: Call
    uncounted: Counter[str]
    read: set[int]
    failure: Failure | None = None
    error: Exception | None = None


def trace(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    formulas: Mapping[str, Formula] | None = None,
    budget: int | None = None,
    values: bool = True,
) -> Trace:
    """Run `module` in eval mode without gradients and return its calls, up to where it fails if it does.

    Afterwards its mode, its buffers and the random state are what they were. formulas: multiply-adds of
    operators that torch doesn't know, by qualified name. Where nobody needs the `values`, for the
    weights have none, products give memory of the right shape.

    Raises BudgetExceeded when the run passes `budget` multiply-adds, NeedsValues when there are no
    values and the model looks at them.
    """
    watcher = Watcher(formulas or {}, budget)
    with ExitStack() as stack:
        stack.enter_context(_as_it_was(module))
        stack.enter_context(torch.inference_mode(False))  # in it, products come whole, not as operators
        stack.enter_context(torch.no_grad())
        stack.enter_context(without_attention_fast_path())
        stack.enter_context(watcher.watching(values))
        try:
            module(*args, **(kwargs or {}))
        except (BudgetExceeded, NeedsValues):
            raise
        except Exception as error:
            return watcher.result(error)
    return watcher.result()


class Watcher:
    """Keeps the stack of calls under way while a model runs."""

    def __init__(self, formulas: Mapping[str, Formula], budget: int | None = None) -> None:
        self.names: dict[int, str] = {}
        self.top = Call("", "module", "")
        self.stack = [self.top]
        self.formulas, self.budget, self.spent = formulas, budget, 0
        self.uncounted: Counter[str] = Counter()
        self.read: set[int] = set()
        self.failed: tuple[Exception, Call] | None = None

    @property
    def current(self) -> Call:
        """The innermost call under way."""
        return self.stack[-1]

    def result(self, error: Exception | None = None) -> Trace:
        """Return what was seen; `error` is what forward failed with."""
        root = self.top.children[0]
        seen = Trace(root, self.uncounted, self.read, error=error)
        if error is not None:
            _, call = self.failed or (error, root)
            words = f"{type(error).__name__}: {error}".strip()
            seen.failure = Failure(call.path, call.type, words, call.inputs)
        return seen

    @contextmanager
    def watching(self, values: bool = True) -> Iterator[None]:
        """See every call of a module, of a function and of an operator."""
        called, here = nn.Module.__call__, threading.get_ident()

        def call_module(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != here:  # a model that another thread runs meanwhile
                return called(module, *args, **kwargs)
            return self.call_module(called, module, args, kwargs)

        # Not hooks for all modules: those see neither keyword arguments beforehand nor a failure.
        nn.Module.__call__ = call_module  # type: ignore[method-assign]
        try:
            with _Functions(self, values), _Operators(self, values):
                yield
        finally:
            nn.Module.__call__ = called  # type: ignore[method-assign]

    @contextmanager
    def under_way(self, call: Call) -> Iterator[None]:
        """Have `call` on top of the stack; remember the innermost one that an error comes from."""
        self.stack.append(call)
        try:
            yield
        except Exception as error:
            if self.failed is None or self.failed[0] is not error:
                self.failed = error, call
            raise
        finally:
            self.stack.pop()

    def call_module(self, called: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Note the call of a module and make it."""
        if self.current is self.top:
            self.names = {id(each): name for name, each in module.named_modules()}
        path = self.names.get(id(module), f"{self.current.path}.(unregistered)".lstrip("."))
        call = Call(path, "module", type(module).__name__, module, described(args, kwargs))
        self.current.children.append(call)
        with self.under_way(call):
            result = called(module, *args, **kwargs)
        call.type = type(module).__name__  # a lazy module has become another
        call.outputs = described((result,))
        return result

    def call_function(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function; note it where it is a step of a module's own forward."""
        parent = self.current
        if parent.kind == "function" or parent.hides_functions or func.__name__ in ASIDES:
            return func(*args, **kwargs)
        name = func.__name__.strip("_")
        in_place = func.__name__.startswith("__i") or (
            func.__name__.endswith("_") and name == func.__name__[:-1]
        )
        call = Call(f"{parent.path}.{name}".lstrip("."), "function", name, inputs=described(args, kwargs))
        try:
            with self.under_way(call):
                result = func(*args, **kwargs)
        except Exception:
            parent.children.append(call)
            raise
        call.outputs = described((result,))
        unchanged = not in_place and any(result is each for each in args)
        takes, gives = (next(tensors_of(each), None) for each in (call.inputs, call.outputs))
        if call.macs or (takes and gives and not unchanged):
            parent.children.append(call)
        else:
            parent.saved += call.saved
        return result

    def count(self, operator: Any, args: Any, kwargs: Any, result: Any) -> bool:
        """Note what an operator costs and what it reads; return whether it has a formula."""
        if not operator.is_view:
            self.read.update(
                each.untyped_storage()._cdata for each in tensors_in(args) if each.layout == torch.strided
            )
        cost = cost_of(operator, args, kwargs, result, self.formulas)
        if cost is None:
            if not is_mover(operator):
                self.uncounted[str(operator._overloadpacket)] += 1
            return False
        self._spend(cost)
        return True

    def _spend(self, cost: Cost) -> None:
        self.current.macs += cost.forward
        self.current.backward += cost.backward
        self.spent += cost.forward
        if self.budget is not None and self.spent > self.budget:
            raise BudgetExceeded


class _Functions(TorchFunctionMode):
    def __init__(self, watcher: Watcher, values: bool) -> None:
        super().__init__()
        self.watcher, self.values = watcher, values

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.values and func.__name__ in READERS:
            raise NeedsValues
        return self.watcher.call_function(func, args, kwargs or {})


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, watcher: Watcher, values: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watcher, self.values, self.in_parts = watcher, values, False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo, half a second, for a compiler that never runs here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # a fake tensor is asked for its device
            return func(*args, **kwargs)
        shape = None
        if not self.values:
            if reads_values(func, args):
                raise NeedsValues
            shape = product_shape(func, args)
        if shape is not None:
            result = args[0].new_empty(shape)
        elif (parts := self._in_parts(func, args, kwargs)) is not NotImplemented:
            return parts
        else:
            result = func(*args, **kwargs)
        self.watcher.count(func, args, kwargs, result)
        return result

    def _in_parts(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the result of an operator made of others, each of which is seen; else NotImplemented.

        On tensors made in inference mode such operators come here whole, and so do those within them.
        """
        if not self.in_parts and not any(each.is_inference() for each in tensors_in(args)):
            return NotImplemented
        if not _is_made_of_others(func):
            return NotImplemented
        outer, self.in_parts = self.in_parts, True
        try:
            with self:
                return func.decompose(*args, **kwargs)
        finally:
            self.in_parts = outer


@functools.cache
def _is_made_of_others(operator: Any) -> bool:
    return bool(operator._can_decompose())


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """Put the module into eval mode; afterwards its modes, buffers and the random states are as before."""
    modes = {each: each.training for each in module.modules()}
    places = [(each, dict(each._buffers)) for each in modes if not isinstance(each, torch.jit.ScriptModule)]
    buffers = [(each, each._version, each.clone()) for each in module.buffers() if _has_values(each)]
    for each in modes:
        each.training = False  # train(False) may be the model's own, and do more, such as merge weights
    try:
        with random_states_kept({each.device for each in (*module.parameters(), *module.buffers())}):
            yield
    finally:
        for each, mode in modes.items():
            each.training = mode
        for each, held in places:
            each._buffers.update(held)
        with torch.no_grad():
            for buffer, version, before in buffers:
                if buffer._version != version:
                    buffer.copy_(before)


def _has_values(tensor: Tensor) -> bool:
    return not tensor.is_meta and not tensor.is_inference() and not nn.parameter.is_lazy(tensor)


@contextmanager
def without_attention_fast_path() -> Iterator[None]:
    """Keep attention in plain operators, the same ones in every mode and on every device."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def described(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> tuple[Value, ...]:
    """Return what a call takes or gives, in the words of a report."""
    values = tuple(_describe(each) for each in args)
    return (*values, {name: _describe(each) for name, each in kwargs.items()}) if kwargs else values


def _describe(value: Any) -> Value:
    if isinstance(value, Tensor):
        return TensorInfo(_shape(value), str(value.dtype).removeprefix("torch."), str(value.device))
    if isinstance(value, Mapping):
        return {str(name): _describe(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_describe(each) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _describe(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if value is None or isinstance(value, (str, bool, int, float, complex)):
        words = repr(value)
        return words if len(words) <= LONGEST_WORDS else f"{words[: LONGEST_WORDS - 1]}…"
    return type(value).__name__


def _shape(tensor: Tensor) -> Shape:
    if tensor.is_nested:
        return (tensor.size(0), -1)  # the sequences of a nested tensor have lengths of their own
    return tuple(tensor.shape)
