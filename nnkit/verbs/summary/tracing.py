"""One run of a model, watched: the calls of its modules and functions in order, with their costs."""

import dataclasses
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nnkit.models.members import named_buffers, named_modules, named_parameters
from nnkit.models.process import random_states_kept
from nnkit.models.tensors import storages_of
from nnkit.models.user_lines import at_line
from nnkit.verbs.summary.counting import has_formula, is_mover, macs_of
from nnkit.verbs.summary.formulas import Formula
from nnkit.verbs.summary.keeping import Snapshot
from nnkit.verbs.summary.modes import Functions, NeedsValues, Operators, Unknowns
from nnkit.verbs.summary.report import Failure, Shape, TensorInfo, Value, tensors_of

# Functions that return a tensor but are no step of a computation.
ASIDES = frozenset("__get__ __set__ detach requires_grad_ new_zeros new_ones new_empty new_full".split())

LONGEST_WORDS = 40  # of an argument that is no tensor


class BudgetExceeded(Exception):
    """The run costs more multiply-adds than it was given."""


@dataclass
class Call:
    """A call under way or done: of a module, or of a function in a module's own forward.

    macs and backward are its own, without those of the calls beneath: the multiply-adds of its forward and,
    where somebody watches one, of the backward pass through it. saved and peak are the bytes that its
    forward keeps for a backward pass and has alive at most, where somebody watches memory.
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
    """Run `module` in eval mode and return its calls, up to where it fails if it does.

    It runs without gradients, or with them where it fails so: it may differentiate in its own forward.
    Afterwards it, its inputs and the random state are what they were. formulas: multiply-adds of operators
    that torch doesn't know, by qualified name. Where nobody needs the `values`, for the weights have none,
    products give memory of the right shape.

    Raises BudgetExceeded when the run passes `budget` multiply-adds, NeedsValues when the model looks at
    values that there are not.
    """
    kwargs = kwargs or {}
    seen = _run(module, args, kwargs, Watcher(formulas or {}, budget), values, gradients=False)
    if seen.failure is None:
        return seen
    again = _run(module, args, kwargs, Watcher(formulas or {}, budget), values, gradients=True)
    return again if again.failure is None else seen


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
        snapshot = stack.enter_context(_as_it_was(module, (args, kwargs)))
        stack.enter_context(torch.inference_mode(False))  # in it, products come whole, not as operators
        stack.enter_context(torch.set_grad_enabled(gradients))
        stack.enter_context(without_attention_fast_path())
        stack.enter_context(watcher.watching(unknowns, snapshot))
        try:
            module(*args, **kwargs)
        except (BudgetExceeded, NeedsValues):
            raise
        except Exception as error:
            return watcher.result(error)
    watcher.read |= snapshot.replaced  # what a run writes anew is no weight that it leaves out
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
        self.snapshot: Snapshot | None = None

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
            words = f"{type(error).__name__}: {error}".strip() + at_line(error)
            seen.failure = Failure(call.path, call.type, words, call.inputs)
        return seen

    @contextmanager
    def watching(self, unknowns: Unknowns | None = None, snapshot: Snapshot | None = None) -> Iterator[None]:
        """See every call of a module, of a function and of an operator.

        unknowns: the tensors without values, None where all have some. snapshot: is told what is written to.
        """
        called, here = nn.Module.__call__, threading.get_ident()
        self.snapshot = snapshot

        def call_module(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != here:  # a model that another thread runs meanwhile
                return called(module, *args, **kwargs)
            return self.call_module(called, module, args, kwargs)

        # Not hooks for all modules: those see neither keyword arguments beforehand nor a failure.
        nn.Module.__call__ = call_module  # type: ignore[method-assign]
        try:
            with uncompiled(), Functions(self, unknowns), Operators(self, unknowns):
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
            self.names = {id(each): name for name, each in named_modules(module).items()}
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
            self.leave_out(call, parent)
        return result

    def leave_out(self, call: Call, parent: Call) -> None:
        """Have no row for the call of a function; what it costs is its parent's."""
        parent.saved += call.saved

    def note_read(self, tensors: Iterable[Tensor]) -> None:
        """Take note of tensors whose values are read."""
        for each in tensors:
            self.read |= storages_of(each)

    def before_write(self, tensors: Iterable[Tensor]) -> None:
        """Take note of tensors that are about to be written to."""
        if self.snapshot is not None:
            for each in tensors:
                self.snapshot.before_write(each)

    def has_formula(self, operator: Any) -> bool:
        """Whether it is known what an operator costs."""
        return has_formula(operator, self.formulas)

    def count(self, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Note what an operator costs, or that there is no formula for it."""
        macs = macs_of(operator, args, kwargs, result, self.formulas)
        if macs is not None:
            self.spend(macs)
        elif not is_mover(operator):
            self.uncounted[str(operator._overloadpacket)] += 1

    def spend(self, macs: int) -> None:
        """Add multiply-adds to the call under way."""
        self.current.macs += macs
        self.spent += macs
        if self.budget is not None and self.spent > self.budget:
            raise BudgetExceeded


@contextmanager
def _as_it_was(module: nn.Module, inputs: Any) -> Iterator[Snapshot]:
    """Put the module into eval mode; afterwards it, its inputs and the random states are as before."""
    snapshot = Snapshot(module, inputs)
    devices = {each.device for named in (named_parameters, named_buffers) for each in named(module).values()}
    for each in snapshot.modes:
        each.training = False  # train(False) may be the model's own, and do more, such as merge weights
    try:
        with random_states_kept(devices):
            yield snapshot
    finally:
        snapshot.restore()


def uncompiled() -> AbstractContextManager[object]:
    """Return what has compiled functions run as they are written, where there may be any."""
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
