"""Takes samples: warm-up, as many runs per sample as the clock needs, and the models in turns."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from nnkit.verbs.benchmarking.report import Samples
from nnkit.verbs.benchmarking.workloads import Workload

WARM_UP = 0.5  # seconds, and at least FIRST_RUNS
FIRST_RUNS = 3
MOST_RUNS = 10_000
CLOCK_SHARE = 0.01  # share of a sample that reading the clock may take

Wait = Callable[[], Any]
"""Blocks until the device has finished all its work."""


def waiting_for(device: torch.device) -> Wait:
    """Return a function that waits for a device; the CPU is never behind."""
    if device.type == "cpu":
        return lambda: None
    return lambda: torch.accelerator.synchronize(device)


@dataclass(frozen=True)
class Limit:
    """When to stop: after `seconds`, but between the fewest and the most rounds."""

    seconds: float
    fewest: int
    most: int

    def share(self, seconds: float, rounds: int) -> float:
        """Return the share that is done; at 1 or more all is."""
        return max(min(seconds / self.seconds, rounds / self.fewest), rounds / self.most)


@dataclass
class Series:
    """A workload and the samples taken of it so far."""

    workload: Workload
    loops: int
    order: list[int] = field(default_factory=list)
    nanoseconds: list[int] = field(default_factory=list)
    cpu_nanoseconds: list[int] = field(default_factory=list)

    def take(self, index: int, wait: Wait) -> None:
        """Take a sample, the one at this index among those of all models."""
        run = self.workload.run
        wait()
        cpu, start = time.process_time_ns(), time.perf_counter_ns()
        for _ in range(self.loops):
            run()
        wait()
        end, cpu_end = time.perf_counter_ns(), time.process_time_ns()
        self.order.append(index)
        self.nanoseconds.append(end - start)
        self.cpu_nanoseconds.append(cpu_end - cpu)

    @property
    def samples(self) -> Samples:
        """The samples taken so far."""
        return Samples(self.loops, tuple(self.order), tuple(self.nanoseconds), tuple(self.cpu_nanoseconds))


def measure(
    workloads: Sequence[Workload],
    wait: Wait,
    limit: Limit,
    progress: Callable[[float], None],
) -> list[Samples]:
    """Return samples of each workload. They take turns, there and back: A B B A, or at random B A A B.

    So a drift of the machine affects all of them alike, and what disturbs it periodically affects none more
    than the others. progress: called before each round with the share that is done.
    """
    series = [Series(workload, _warm_up(workload, wait)) for workload in workloads]
    turns = [*series, *reversed(series)], [*reversed(series), *series]
    chance = random.Random(0)
    start, done = time.perf_counter(), 0
    while (share := limit.share(time.perf_counter() - start, done)) < 1:
        progress(share)
        for index, turn in enumerate(chance.choice(turns), 2 * done * len(series)):
            turn.take(index, wait)
        done += 1
    return [measured.samples for measured in series]


def _warm_up(workload: Workload, wait: Wait) -> int:
    """Run until caches and allocators have settled; return how many runs make a sample."""
    clock = min(_timed(lambda: None, wait) for _ in range(100))
    times: list[int] = []
    while len(times) < FIRST_RUNS or (sum(times) < WARM_UP * 1e9 and len(times) < MOST_RUNS):
        times.append(_timed(workload.run, wait))
    return max(1, math.ceil(clock / CLOCK_SHARE / median(times[len(times) // 2 :])))


def _timed(run: Callable[[], object], wait: Wait) -> int:
    wait()
    start = time.perf_counter_ns()
    run()
    wait()
    return time.perf_counter_ns() - start
