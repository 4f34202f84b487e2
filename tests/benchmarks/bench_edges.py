"""What the edges of a graph cost beside a plain summary of the same model, run in turns in one process.

    python tests/benchmarks/bench_edges.py [--rounds 9] [--quick]

The second ratio is of the whole graph: a second run at other sizes finds the names of its axes.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable

import nnkit
from nnkit.contract.requests import SummaryRequest
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.graph.handler import graph
from nnkit.verbs.summary.runs import count

BUDGET = 1.3
MODELS = {
    "resnet18": None,
    "resnet152": None,
    "gpt2": None,
    "transformer": None,
    "gcn": None,
    "lstm": None,
    "llama": "70b",
}


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of some work: other processes don't count."""
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(name: str, preset: str | None, rounds: int) -> None:
    """Print the medians of a summary and of a graph, and of their ratios, round by round."""
    request = SummaryRequest(spec=nnkit.resolve(name, preset=preset), host=plugin_manager())
    works = (
        lambda: count(request),
        lambda: graph(request, names=False),
        lambda: graph(request),
    )
    for work in works:
        work()  # imports, and files that are read once
    samples = [[seconds(work) for work in works] for _ in range(rounds)]
    summary, edges, named = (statistics.median(column) for column in zip(*samples, strict=True))
    ratio = statistics.median(each[1] / each[0] for each in samples)
    whole = statistics.median(each[2] / each[0] for each in samples)
    title = f"{name} {preset or ''}".strip()
    print(
        f"{title:14} summary {summary * 1e3:7.1f} ms   edges {edges * 1e3:7.1f} ms, ratio {ratio:4.2f}, "
        f"budget {BUDGET}   named {named * 1e3:7.1f} ms, ratio {whole:4.2f}",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    options = parser.parse_args()
    for name, preset in [("gcn", None)] if options.quick else MODELS.items():
        measure(name, preset, 1 if options.quick else options.rounds)


if __name__ == "__main__":
    main()
