"""The summary at the largest size, such as the batch, that fits into memory."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from nnkit.contract.requests import SummaryRequest
from nnkit.contract.spec import ModelSpec
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.verbs.summary.report import Fit, Memory, SummaryReport
from nnkit.verbs.summary.variants import count_variants

MOST_STEPS = 2**20  # where the search for the largest batch ends


def fit_into(request: SummaryRequest, dim: str, limit: int) -> SummaryReport:
    """Return the summary at the largest size of `dim` whose training step fits into `limit` bytes.

    Other sizes stay, unless a constraint moves those that have their default. Raises UsageProblem if the
    architecture has no such dim.
    """
    spec = request.spec
    dims = spec.dims
    if dim not in dims:
        raise UsageProblem(
            f"{spec.name} has no size --{dim} under these options",
            did_you_mean(dim, dims) or f"its sizes: {', '.join(dims) or 'none'}",
        )
    step = dims[dim].multiple_of
    lowest = _lowest_size(spec, dim)
    peaks = _Peaks(request, dim, too_much=limit + 1)
    # Batch norm can't be trained on one sample; what can't be trained on two has nothing to train.
    trained = next((size for size in (lowest, lowest + step) if peaks.training(size)), None)
    training = largest_batch(peaks.training, limit, trained, step) if trained else 0
    inference = largest_batch(peaks.inference, limit, lowest, step)
    report = peaks.report_at(training or inference or lowest)
    if request.variants:
        variants = tuple(count_variants(replace(request, spec=report.spec)))
        report = replace(report, variants=variants)
    return replace(report, fit=Fit(dim, limit, training, inference))


def _lowest_size(spec: ModelSpec, dim: str) -> int:
    """Return the smallest size of a dim, but not 0, that goes together with the other sizes."""
    bounds = spec.dims[dim]
    first = max(bounds.least, bounds.multiple_of)
    sizes = range(first, spec.sizes[dim], bounds.multiple_of)
    return next((size for size in sizes if _sizes_with(spec, dim, size)), max(spec.sizes[dim], first))


def _sizes_with(spec: ModelSpec, dim: str, size: int) -> Mapping[str, int] | None:
    """Return sizes with this one of `dim`, or None if it isn't allowed.

    past 3, time 5 and past + time <= 12   ->   with time 10, past 2
    """
    dims, sizes = spec.dims, {**spec.sizes, dim: size}
    if dims[dim].problem_with(size):
        return None
    chosen = {name for name in sizes if sizes[name] != dims[name].default}
    return dims.satisfy(sizes, fixed=chosen | {dim})


class _Peaks:
    """The peak memory at each size of a dim, from a summary that is made once for each size.

    A size that isn't allowed needs `too_much`: it doesn't fit, however much memory there is.
    """

    def __init__(self, request: SummaryRequest, dim: str, too_much: int) -> None:
        self._request, self._dim, self._too_much = replace(request, variants=False), dim, too_much
        self._reports: dict[int, SummaryReport] = {}

    def training(self, size: int) -> int:
        """Return the bytes of a training step, 0 if the model can't be trained at this size."""
        return self._too_much if self._is_too_large(size) else self._memory_at(size).training_peak

    def inference(self, size: int) -> int:
        """Return the bytes of an inference."""
        return self._too_much if self._is_too_large(size) else self._memory_at(size).inference_peak

    def report_at(self, size: int) -> SummaryReport:
        """Return the summary at this size."""
        if size not in self._reports:
            spec = self._request.spec
            sizes = _sizes_with(spec, self._dim, size) or {self._dim: size}
            at_size = replace(self._request, spec=spec.with_sizes(sizes))
            self._reports[size] = self._request.host.hook.nnkit_summarize(request=at_size)
        return self._reports[size]

    def _is_too_large(self, size: int) -> bool:
        return _sizes_with(self._request.spec, self._dim, size) is None

    def _memory_at(self, size: int) -> Memory:
        report = self.report_at(size)
        if report.memory is None:
            name = self._request.spec.name
            reason = report.warnings[0] if report.warnings else "its own summary reports no memory"
            raise UsageProblem(f"the memory of {name} is unknown: {reason}", "leave --memory out")
        return report.memory


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
