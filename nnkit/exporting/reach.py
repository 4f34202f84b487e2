"""The proof at larger sizes than those of the plan, as far as a budget of seconds and bytes goes.

A branch on a size, a kernel that was chosen by it, or another rule of rounding shows only at the sizes that
it concerns, and nobody knows which these are. So as many as can be are tried, the cheapest first.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from torch.overrides import TorchFunctionMode

from nnkit.errors import VerificationFailed
from nnkit.exporting.plan import Plan, Run
from nnkit.exporting.report import Check, Reach
from nnkit.exporting.sizes import Sizes, ladders
from nnkit.tensors import tensors_in

SECONDS = 5.0
BYTES = 2**30

Compare: TypeAlias = Callable[[Run], list[Check] | None]


def explore(plan: Plan, compare: Compare) -> Reach | None:
    """Compare at ever larger sizes within the budget; return how far it went, None where no dim is free.

    compare: judges one run, raising VerificationFailed for what doesn't hold; it returns None where
    rounding leaves nothing to judge.
    """
    if plan.given or not plan.dims:
        return None
    start = time.perf_counter()
    tried = {tuple(run.sizes.items()) for run in plan.runs}
    smallest = min(plan.runs, key=lambda run: sum(each.numel() for each in run.inputs))
    watch = _watch_for(smallest, compare)
    first = _Cost.of(smallest, compare, watch())
    climbs = [_Climb(plan, sizes, first) for sizes in ladders(plan.dims, plan.runs[0].sizes, _images(plan))]
    checks: list[Check] = []
    while climbs:
        climb = min(climbs, key=lambda each: each.expected.seconds)
        left = SECONDS - (time.perf_counter() - start)
        if climb.expected.seconds > left or climb.expected.bytes > BYTES:
            climbs.remove(climb)
            continue
        run = plan.draw(climb.step())
        if tuple(run.sizes.items()) not in tried:
            tried.add(tuple(run.sizes.items()))
            climb.last = _Cost.of(run, compare, watch())
            checks += climb.last.checks
        if climb.at_end or climb.last.is_final:
            climbs.remove(climb)
    return Reach(tuple(checks), SECONDS, BYTES)


def _watch_for(run: Run, compare: Compare) -> "type[_Allocations | _Unwatched]":
    """Return what watches the bytes; nothing where forward compiles a part of itself, as torch.cond does."""
    try:
        _Cost.of(run, compare, _Allocations())
    except VerificationFailed:
        return _Unwatched
    return _Allocations


def _images(plan: Plan) -> list[tuple[str, str]]:
    """Return the pairs of free dims that are the last two axes of an input of three or more."""
    ends = {tensor.shape[-2:] for tensor in plan.inputs if len(tensor.shape) > 2}
    return [
        (str(height), str(width))
        for height, width in ends
        if height != width and height in plan.dims and width in plan.dims
    ]


@dataclass(frozen=True)
class _Cost:
    """What a comparison took, and whether larger ones are no use."""

    elements: int
    seconds: float
    bytes: int
    checks: Sequence[Check] = ()
    is_final: bool = False

    @classmethod
    def of(cls, run: Run, compare: Compare, watch: "_Allocations | _Unwatched") -> "_Cost":
        start = time.perf_counter()
        with watch:
            checks = compare(run)
        elements = sum(each.numel() for each in run.inputs)
        return cls(elements, time.perf_counter() - start, watch.bytes, checks or (), checks is None)

    def at(self, elements: int) -> "_Cost":
        """Return what a comparison of so many elements is expected to take."""
        # A step is at most twice the last; attention takes four times as much then, so the budget is an aim.
        times = elements / max(self.elements, 1)
        return _Cost(elements, self.seconds * times, int(self.bytes * times))


class _Climb:
    """One ladder of sizes, and what its last step took."""

    def __init__(self, plan: Plan, ladder: list[Sizes], first: _Cost) -> None:
        self._plan, self._ladder, self._next, self.last = plan, ladder, 0, first

    @property
    def at_end(self) -> bool:
        return self._next == len(self._ladder)

    @property
    def expected(self) -> _Cost:
        """What the next step is expected to take."""
        spec, sizes = self._plan.spec, self._ladder[self._next]
        return self.last.at(sum(prod(spec.shape(tensor, sizes)) for tensor in spec.inputs))

    def step(self) -> Sizes:
        """Return the next sizes."""
        self._next += 1
        return self._ladder[self._next - 1]


class _Unwatched(contextlib.nullcontext[None]):
    """In the place of _Allocations, where nothing is known of the bytes."""

    bytes = 0


class _Allocations(TorchFunctionMode):
    """Adds up the bytes of what the functions of torch return, which is more than lives at once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.bytes += sum(each.nbytes for each in tensors_in(result))
        return result
