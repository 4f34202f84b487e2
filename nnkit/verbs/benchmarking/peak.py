"""What the machine can do: the rate of a large matrix product, and of a large copy."""

import time
from collections.abc import Callable, Iterable

import torch

from nnkit.verbs.benchmarking.measuring import Wait, waiting_for
from nnkit.verbs.benchmarking.report import Probe

LONG_ENOUGH = 0.002  # seconds of a product: its start costs nothing, and it is rarely interrupted
SMALLEST, LARGEST = 512, 8192  # rows and columns
COPIED = 64 * 2**20  # bytes, more than a cache holds
TRIES = 20  # of which the best counts, because the peak is what is wanted


def probe(device: torch.device, dtypes: Iterable[str]) -> Probe:
    """Return the best rates of several tries on the device; takes about a second on a CPU."""
    wait = waiting_for(device)
    rates = {name: _flops_per_second(device, getattr(torch, name), wait) for name in dtypes}
    return Probe(rates, _bytes_per_second(device, wait))


def best(first: Probe, second: Probe) -> Probe:
    """Return the higher of the rates of two probes."""
    rates = {name: max(rate, second.flops_per_second[name]) for name, rate in first.flops_per_second.items()}
    return Probe(rates, max(first.bytes_per_second, second.bytes_per_second))


def _flops_per_second(device: torch.device, dtype: torch.dtype, wait: Wait) -> float:
    size = SMALLEST
    while True:
        left, right = (torch.full((size, size), 0.5, dtype=dtype, device=device) for _ in range(2))
        seconds = _fastest(lambda: left @ right, wait)  # noqa: B023 - called at once
        if seconds >= LONG_ENOUGH or size == LARGEST:
            return 2 * size**3 / seconds
        size *= 2


def _bytes_per_second(device: torch.device, wait: Wait) -> float:
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED / _fastest(lambda: target.copy_(source), wait)


def _fastest(run: Callable[[], object], wait: Wait) -> float:
    """Return the seconds of the fastest run."""
    return min(_seconds(run, wait) for _ in range(TRIES))


def _seconds(run: Callable[[], object], wait: Wait) -> float:
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start
