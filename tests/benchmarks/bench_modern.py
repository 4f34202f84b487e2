"""Forward and training step of the modern zoo beside the reference's, taken in turn in one process.

    python tests/benchmarks/bench_modern.py [--quick] [--only NAME]

Prints the median of each and the median over rounds of their ratio: below 1 ours is faster. It measures and
judges nothing, for times differ from run to run by more than the two do.
"""

import argparse
import time
from statistics import median

import modern_cases
import torch


def forward(call):
    """Return the seconds of one forward in eval mode."""
    with torch.inference_mode():
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin


def train(call, model):
    """Return the seconds of one forward and backward in training."""
    begin = time.perf_counter()
    call().square().mean().backward()
    took = time.perf_counter() - begin
    model.zero_grad(set_to_none=True)
    return took


def compare(measure, rounds):
    """Return the seconds of each round: [(ours, theirs)], who goes first changing from round to round."""
    measure("ours"), measure("theirs")  # the first run plans and allocates
    pairs = []
    for number in range(rounds):
        order = ("ours", "theirs") if number % 2 else ("theirs", "ours")
        times = {side: measure(side) for side in order}
        pairs.append((times["ours"], times["theirs"]))
    return pairs


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--only", action="append", choices=sorted(modern_cases.CASES), help="one case")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds = 2 if options.quick else options.rounds
    print(f"{options.threads} threads, {rounds} rounds")
    print(f"{'':20}{'step':10}{'nnkit ms':>12}{'theirs ms':>12}{'ratio':>8}")
    for name in options.only or modern_cases.CASES:
        torch.manual_seed(0)
        pair = modern_cases.CASES[name](options.quick)
        calls = {"ours": pair.call_ours, "theirs": pair.call_theirs}
        models = {"ours": pair.ours, "theirs": pair.theirs}
        for model in models.values():
            model.eval()
        show(name, "forward", compare(lambda side: forward(calls[side]), rounds))  # noqa: B023
        for model in models.values():
            model.train()
        show(name, "training", compare(lambda side: train(calls[side], models[side]), rounds))  # noqa: B023


def show(name, step, pairs):
    """Print a line of the table."""
    ours, theirs = (1000 * median(times) for times in zip(*pairs, strict=True))
    print(f"{name:20}{step:10}{ours:12.1f}{theirs:12.1f}{median(a / b for a, b in pairs):8.3f}", flush=True)


if __name__ == "__main__":
    main()
