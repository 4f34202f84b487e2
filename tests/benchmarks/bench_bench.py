"""`nnkit bench` judged: same against same, and against copies that do a known share more, in one process.

    python tests/benchmarks/bench_bench.py [--quick] [--threads N]

Prints, for each ratio of work, how often a difference was seen, and the ratios of time that were found. The
same against the same must show none; twice the work must always show, a tenth more mostly.
"""

import argparse
import statistics
import sys
from collections import defaultdict

import torch
from torch import nn

import nnkit

LAYERS = 20


class Tower(nn.Module):
    """As many equal layers as are asked for: its time is their number."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(256, 256) for _ in range(layers)))

    def forward(self, x):
        return self.layers(x)


def tower(layers):
    torch.manual_seed(0)
    return Tower(layers)


def pair(share):
    """Return the two to be measured, and what they are run with."""
    if share == 1:
        return ["simple-cnn", "simple-cnn"], None
    return [tower(LAYERS), tower(round(LAYERS * share))], [torch.randn(64, 256)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--threads", type=int, help="of torch; by default its own choice")
    parser.add_argument("--time-limit", type=float, default=1.0, help="seconds for each model in each mode")
    options = parser.parse_args()
    cases = {1.0: 1, 2.0: 1} if options.quick else {1.0: 30, 1.1: 20, 2.0: 10}
    seconds = 0.1 if options.quick else options.time_limit
    print(f"{'work':>6} {'mode':10} {'runs':>5} {'slower':>7} {'faster':>7} {'ratio of time':>15}")
    for share, runs in cases.items():
        found = defaultdict(list)
        for run in range(runs):
            models, inputs = pair(share)
            report = nnkit.bench(*models, inputs=inputs, time_limit=seconds, threads=options.threads)
            for ratio in report.ratios:
                found[ratio.mode].append(ratio)
                told = (
                    f"{ratio.mode}: {ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f}), {ratio.verdict}"
                )
                print(f"… ×{share:.2f}, run {run + 1} of {runs}, {told}", file=sys.stderr, flush=True)
        for mode, ratios in found.items():
            verdicts = [each.verdict for each in ratios]
            values = sorted(each.ratio for each in ratios)
            print(
                f"×{share:5.2f} {mode:10} {runs:5} {verdicts.count('slower'):7} {verdicts.count('faster'):7}"
                f" {statistics.median(values):6.3f} ({values[0]:.3f} to {values[-1]:.3f})",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
