"""Whole commands timed in pairs, A B A B …, so that a ratio holds on a machine whose speed drifts."""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str], folder: Path) -> float:
    """Run a command and return the wall time it took."""
    # Without it Python would compile our source at each start, and the rival's, which pip has compiled, at none.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(
        command, cwd=folder, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def compare(name: str, ours: list[str], rival: list[str], budget: float, rounds: int, folder: Path) -> None:
    """Print the medians of both commands and of their ratio, pair by pair."""
    if rounds > 1:  # the first run reads files that later ones find cached
        seconds(ours, folder), seconds(rival, folder)
    pairs = [(seconds(ours, folder), seconds(rival, folder)) for _ in range(rounds)]
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
