"""The summary at the largest size, such as the batch, that fits into memory."""

import functools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from nnkit.contract.requests import SummaryRequest
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.verbs.summary.report import Fit, Memory, SummaryReport

SIZE = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kmgt]?)(?P<binary>i?)b?\s*", re.IGNORECASE)
PREFIXES = ("", "k", "m", "g", "t")
MOST_STEPS = 2**20  # where the search for the largest batch ends


def parse_size(text: str) -> int:
    """Return the bytes of `16GB` (16·10⁹), `16GiB` (16·2³⁰), or a plain number."""
    match = SIZE.fullmatch(text)
    if match is None:
        raise UsageProblem(f"can't read the size {text!r}", "write it like 16GB or 512MiB")
    base = 1024 if match["binary"] else 1000
    return int(float(match["number"]) * base ** PREFIXES.index(match["unit"].lower()))


def fit_into(request: SummaryRequest, dim: str, limit: int) -> SummaryReport:
    """Return the summary at the largest size of `dim` whose training step fits into `limit` bytes.

    Raises UsageProblem if the architecture has no such dim.
    """
    spec = request.spec
    dims = spec.architecture.dims_for(spec.config)
    if dim not in dims:
        raise UsageProblem(
            f"{spec.name} has no size --{dim} under these options",
            did_you_mean(dim, dims) or f"its sizes: {', '.join(dims) or 'none'}",
        )

    @functools.cache
    def report_at(size: int) -> SummaryReport:
        at_size = replace(request, spec=spec.with_sizes({dim: size}))
        report: SummaryReport = request.host.hook.nnkit_summarize(request=at_size)
        return report

    def memory_at(size: int) -> Memory:
        report = report_at(size)
        if report.memory is None:
            reason = report.warnings[0] if report.warnings else "its plugin's own summary reports none"
            raise UsageProblem(f"the memory of {spec.name} is not known: {reason}", "leave --memory out")
        return report.memory

    lowest, step, highest = max(dims[dim].least, dims[dim].multiple_of), dims[dim].multiple_of, dims[dim].max

    def peak(size: int, which: Literal["training_peak", "inference_peak"]) -> int:
        if highest is not None and size > highest:
            return limit + 1  # no size of this dim, however much memory there is
        needed: int = getattr(memory_at(size), which)
        return needed

    def training_peak(size: int) -> int:
        return peak(size, "training_peak")

    # Batch norm can't be trained on one sample; what can't be trained on two has nothing to train.
    trained = next((size for size in (lowest, lowest + step) if training_peak(size)), None)
    training = largest_batch(training_peak, limit, trained, step) if trained else 0
    inference = largest_batch(lambda size: peak(size, "inference_peak"), limit, lowest, step)
    report = report_at(training or inference or lowest)
    return replace(report, fit=Fit(dim, limit, training, inference))


def largest_batch(peak_of: Callable[[int], int], limit: int, lowest: int = 1, step: int = 1) -> int:
    """Return the largest batch, a multiple of `step` and no less than `lowest`, that needs no more
    than `limit` bytes.

    0 when none fits. `peak_of(result) <= limit < peak_of(result + step)` has been seen to hold, unless
    even `MOST_STEPS` steps fit.
    """
    seen: dict[int, int] = {}

    def excess(steps: int) -> int:
        if steps not in seen:
            seen[steps] = peak_of(steps * step) - limit
        return seen[steps]

    fits = math.ceil(lowest / step)
    if excess(fits) > 0:
        return 0
    fails, guess = MOST_STEPS + 1, 2 * fits
    while fails - fits > 1:
        guess = min(max(guess, fits + 1), fails - 1)
        if excess(guess) > 0:
            fails = guess
        else:
            fits = guess
        guess = _next_guess(seen, fits, fails)
    return fits * step


def _next_guess(seen: dict[int, int], fits: int, fails: int) -> int:
    """Return where the line through the last two points meets zero; every third time, the middle.

    A peak is the largest of several functions that are affine in the batch, so the line may mislead. The
    middle can't.
    """
    if len(seen) % 3 == 0 and fails <= MOST_STEPS:
        return (fits + fails) // 2
    (before, excess_before), (last, excess) = list(seen.items())[-2:]
    if excess == excess_before:
        return 16 * fits
    return math.floor(last - excess * (last - before) / (excess - excess_before))
