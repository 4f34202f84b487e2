"""The proof at larger sizes than those of the plan, as far as a budget of seconds and bytes allows.

A branch on a size, a kernel chosen by size, or a different way of rounding shows only at certain sizes, and
nothing says which. So as many sizes as possible are tried, the cheapest first.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, TypeAlias

from torch.overrides import TorchFunctionMode

from nnkit.errors import VerificationFailed
from nnkit.models.sizes import Sizes, ladders
from nnkit.models.tensors import bytes_of, tensors_in
from nnkit.verbs.exporting.plan import Plan, Run
from nnkit.verbs.exporting.report import Check, Reach

SECONDS = 5.0
BYTES = 2**30
COARSE_SHARE = 0.7  # of the seconds, for the coarse steps
FEW = 64  # elements; a comparison of fewer takes as long as one of so many

Compare: TypeAlias = Callable[[Run], list[Check] | None]


def explore(plan: Plan, compare: Compare) -> Reach | None:
    """Compare at ever larger sizes within the budget; return how far it went, None where no dim is free.

    compare: compares one run and raises VerificationFailed where it fails; it returns None where rounding
    leaves nothing to compare.
    """
    if not plan.dims:
        return None
    deadline = _Deadline(time.perf_counter())
    smallest = min(plan.runs, key=lambda run: sum(tensor.numel() for tensor in run.inputs))
    watch, last = _choose_watch(smallest, compare)
    tried = {tuple(run.sizes.items()) for run in plan.runs}
    coarse, fine = ladders(plan.dims, plan.traced_run.sizes, _find_image_dims(plan))
    checks: list[Check] = []
    for share, stage in ((COARSE_SHARE, coarse), (1.0, fine)):
        last_of_ladder: dict[int, _Cost] = {}
        ended: set[int] = set()
        for step in _sort_by_elements(plan, stage):
            assignment = tuple(step.sizes.items())
            if step.ladder in ended or assignment in tried:
                continue
            # A ladder ends where its next step would exceed the budget, judged by the last comparison on any
            # ladder and by the last one on its own: attention grows faster with time than with batch.
            expected = last.at(step.elements)
            if step.ladder in last_of_ladder:
                expected = expected.or_more(last_of_ladder[step.ladder].at(step.elements))
            if expected.seconds > deadline.seconds_left(share) or expected.bytes > BYTES:
                ended.add(step.ladder)
                continue
            tried.add(assignment)
            last = last_of_ladder[step.ladder] = _Cost.of(plan.draw(step.sizes), compare, watch())
            checks += last.checks
            if last.is_final:
                ended.add(step.ladder)
    return Reach(tuple(checks), SECONDS, BYTES)


@dataclass(frozen=True)
class _Deadline:
    """When the budget of seconds began."""

    start: float

    def seconds_left(self, share: float) -> float:
        """Return the seconds left of a share of the budget."""
        return share * SECONDS - (time.perf_counter() - self.start)


class _Step(NamedTuple):
    """An assignment of sizes; ladder: the number of the way up that it is a step of."""

    elements: int
    ladder: int
    sizes: Sizes


def _sort_by_elements(plan: Plan, stage: list[list[Sizes]]) -> list[_Step]:
    """Return the steps of all ladders, the inputs with the fewest elements first."""
    steps = []
    for number, ladder in enumerate(stage):
        for sizes in ladder:
            elements = sum(prod(plan.spec.shape(tensor, sizes)) for tensor in plan.spec.inputs)
            steps.append(_Step(elements, number, sizes))
    return sorted(steps, key=lambda step: (step.elements, step.ladder))


def _choose_watch(run: Run, compare: Compare) -> "tuple[type[_Allocations | _Unwatched], _Cost]":
    """Return what counts bytes, and what this run costs.

    Where forward compiles a part of itself, as torch.cond does, nothing can count.
    """
    try:
        return _Allocations, _Cost.of(run, compare, _Allocations())
    except VerificationFailed:
        return _Unwatched, _Cost.of(run, compare, _Unwatched())


def _find_image_dims(plan: Plan) -> list[tuple[str, str]]:
    """Return the pairs of free dims that are the last two axes of an input of three or more."""
    ends = {tensor.shape[-2:] for tensor in plan.inputs if len(tensor.shape) > 2}
    return [
        (str(height), str(width))
        for height, width in ends
        if height != width and height in plan.dims and width in plan.dims
    ]


@dataclass(frozen=True)
class _Cost:
    """What a comparison took, and whether larger ones are useless."""

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
        elements = sum(tensor.numel() for tensor in run.inputs)
        return cls(elements, time.perf_counter() - start, watch.bytes, checks or (), checks is None)

    def at(self, elements: int) -> "_Cost":
        """Return what a comparison of this many elements is expected to take."""
        # Attention grows faster than this. But a step is at most twice the last, so the budget is only
        # exceeded by a little.
        factor = max(elements, FEW) / max(self.elements, FEW)
        return _Cost(elements, self.seconds * factor, int(self.bytes * factor))

    def or_more(self, other: "_Cost") -> "_Cost":
        """Return the larger of two expectations."""
        return _Cost(self.elements, max(self.seconds, other.seconds), max(self.bytes, other.bytes))


class _Unwatched(contextlib.nullcontext[None]):
    """Used instead of _Allocations where bytes can't be counted."""

    bytes = 0


class _Allocations(TorchFunctionMode):
    """Adds up the bytes of all results of torch functions, which is more than is alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.bytes += sum(bytes_of(tensor) for tensor in tensors_in(result))
        return result
