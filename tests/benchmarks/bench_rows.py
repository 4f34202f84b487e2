"""Summaries of many calls: a loop of 20,000 steps, its JSON, and a training step of 1,000 small layers.

    python tests/benchmarks/bench_rows.py [--rounds 3] [--quick]

Prints the processor time of whole commands and their peak memory, and ratios, pair by pair.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from pairs import python

MODELS = """
import torch
from torch import nn


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.from_input, self.from_state = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        h, states = x.new_zeros(x.shape[0], 16), []
        for step in range(x.shape[1]):
            h = torch.tanh(self.from_input(x[:, step]) + self.from_state(h))
            states.append(h)
        return torch.stack(states, 1)


class Layers(nn.Sequential):
    def __init__(self, count: int = 1000):
        super().__init__(*[nn.Linear(8, 8) for _ in range(count)])
"""


def cost(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command and return its processor time in seconds and the most memory it had in MiB."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def compare(name: str, ours: list[str], rival: list[str], budget: str, rounds: int, folder: Path) -> None:
    """Print the medians of both commands, and what they differ by, pair by pair."""
    if rounds > 1:  # the first run reads files that later ones find cached
        cost(rival, folder)
    pairs = [(cost(ours, folder), cost(rival, folder)) for _ in range(rounds)]
    ratios = sorted(one / other for (one, _), (other, _) in pairs)
    more = sorted(one - other for (one, _), (other, _) in pairs)
    (seconds, memory), (before, memory_before) = (
        [statistics.median(column) for column in zip(*side, strict=True)] for side in zip(*pairs, strict=True)
    )
    print(
        f"{name:38} {seconds:6.2f} s {memory:5.0f} MiB, {before:6.2f} s {memory_before:5.0f} MiB   "
        f"ratio {statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
        f"difference {statistics.median(more):5.2f} s ({more[0]:.2f} to {more[-1]:.2f}), budget {budget}",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    steps, layers = ("20", "10") if options.quick else ("20000", "1000")
    summary = python("-m", "nnkit", "summary")
    loop = [*summary, "models.py:Loop", "--input", "x: float32[batch, time, 16]", "--time", steps]
    small = [*summary, "models.py:Layers", "--input", "x: float32[batch, 8]", "--count", layers]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models.py").write_text(MODELS)
        compare("100,002 calls : import torch", loop, python("-c", "import torch"), "12 s", rounds, folder)
        brief = [*loop, "--depth", "1", "--no-functional", "--only", "nothing"]
        compare("its JSON : no rows", [*loop, "--json"], brief, "1 s, 300 MiB", rounds, folder)
        compare("AdamW of 1,000 layers : none", [*small, "--optimizer", "adamw"], small, "4", rounds, folder)


if __name__ == "__main__":
    main()
