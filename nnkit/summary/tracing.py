"""One run of a model, watched: the calls of its modules and functions in order, with their costs."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nnkit.errors import NnkitError
from nnkit.summary.counting import is_mover, macs_of, product_shape
from nnkit.summary.report import Shape
from nnkit.tensors import tensors_in

# Functions that return a tensor but are no step of a computation.
ASIDES = frozenset("__get__ __set__ detach requires_grad_ new_zeros new_ones new_empty new_full".split())


class BudgetExceeded(Exception):
    """The run costs more multiply-adds than it was given."""


@dataclass
class Call:
    """A call under way or done: of a module, or of a function in a module's own forward."""

    path: str
    kind: Literal["module", "function"]
    type: str
    module: nn.Module | None = None
    inputs: tuple[Shape, ...] = ()
    outputs: tuple[Shape, ...] = ()
    macs: int = 0
    children: list["Call"] = field(default_factory=list)

    @property
    def hides_functions(self) -> bool:
        """Whether the functions in its forward are torch's own business, not the model's."""
        return self.module is not None and type(self.module).__module__.startswith("torch.nn.")

    def total_macs(self) -> int:
        """Return its multiply-adds and those of everything beneath."""
        return self.macs + sum(child.total_macs() for child in self.children)


@dataclass
class Trace:
    """What a run showed: the outermost call, and the operators without a formula, with how often."""

    root: Call
    uncounted: Counter[str]


def trace(
    module: nn.Module, inputs: tuple[Any, ...], *, budget: int | None = None, values: bool = True
) -> Trace:
    """Run `module` on `inputs` and return its calls.

    The module runs in eval mode without gradients; afterwards its mode is what it was. Raises
    BudgetExceeded when the run passes `budget` multiply-adds, NnkitError when forward fails. Where
    nobody needs the `values`, for the weights have none, products give memory of the right shape.
    """
    watcher = _Watcher(module, budget)
    with ExitStack() as stack:
        stack.enter_context(_eval_mode(module))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_without_attention_fast_path())
        stack.enter_context(watcher.hooks())
        stack.enter_context(_Functions(watcher))
        stack.enter_context(_Operators(watcher, values))
        try:
            module(*inputs)
        except BudgetExceeded:
            raise
        except Exception as error:
            place = f"{watcher.current.path or 'the model'} ({watcher.current.type})"
            raise NnkitError(
                f"forward failed in {place}: {type(error).__name__}: {error}",
                "look at the sizes and the dtype of the inputs",
            ) from error
    return Trace(watcher.top.children[0], watcher.uncounted)


class _Watcher:
    """Keeps the stack of calls under way while a model runs."""

    def __init__(self, module: nn.Module, budget: int | None) -> None:
        self.names = {id(each): name for name, each in module.named_modules()}
        self.top = Call("", "module", "")
        self.stack = [self.top]
        self.budget, self.spent = budget, 0
        self.uncounted: Counter[str] = Counter()

    @property
    def current(self) -> Call:
        return self.stack[-1]

    @contextmanager
    def hooks(self) -> Iterator[None]:
        # Hooks for all modules, so that one that is called but not registered is seen as well.
        before = nn.modules.module.register_module_forward_pre_hook(self._enter_module)
        after = nn.modules.module.register_module_forward_hook(self._leave_module, with_kwargs=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        path = self.names.get(id(module), f"{self.current.path}.(unregistered)".lstrip("."))
        call = Call(path, "module", type(module).__name__, module)
        self.current.children.append(call)
        self.stack.append(call)

    def _leave_module(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        call = self.stack.pop()
        while call.module is not module:  # one that raised, and whose caller went on
            call = self.stack.pop()
        call.inputs, call.outputs = shapes_in((args, kwargs)), shapes_in(result)

    def call_function(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        parent = self.current
        if parent.kind == "function" or parent.hides_functions or func.__name__ in ASIDES:
            return func(*args, **kwargs)
        name = func.__name__.strip("_")
        in_place = func.__name__.startswith("__i") or (
            func.__name__.endswith("_") and name == func.__name__[:-1]
        )
        call = Call(f"{parent.path}.{name}".lstrip("."), "function", name, inputs=shapes_in((args, kwargs)))
        self.stack.append(call)
        try:
            result = func(*args, **kwargs)
        finally:
            self.stack.pop()
        call.outputs = shapes_in(result)
        unchanged = not in_place and any(result is each for each in args)
        if call.macs or (call.inputs and call.outputs and not unchanged):
            parent.children.append(call)
        return result

    def count(self, operator: Any, args: Any, kwargs: Any, result: Any) -> None:
        macs = macs_of(operator, args, kwargs, result)
        if macs is None:
            if not is_mover(operator):
                self.uncounted[str(operator._overloadpacket)] += 1
            return
        self.current.macs += macs
        self.spent += macs
        if self.budget is not None and self.spent > self.budget:
            raise BudgetExceeded


class _Functions(TorchFunctionMode):
    def __init__(self, watcher: _Watcher) -> None:
        super().__init__()
        self.watcher = watcher

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.watcher.call_function(func, args, kwargs or {})


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, watcher: _Watcher, values: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watcher, self.values = watcher, values

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo, half a second, for a compiler that never runs here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shape = None if self.values else product_shape(func, args)
        result = func(*args, **(kwargs or {})) if shape is None else args[0].new_empty(shape)
        self.watcher.count(func, args, kwargs or {}, result)
        return result


@contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.training = mode


@contextmanager
def _without_attention_fast_path() -> Iterator[None]:
    """Keep attention in plain operators: the fused one would be a single call without a formula."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def shapes_in(value: Any) -> tuple[Shape, ...]:
    """Return the shapes of the tensors in a value, however nested."""
    return tuple(tuple(tensor.shape) for tensor in tensors_in(value))
