"""The time that each call of a model takes, from real runs that do nothing but look at the clock."""

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nnkit.contract.requests import SummaryRequest
from nnkit.errors import NnkitError
from nnkit.models.building import build_module
from nnkit.models.devices import find_device
from nnkit.models.members import move
from nnkit.models.sampling import sample_inputs
from nnkit.verbs.graph.flow import Flow
from nnkit.verbs.graph.watching import ASIDES, is_leaf, name_of
from nnkit.verbs.summary.formulas import Formula
from nnkit.verbs.summary.keeping import Snapshot
from nnkit.verbs.summary.modes import Functions, Unknowns
from nnkit.verbs.summary.runs import bind_inputs
from nnkit.verbs.summary.tracing import Call, Trace, Watcher, trace, uncompiled

ROUNDS = 7  # after one to warm up
MOST_SECONDS = 10.0  # after which no further round begins


def time_calls(request: SummaryRequest, flow: Flow) -> Mapping[Call, float]:
    """Return the median seconds of each call on the request's device; none if the calls differ in every run.

    The time of a module is that of everything beneath, without what looking at the clock takes.

    Raises NnkitError if the model doesn't run.
    """
    module, args, kwargs = _prepare(request)
    rounds: list[list[tuple[str, float]]] = []
    began = time.perf_counter()
    while len(rounds) <= ROUNDS and (len(rounds) < 2 or time.perf_counter() - began < MOST_SECONDS):
        traced = trace(module, args, kwargs, watch=Stopwatch)
        assert isinstance(traced, TimedTrace)
        if traced.failure is not None:
            raise NnkitError(f"the time can't be measured: {traced.failure.error}", "leave --heat time out")
        rounds.append(traced.taken)
    return dict(_match(flow.order, rounds[1:]))


def _prepare(request: SummaryRequest) -> tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    """Return the model with values for its weights, and its inputs, on the device of the request."""
    if request.module is not None:
        return request.module, request.inputs or (), request.keywords
    device = find_device(request.device)
    module = move(build_module(request.spec, request.host), device)
    inputs = tuple(tensor.to(device) for tensor in sample_inputs(request.spec, full=True))
    return module, *bind_inputs(request, module, inputs)


def _match(order: Sequence[Call], rounds: list[list[tuple[str, float]]]) -> Iterator[tuple[Call, float]]:
    """Yield the calls with their medians, from the runs that made the same calls."""
    paths = [call.path for call in order]
    same = [[seconds for _, seconds in each] for each in rounds if [path for path, _ in each] == paths]
    for call, samples in zip(order, zip(*same, strict=True), strict=False):
        yield call, statistics.median(samples)


@dataclass
class TimedTrace(Trace):
    """What a run showed. taken: path and seconds of each call, in the order in which they began."""

    taken: list[tuple[str, float]] = field(default_factory=list)


class Stopwatch(Watcher):
    """Takes the time of the calls that a FlowWatcher sees, in the same order.

    taken: path and seconds of each. spent_here: the seconds that taking times itself took so far.
    """

    def __init__(self, formulas: Mapping[str, Formula], budget: int | None = None) -> None:
        super().__init__(formulas, budget)
        self.taken: list[tuple[str, float]] = []
        self.spent_here = 0.0

    def result(self, error: Exception | None = None) -> TimedTrace:
        """Return what was seen."""
        return TimedTrace(**vars(super().result(error)), taken=self.taken)

    @contextmanager
    def watching(self, unknowns: Unknowns | None = None, snapshot: Snapshot | None = None) -> Iterator[None]:
        """See every call of a module and of a function, but no operators: seeing those is slow."""
        self.snapshot = snapshot
        with uncompiled(), self.seeing_modules(), Functions(self, unknowns):
            yield

    def call_module(self, called: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Make the call of a module and take its time."""
        entered = time.perf_counter()
        call = Call(self.path_of(module), "module", "", module)
        if self.current is self.top:
            self.top.children.append(call)
        return self._time(call, entered, functools.partial(called, module, *args, **kwargs))

    def call_function(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Make the call of a function and take its time, if a graph shows it."""
        entered, parent = time.perf_counter(), self.current
        if parent.kind == "function" or name_of(func) in ASIDES or is_leaf(parent):
            return func(*args, **kwargs)
        call = Call(f"{parent.path}.{name_of(func).strip('_')}".lstrip("."), "function", "")
        return self._time(call, entered, functools.partial(func, *args, **kwargs))

    def _time(self, call: Call, entered: float, make: Callable[[], Any]) -> Any:
        index = len(self.taken)
        self.taken.append((call.path, 0.0))
        with self.under_way(call):
            begun = time.perf_counter()
            self.spent_here += begun - entered
            spent = self.spent_here
            result = make()
            _wait()
            ended = time.perf_counter()
        self.taken[index] = call.path, max(ended - begun - (self.spent_here - spent), 0.0)
        self.spent_here += time.perf_counter() - ended
        return result


def _wait() -> None:
    """Wait until an accelerator has done what it was given, if there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
