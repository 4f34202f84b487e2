"""From samples to numbers: percentiles, and the ratio of two models with its interval. Torch-free."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from statistics import median, quantiles

from nnkit.verbs.benchmarking.report import Latency, Mode, Ratio, Verdict

CONFIDENCE = 0.9999  # of the interval: thirty runs of two modes should give no false alarm
MARGIN = 1.02  # two copies of one model differ by up to this: their tensors lie elsewhere in memory
BLOCKS = 40
RESAMPLES = 20_000


def latency_of(times: Sequence[float]) -> Latency:
    """Return the percentiles of the times of a run.

    The 90th needs ten samples or more, the 99th a hundred.
    """
    return Latency(
        median=median(times),
        p90=quantiles(times, n=10, method="inclusive")[-1] if len(times) >= 10 else None,
        p99=quantiles(times, n=100, method="inclusive")[-1] if len(times) >= 100 else None,
        minimum=min(times),
    )


def paired_ratio(mode: Mode, left: Sequence[float], right: Sequence[float]) -> Ratio:
    """Return how much longer `right` takes than `left`, and how certain that is.

    left, right: times, taken in turns, so that those at one index saw the machine in the same state. Both
    are cut into blocks at the same indexes; the ratio of the medians of each block is one pair.
    """
    ratios = [math.log(median(rights) / median(lefts)) for lefts, rights in _blocks(left, right)]
    low, high = _bootstrap(ratios)
    ratio = math.exp(median(ratios))
    return Ratio(mode, ratio, low, high, CONFIDENCE, len(ratios), _verdict(low, high))


def _blocks(left: Sequence[float], right: Sequence[float]) -> list[tuple[Sequence[float], Sequence[float]]]:
    """Cut both into blocks that have two samples or more of each model: there and back."""
    count = min(BLOCKS, len(left) // 2)
    bounds = [len(left) // 2 * block // count * 2 for block in range(count + 1)]
    return [(left[start:end], right[start:end]) for start, end in pairwise(bounds)]


def _bootstrap(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the interval of the median of log ratios, as ratios."""
    generator = random.Random(0)
    medians = sorted(median(generator.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    tail = round((1 - CONFIDENCE) / 2 * RESAMPLES)
    return math.exp(medians[tail]), math.exp(medians[-1 - tail])


def _verdict(low: float, high: float) -> Verdict:
    if low > MARGIN:
        return "slower"
    if high < 1 / MARGIN:
        return "faster"
    return "no difference seen"
