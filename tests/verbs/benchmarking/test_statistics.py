"""Percentiles beside torch's, intervals beside SciPy's, and verdicts on noise whose truth is known."""

import math
import random

import numpy
import pytest
import scipy.stats
import torch

from nnkit.verbs.benchmarking.statistics import latency_of, paired_ratio


def test_percentiles_are_torchs():
    times = [random.Random(0).lognormvariate(0, 1) for _ in range(500)]
    told = latency_of(times)
    expected = torch.quantile(
        torch.tensor(times, dtype=torch.float64), torch.tensor([0.5, 0.9, 0.99]).double()
    )
    assert [told.median, told.p90, told.p99] == pytest.approx(expected.tolist())
    assert told.minimum == min(times)


@pytest.mark.parametrize(("count", "p90", "p99"), [(1, False, False), (9, False, False), (10, True, False),
                                                   (99, True, False), (100, True, True)])  # fmt: skip
def test_a_percentile_that_so_few_samples_cannot_tell_is_not_told(count, p90, p99):
    told = latency_of([1.0] * count)
    assert (told.p90 is not None, told.p99 is not None) == (p90, p99)


def times(seed, count=400, slower=1.0):
    """Return times of two in turns, on a machine that drifts by half and now and then halts for long."""
    chance = random.Random(seed)

    def one(place, factor):
        drift = 1 + 0.5 * math.sin(place / count * 7)
        halted = 20 * chance.random() if chance.random() < 0.15 else 0
        return factor * drift * (1 + abs(chance.gauss(0, 0.05))) + halted

    return [one(place, 1) for place in range(count)], [one(place, slower) for place in range(count)]


def test_the_interval_is_scipys():
    left, right = times(0, slower=1.3)
    told = paired_ratio("forward", left, right)
    pairs = [numpy.median(right[at : at + 10]) / numpy.median(left[at : at + 10]) for at in range(0, 400, 10)]
    expected = scipy.stats.bootstrap(
        (pairs,), numpy.median, confidence_level=0.999, method="percentile", rng=0
    ).confidence_interval
    assert told.pairs == len(pairs) == 40
    assert told.confidence == 0.9999
    assert told.ratio == pytest.approx(numpy.median(pairs), rel=1e-3)
    assert [told.low, told.high] == pytest.approx([expected.low, expected.high], rel=3e-2)


def test_the_same_against_the_same_is_never_another():
    verdicts = {paired_ratio("forward", *times(seed)).verdict for seed in range(6)}
    assert verdicts == {"no difference seen"}


@pytest.mark.parametrize(("slower", "verdict"), [(1.1, "slower"), (2.0, "slower"), (0.9, "faster")])
def test_what_is_slower_or_faster_by_a_tenth_is_seen(slower, verdict):
    assert [paired_ratio("training", *times(seed, slower=slower)).verdict for seed in range(8)] == [
        verdict
    ] * 8


def test_a_difference_as_small_as_between_two_copies_is_none():
    left = [1.0] * 100
    assert paired_ratio("forward", left, [1.019] * 100).verdict == "no difference seen"
    assert paired_ratio("forward", left, [1.021] * 100).verdict == "slower"
    assert paired_ratio("forward", left, [1 / 1.021] * 100).verdict == "faster"


@pytest.mark.parametrize("rounds", [20, 41, 97])
def test_blocks_use_every_round_whole(rounds):
    """A round is two samples of each; a block never splits one."""
    left = [float(place // 2 + 1) for place in range(2 * rounds)]
    told = paired_ratio("forward", left, [3 * each for each in left])
    assert told.pairs == min(40, rounds)
    assert told.ratio == pytest.approx(3)
