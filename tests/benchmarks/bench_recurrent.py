"""How fast the recurrent layers are, side by side in one run.

    python tests/benchmarks/bench_recurrent.py [--quick] [--threads N]

1. Ours fused against torch.nn's, which is the same kernel: the ratio should be 1.
2. The cells that run step by step (`gru` with reset before, and every plain one) against the fused
   kernel of their kind; `gru` with reset before against that of torch.nn.GRU, there being none of its own.
3. The plain cells at more and more steps: the time of one step should stay what it is.

Times are medians of the processor's, over rounds in which each contestant runs once, in turn; so are ratios,
with the least and the most. "train" is forward and backward.

A plain LSTM at batch 32 and width 256 spends four fifths of its forward pass in its two products. Gates in
place, or fewer operators for them, change its time by a hundredth. The kernel's own products are faster.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))

from nnkit_recurrent.gru import GRU
from nnkit_recurrent.lstm import LSTM
from nnkit_recurrent.rnn import RNN

Run = Callable[[Tensor], object]


def forward(layer: nn.Module) -> Run:
    """Return the run of a layer without gradients."""

    def run(x: Tensor) -> None:
        with torch.inference_mode():
            layer(x)

    return run


def train(layer: nn.Module) -> Run:
    """Return the run of a layer forward and backward, to its input and parameters."""

    def run(x: Tensor) -> None:
        layer.zero_grad()
        layer(x.detach().requires_grad_())[0].sum().backward()

    return run


def seconds(runs: dict[str, Run], x: Tensor, rounds: int) -> dict[str, list[float]]:
    """Return the times of each run, interleaved, after one round that doesn't count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run(x)
            times[name].append(time.process_time() - start)
    return {name: taken[1:] for name, taken in times.items()}


def compare(width: int, x: Tensor, rounds: int) -> None:
    """Print ours, fused and step by step, against the layer of torch.nn."""
    families: dict[str, tuple[nn.Module, dict[str, nn.Module]]] = {
        "rnn": (
            nn.RNN(width, width),
            {
                "fused": RNN(width, width),
                "plain": RNN(width, width, implementation="plain"),
                "identity": RNN(width, width, nonlinearity="identity"),
            },
        ),
        "gru": (
            nn.GRU(width, width),
            {
                "reset after, fused": GRU(width, width, reset="after"),
                "reset after, plain": GRU(width, width, reset="after", implementation="plain"),
                "reset before": GRU(width, width),
            },
        ),
        "lstm": (
            nn.LSTM(width, width),
            {"fused": LSTM(width, width), "plain": LSTM(width, width, implementation="plain")},
        ),
    }
    steps = x.shape[0]
    for measure in (forward, train):
        print(f"\n{measure.__name__}, µs a step")
        for family, (reference, ours) in families.items():
            runs = {"torch.nn": measure(reference), **{name: measure(layer) for name, layer in ours.items()}}
            times = seconds(runs, x, rounds)
            for name, taken in times.items():
                ratios = [one / other for one, other in zip(taken, times["torch.nn"], strict=True)]
                print(
                    f"  {family:5} {name:20} {median(taken) / steps * 1e6:8.1f}   "
                    f"× {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                )


def lengthen(width: int, batch: int, lengths: list[int], rounds: int) -> None:
    """Print the time of a training step per time step as sequences grow."""
    layers = {
        "rnn": RNN(width, width, implementation="plain"),
        "gru, reset before": GRU(width, width),
        "gru, reset after": GRU(width, width, reset="after", implementation="plain"),
        "lstm": LSTM(width, width, implementation="plain"),
    }
    print(f"\ntrain, plain cells, batch {batch}, width {width}: µs a step at each length")
    print("  " + " " * 20 + "".join(f"{length:>9}" for length in lengths) + "    last / first")
    taken: dict[str, list[float]] = {name: [] for name in layers}
    for length in lengths:
        x = torch.randn(length, batch, width)
        for name, spent in seconds({name: train(layer) for name, layer in layers.items()}, x, rounds).items():
            taken[name].append(median(spent) / length * 1e6)
    for name, row in taken.items():
        print(f"  {name:20}" + "".join(f"{value:9.1f}" for value in row) + f"    × {row[-1] / row[0]:.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How fast the recurrent layers are.")
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    batch, steps, width, rounds = (2, 8, 16, 1) if options.quick else (32, 256, 256, 9)
    print(
        f"torch {torch.__version__}, {options.threads} threads, {platform.processor() or platform.machine()}"
    )
    print(f"batch {batch}, time {steps}, width {width}, median of {rounds}")
    compare(width, torch.randn(steps, batch, width), rounds)
    if options.quick:
        lengthen(width, batch, [8, 16], rounds)
    else:
        lengthen(64, 8, [256, 512, 1024, 2048, 4096], 3)


if __name__ == "__main__":
    main()
