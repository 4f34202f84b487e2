"""Runs a model once and records the calls of its modules and functions in order, with their costs."""

import dataclasses
import functools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from nnkit.contract.text import truncate
from nnkit.models.members import named_buffers, named_modules, named_parameters
from nnkit.models.process import random_states_kept
from nnkit.models.tensors import PLAIN
from nnkit.models.user_lines import at_line
from nnkit.verbs.summary.counting import count_activations, count_macs, has_formula, traits_of
from nnkit.verbs.summary.formulas import Formula
from nnkit.verbs.summary.keeping import Snapshot
from nnkit.verbs.summary.modes import Functions, NeedsValues, Operators, Unknowns
from nnkit.verbs.summary.report import Failure, Shape, TensorInfo, Value, tensors_of

# Functions that return a tensor but are no step of a computation.
NOT_STEPS = frozenset(
    {"__get__", "__set__", "detach", "requires_grad_", "new_zeros", "new_ones", "new_empty", "new_full"}
)

LONGEST_ARGUMENT = 40  # characters of an argument that is not a tensor


class BudgetExceeded(Exception):
    """The run costs more multiply-adds than it was given."""


@dataclass(eq=False, slots=True)
class Call:
    """A call under way or done: of a module, or of a function in a module's own forward.

    macs, backward: the multiply-adds of its own forward and, if a training step is watched, of the backward
    pass through it, without those of the calls beneath. saved: the bytes that its own forward keeps for
    backward. peak: the most bytes alive during its forward, with the calls beneath. Both are 0 unless memory
    is watched.
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
        """Whether the functions in its forward are torch's own, not steps that the model's author wrote."""
        return self.module is not None and type(self.module).__module__.startswith("torch.nn.")

    def total(self, cost: Literal["macs", "backward", "saved"]) -> int:
        """Return its multiply-adds or bytes and those of everything beneath."""
        own: int = getattr(self, cost)
        return own + sum(child.total(cost) for child in self.children) if self.children else own


@dataclass
class Trace:
    """What a run showed.

    root: the outermost call. uncounted: the operators without a formula, with how often each ran.
    read: the storages that operators took values from. activations: the elements that products gave.
    failure, error: set if forward failed.
    arguments, result: what forward was given, by the names of its parameters, and what it returned.
    """

    root: Call
    uncounted: Counter[str]
    read: set[int]
    activations: int = 0
    failure: Failure | None = None
    error: Exception | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    result: Any = None


class Watch(Protocol):
    """Makes what watches a run."""

    def __call__(self, formulas: Mapping[str, Formula], budget: int | None, /) -> "Watcher":
        """Return a watcher for one run."""


def trace(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    formulas: Mapping[str, Formula] | None = None,
    budget: int | None = None,
    values: bool = True,
    watch: Watch | None = None,
) -> Trace:
    """Run `module` in eval mode and return its calls, up to the failing one if forward fails.

    It runs without gradients first. If that fails it runs with them, for forward may itself differentiate.
    Afterwards the module, its inputs and the random state are as they were.

    formulas: multiply-adds of operators that torch doesn't know, by qualified name. values: False if the
    weights hold no values; then products are not computed but return memory of the right shape. watch: makes
    the watcher of each run, by default a plain one.

    Raises BudgetExceeded when the run passes `budget` multiply-adds, NeedsValues when the model looks at
    values that don't exist.
    """
    kwargs, formulas, watch = kwargs or {}, formulas or {}, watch or Watcher
    traced = _run(module, args, kwargs, watch(formulas, budget), values, gradients=False)
    if traced.failure is None:
        return traced
    with_gradients = _run(module, args, kwargs, watch(formulas, budget), values, gradients=True)
    return with_gradients if with_gradients.failure is None else traced


def _run(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    watcher: "Watcher",
    values: bool,
    gradients: bool,
) -> Trace:
    unknowns = None if values else Unknowns(named_parameters(module).values())
    with ExitStack() as stack:
        snapshot = stack.enter_context(_restored_afterwards(module, (args, kwargs)))
        stack.enter_context(torch.inference_mode(False))  # in it, products come whole, not as operators
        stack.enter_context(torch.set_grad_enabled(gradients))
        stack.enter_context(without_attention_fast_path())
        stack.enter_context(watcher.watching(unknowns, snapshot))
        try:
            result = module(*args, **kwargs)
        except (BudgetExceeded, NeedsValues):
            raise
        except Exception as error:
            return watcher.result(error)
    watcher.read |= snapshot.replaced  # what a run writes anew is no weight that it leaves out
    return replace(watcher.result(), result=result)


class Watcher:
    """Keeps the stack of calls under way while a model runs."""

    notes_reads = True

    def __init__(self, formulas: Mapping[str, Formula], budget: int | None = None) -> None:
        self.names: dict[int, str] = {}
        self.top = Call("", "module", "")
        self.stack = [self.top]
        self.formulas, self.budget, self.spent = formulas, budget, 0
        self.activations = 0
        self.uncounted: Counter[str] = Counter()
        self.read: set[int] = set()
        self.failed: tuple[Exception, Call] | None = None
        self.snapshot: Snapshot | None = None

    @property
    def current(self) -> Call:
        """The innermost call under way."""
        return self.stack[-1]

    def result(self, error: Exception | None = None) -> Trace:
        """Return what was seen; `error` is what forward failed with."""
        root = self.top.children[0]
        traced = Trace(root, self.uncounted, self.read, self.activations, error=error)
        if error is not None:
            _, call = self.failed or (error, root)
            message = f"{type(error).__name__}: {error}".strip() + at_line(error)
            traced.failure = Failure(call.path, call.type, message, call.inputs)
        return traced

    @contextmanager
    def watching(self, unknowns: Unknowns | None = None, snapshot: Snapshot | None = None) -> Iterator[None]:
        """See every call of a module, of a function and of an operator.

        unknowns: the tensors without values, None if all have values. snapshot: notified of every write.
        """
        self.snapshot = snapshot
        with uncompiled(), self.seeing_modules(), Functions(self, unknowns), Operators(self, unknowns):
            yield

    @contextmanager
    def seeing_modules(self) -> Iterator[None]:
        """See every call of a module."""
        called, here = nn.Module.__call__, threading.get_ident()

        def call_module(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != here:  # a model that another thread runs meanwhile
                return called(module, *args, **kwargs)
            return self.call_module(called, module, args, kwargs)

        # Not hooks for all modules: those see neither keyword arguments beforehand nor a failure.
        nn.Module.__call__ = call_module  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = called  # type: ignore[method-assign]

    @contextmanager
    def under_way(self, call: Call) -> Iterator[None]:
        """Put `call` on top of the stack; remember the innermost one that an error comes from."""
        self.stack.append(call)
        try:
            yield
        except Exception as error:
            if self.failed is None or self.failed[0] is not error:
                self.failed = error, call
            raise
        finally:
            self.stack.pop()

    def path_of(self, module: nn.Module) -> str:
        """Return the dotted name of a module that is called now; the outermost one names the others."""
        if self.current is self.top:
            self.names = {id(submodule): name for name, submodule in named_modules(module).items()}
        name = self.names.get(id(module))
        return self.inner_path("(unregistered)") if name is None else name

    def inner_path(self, name: str) -> str:
        """Return the dotted name of something in the call under way."""
        path = self.current.path
        return f"{path}.{name}" if path else name.lstrip(".")

    def call_module(self, called: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Note the call of a module and make it."""
        call = Call(self.path_of(module), "module", type(module).__name__, module, describe(args, kwargs))
        self.current.children.append(call)
        with self.under_way(call):
            result = called(module, *args, **kwargs)
        call.type = type(module).__name__  # a lazy module has changed its class
        call.outputs = describe((result,))
        return result

    def call_function(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function; note it where it is a step of a module's own forward."""
        parent = self.current
        if parent.kind == "function" or parent.hides_functions or func.__name__ in NOT_STEPS:
            return func(*args, **kwargs)
        name = func.__name__.strip("_")
        call = Call(self.inner_path(name), "function", name, None, describe(args, kwargs))
        try:
            with self.under_way(call):
                result = func(*args, **kwargs)
        except Exception:
            parent.children.append(call)
            raise
        call.outputs = describe((result,))
        if call.macs or _is_step(func, call, args, result):
            parent.children.append(call)
        else:
            self.leave_out(call, parent)
        return result

    def leave_out(self, call: Call, parent: Call) -> None:
        """Give the call of a function no row of its own; its cost goes to its parent."""
        parent.saved += call.saved

    def note_read(self, storages: set[int]) -> None:
        """Take note of storages whose values are read."""
        self.read |= storages

    def before_write(self, tensors: Iterable[Tensor]) -> None:
        """Take note of tensors that are about to be written to."""
        if self.snapshot is not None:
            for tensor in tensors:
                self.snapshot.before_write(tensor)

    def has_formula(self, operator: Any) -> bool:
        """Whether the cost of an operator is known."""
        return has_formula(operator, self.formulas)

    def count(self, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Note the cost of an operator, or that no formula for it exists."""
        macs = count_macs(operator, args, kwargs, result, self.formulas)
        if macs is not None:
            self.activations += count_activations(operator, args, result)
            self.spend(macs)
        elif not (traits := traits_of(operator)).moves_data:
            self.uncounted[traits.label] += 1

    def spend(self, macs: int) -> None:
        """Add multiply-adds to the call under way."""
        self.current.macs += macs
        self.spent += macs
        if self.budget is not None and self.spent > self.budget:
            raise BudgetExceeded


@contextmanager
def _restored_afterwards(module: nn.Module, inputs: Any) -> Iterator[Snapshot]:
    """Put the module into eval mode; afterwards it, its inputs and the random states are as before."""
    snapshot = Snapshot(module, inputs)
    tensors = (*named_parameters(module).values(), *named_buffers(module).values())
    devices = {tensor.device for tensor in tensors}
    for submodule in snapshot.modes:
        submodule.training = False  # train(False) may be the model's own, and do more, such as merge weights
    try:
        with random_states_kept(devices):
            yield snapshot
    finally:
        snapshot.restore()


def uncompiled() -> AbstractContextManager[object]:
    """Return a context in which compiled functions run as they are written, if there may be any."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def without_attention_fast_path() -> Iterator[None]:
    """Keep attention in plain operators, the same ones in every mode and on every device."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _is_step(func: Callable[..., Any], call: Call, args: Any, result: Any) -> bool:
    """Whether a call makes a tensor from a tensor, and doesn't just return one of its arguments."""
    if not (_has_tensor(call.inputs) and _has_tensor(call.outputs)):
        return False
    returns_argument = any(result is argument for argument in args)
    return not returns_argument or is_in_place(func)


def _has_tensor(values: tuple[Value, ...]) -> bool:
    return TensorInfo in map(type, values) or next(tensors_of(values), None) is not None


def is_in_place(func: Callable[..., Any]) -> bool:
    """Whether a function writes to its first argument by its name: `relu_`, `__iadd__`, not `__add__`."""
    name = func.__name__
    if name.startswith("__"):
        return name.startswith("__i")
    return name.endswith("_") and not name.startswith("_")


def describe(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> tuple[Value, ...]:
    """Return what a call takes or gives as a report shows it; keyword arguments are one dict at the end."""
    values = tuple(map(describe_value, args))
    if kwargs:
        return (*values, {name: describe_value(value) for name, value in kwargs.items()})
    try:
        return _shared(values)
    except TypeError:  # one of them is a dict
        return values


@functools.lru_cache(maxsize=4096)
def _shared(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the values, or equal ones from before: a loop takes the same ones again and again."""
    return values


def describe_value(value: Any) -> Value:
    """Return one value that a call takes or gives as a report shows it."""
    if type(value) in PLAIN:
        with torch._C.DisableTorchFunction():  # to a mode, looking at a tensor is the call of a function
            if not value.is_nested:
                return _tensor_info(value.shape, value.dtype, value.device)
    if isinstance(value, Tensor):
        return _tensor_info(shape_of(value), value.dtype, value.device)
    if value is None or type(value) in (bool, int, str):
        return truncate(repr(value), LONGEST_ARGUMENT)
    if isinstance(value, Mapping):
        return {str(name): describe_value(element) for name, element in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(describe_value(element) for element in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: describe_value(getattr(value, name)) for name in names}
    if value is None or isinstance(value, (str, bool, int, float, complex)):
        return truncate(repr(value), LONGEST_ARGUMENT)
    return type(value).__name__


@functools.lru_cache(maxsize=4096)
def _tensor_info(shape: Shape, dtype: torch.dtype, device: torch.device) -> TensorInfo:
    return TensorInfo(tuple(shape), str(dtype).removeprefix("torch."), str(device))


def shape_of(tensor: Tensor) -> Shape:
    """Return the shape of a tensor; -1 where lengths differ."""
    if tensor.is_nested:
        return (tensor.size(0), -1)  # the sequences of a nested tensor have lengths of their own
    return tuple(tensor.shape)
