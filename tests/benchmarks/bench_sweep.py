"""A sweep of small models whose processes are forked, beside the same sweep with a new process for each.

python tests/benchmarks/bench_sweep.py [--quick]

CPU seconds are those of the whole command with all of its processes. Models a minute are those of this machine
as busy as it is, and of two cores with nothing else to do.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import time
from typing import NamedTuple

from pairs import python

FAMILIES = (
    ["gcn", "gin", "gnn", "graphsage", "gat", "graph-transformer", "deepsets", "set-transformer"],
    ["rnn", "gru", "lstm", "seq2seq-attention", "pointer-network", "tcn", "mlp", "vae"],
    ["lenet", "lenet-1998", "simple-cnn", "mixer", "resmlp", "resnet20", "resnet32", "pointnet-vanilla"],
)  # all with less than a million parameters

CODE = """
from nnkit.cli.main import main
from nnkit.verbs.sweep import executors

executors.WORTHWHILE = {least}
main(["smoke-run", *{names!r}, "--jobs", "2", "--json", "-q"])
"""
FORKED, NEW = 2, 1000  # models from which they are forked


class Measured(NamedTuple):
    """What a sweep took, for each of its models."""

    cpu: float
    wall: float
    statuses: dict[str, str]


def measure(names: list[str], least: int) -> Measured:
    """Run a sweep as a command of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        python("-c", CODE.format(names=names, least=least)),
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    models = json.loads(done.stdout)["models"]
    return Measured(cpu / len(names), wall / len(names), {each["name"]: each["status"] for each in models})


def main() -> None:
    """Print a line for each family, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two models")
    families = [["gcn", "mlp"]] if parser.parse_args().quick else FAMILIES
    pairs = []
    for names in families:
        forked, new = pair = measure(names, FORKED), measure(names, NEW)
        assert forked.statuses == new.statuses
        pairs.append(pair)
        print(f"{', '.join(names)}\n    {describe(forked, new)}", flush=True)
    ratios = sorted(new.cpu / forked.cpu for forked, new in pairs)
    print(
        f"CPU seconds, new : forked, ratio {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
    )


def describe(forked: Measured, new: Measured) -> str:
    """Return what both took."""
    return (
        f"CPU s a model {forked.cpu:.2f} forked, {new.cpu:.2f} new, ratio {new.cpu / forked.cpu:.1f}; "
        f"models a minute {60 / forked.wall:.0f} forked, {60 / new.wall:.0f} new "
        f"({120 / forked.cpu:.0f} and {120 / new.cpu:.0f} on two idle cores)"
    )


if __name__ == "__main__":
    main()
