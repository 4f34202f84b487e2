"""Whole commands timed in pairs, A B A B …, so that a ratio holds on a machine whose speed drifts."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def times(command: list[str], folder: Path, **variables: str) -> tuple[float, float]:
    """Run a command and return the seconds it took, on the clock and of processors."""
    # Without it Python would compile our source at each start, and the rival's, which pip has compiled, at none.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        check=True,
        env={**environment, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds(command: list[str], folder: Path, **variables: str) -> float:
    """Run a command and return the wall time it took."""
    return times(command, folder, **variables)[0]


def processor_seconds(command: list[str], folder: Path, **variables: str) -> float:
    """Run a command and return the time of processors, which other work on the machine changes less."""
    return times(command, folder, **variables)[1]


def compare(
    name: str,
    ours: list[str],
    rival: list[str],
    budget: float,
    rounds: int,
    folder: Path,
    measure: Callable[..., float] = seconds,
    **variables: str,
) -> None:
    """Print the medians of both commands and of their ratio, pair by pair.

    measure: `seconds` or `processor_seconds`. variables: for the environment of ours.
    """
    if rounds > 1:  # the first run reads files that later ones find cached
        measure(ours, folder, **variables), measure(rival, folder)
    pairs = [(measure(ours, folder, **variables), measure(rival, folder)) for _ in range(rounds)]
    ratios = sorted(one / other for one, other in pairs)
    middle = [statistics.median(column) for column in zip(*pairs, strict=True)]
    print(
        f"{name:44} {middle[0] * 1e3:8.0f} ms {middle[1] * 1e3:8.0f} ms   "
        f"ratio {statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), budget {budget}",
        flush=True,
    )


def python(*args: str) -> list[str]:
    """Return the command that runs this Python with `args`."""
    return [sys.executable, *args]
