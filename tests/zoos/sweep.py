"""Summarize every architecture of a zoo, and compare the figures with what nnkit has not computed.

    python tests/zoos/sweep.py torchvision                       the whole zoo, resumable: run it again to go on
    python tests/zoos/sweep.py timm "resnet*" --check all        some names, each against the flop counter
    python tests/zoos/sweep.py transformers --again failed       those that failed before
    python tests/zoos/sweep.py timm --seed 20261127 --sample 30  a sample, as CI runs it
    python tests/zoos/sweep.py torchvision --table               only the table, from the results so far

A name is measured by `measure.py`, in a process that measures several, one after the other:

- `nnkit.summarize("ZOO/NAME")` gives parameters, multiply-adds and the method;
- the parameters are those of a build by the zoo itself, without nnkit: `independent.py`;
- for a tenth of the names, chosen by a hash, the multiply-adds are those of torch's flop counter.

Where one differs or can't be had, the reason is in `exceptions.tsv`: zoo, pattern of names, what it is about
(`summary`, `parameters`, `macs`, `independent`, `flop counter`), reason. What differs without a reason there makes the
exit code 1, and so does a reason that no name needs after a whole sweep.

Results are one JSON line for each name, in `build/zoos/ZOO.jsonl` or the file of `--results`. Where the zoo can't be
imported because torchvision's compiled operators don't fit torch: PYTHONPATH=tests/operators.
"""

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from nnkit import Namespace
from nnkit.verbs.core_handlers import plugin_manager

HERE = Path(__file__).parent
ABOUT = ("summary", "parameters", "macs", "independent", "flop counter")


@dataclass
class Exceptions:
    """What may differ in a zoo, and why."""

    entries: list[tuple[str, str, str]]  # pattern of names, what it is about, reason
    used: set[tuple[str, str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, zoo: str) -> "Exceptions":
        rows = [line.split("\t") for line in (HERE / "exceptions.tsv").read_text().splitlines()[1:]]
        entries = [(pattern, about, reason) for of_zoo, pattern, about, reason in rows if of_zoo == zoo]
        assert all(about in ABOUT for _, about, _ in entries), f"about is one of {ABOUT}"
        return cls(entries)

    def unused(self, unchecked: list[str]) -> list[tuple[str, str, str]]:
        """Return what no name needed.

        unchecked: the names that were not compared with the flop counter, which may need a reason yet.
        """
        return [entry for entry in self.entries if entry not in self.used and not waits(entry, unchecked)]

    def reason(self, name: str, about: str) -> str:
        """Return why it may differ, or an empty string."""
        for entry in self.entries:
            if entry[1] == about and fnmatchcase(name, entry[0]):
                self.used.add(entry)
                return entry[2]
        return ""


def waits(entry: tuple[str, str, str], unchecked: list[str]) -> bool:
    """Whether a reason is about a comparison that some name that it may be for was left out of."""
    pattern, about, _ = entry
    return about in ("macs", "flop counter") and any(fnmatchcase(name, pattern) for name in unchecked)


def main() -> None:
    options = read_options()
    manager = plugin_manager()
    installed = version(manager.namespaces()[options.zoo].distribution)
    results = options.results or Path("build/zoos") / f"{options.zoo}.jsonl"
    every = names_of(manager.namespaces()[options.zoo])
    chosen = [name for name in every if any(fnmatchcase(name, pattern) for pattern in options.names or ["*"])]
    if options.sample:
        chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
    if not options.table:
        results.parent.mkdir(parents=True, exist_ok=True)
        known = rows_in(results, installed)
        left = [name for name in chosen if is_left(known.get(name), options.again)]
        print(f"{options.zoo} {installed}: {len(chosen)} names, {len(left)} to measure", file=sys.stderr)
        measure(options, left, installed, results)
    rows = {name: row for name, row in rows_in(results, installed).items() if name in set(chosen)}
    whole = chosen == every and len(rows) == len(every)
    sys.exit(print_table(options.zoo, rows, len(chosen), whole))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("zoo")
    parser.add_argument("names", nargs="*", help="patterns of names without the prefix")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--check", choices=["tenth", "all", "none"], default="tenth")
    parser.add_argument("--again", choices=["failed", "all"], help="measure these anew")
    parser.add_argument("--sample", type=int, help="how many names, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", type=int, default=40, help="names for each process")
    parser.add_argument("--limit", type=float, default=300, help="seconds for a name")
    parser.add_argument(
        "--memory", type=float, default=4, help="a process that took more GB isn't used again"
    )
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def names_of(namespace: Namespace) -> list[str]:
    """Return the names of a zoo, sorted."""
    return sorted(plugin_manager().members(namespace.prefix))


def rows_in(results: Path, installed: str) -> dict[str, dict[str, Any]]:
    """Return the last result of each name under the installed version."""
    if not results.exists():
        return {}
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    return {row["name"]: row for row in rows if row["version"] == installed}


def is_left(row: dict[str, Any] | None, again: str | None) -> bool:
    return row is None or again == "all" or (again == "failed" and bool(row["error"]))


# Measuring


class Worker:
    """A process that measures the names it is given."""

    def __init__(self, zoo: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "measure.py"), zoo],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: Queue[str] = Queue()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def measure(self, name: str, check: bool, limit: float) -> dict[str, Any]:
        """Return the row of a name; `ended` is set if the process can't be used again."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\t{int(check)}\n")
        self.process.stdin.flush()
        try:
            line = self.lines.get(timeout=limit)
        except Empty:
            return {"name": name, "error": f"took more than {limit:g} s", "ended": True}
        if not line:
            return {"name": name, "error": f"the process ended with {self.process.wait()}", "ended": True}
        return json.loads(line)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(options: argparse.Namespace, names: list[str], installed: str, results: Path) -> None:
    """Measure the names and append a line for each to the results."""
    worker, used = None, 0
    for number, name in enumerate(names, 1):
        worker = worker or Worker(options.zoo)
        check = options.check == "all" or (options.check == "tenth" and is_of_the_tenth(options.zoo, name))
        row = {"version": installed, **worker.measure(name, check, options.limit)}
        used += 1
        if row.pop("ended", False) or used >= options.pool or row.get("memory", 0) > options.memory * 1e9:
            worker.end()
            worker, used = None, 0
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        said = (
            row["error"] or f"{row['parameters']:,} parameters, {row['macs']:,} MACs, {row['seconds']:.1f} s"
        )
        print(f"{number}/{len(names)} {name}: {said}", file=sys.stderr, flush=True)
    if worker:
        worker.end()


def is_of_the_tenth(zoo: str, name: str) -> bool:
    """Whether a name is compared with the flop counter: a tenth, and always the same."""
    return sha256(f"{zoo}/{name}".encode()).digest()[0] % 10 == 0


# The table


def print_table(zoo: str, rows: dict[str, dict[str, Any]], asked: int, whole: bool) -> int:
    """Print what was found; return 1 if anything differs without a reason."""
    exceptions = Exceptions.of(zoo)
    reasons: Counter[tuple[str, str]] = Counter()
    unexplained: list[str] = []
    equal: Counter[str] = Counter()
    compared: Counter[str] = Counter()

    def count(name: str, about: str, problem: str) -> None:
        if reason := exceptions.reason(name, about):
            reasons[about, reason] += 1
        else:
            unexplained.append(f"{name}: {about}: {problem}")

    for name, row in sorted(rows.items()):
        if row["error"]:
            count(name, "summary", row["error"])
            continue
        equal["summary"] += 1
        for about, own, other, problem in (
            ("parameters", row["parameters"], row.get("built"), "independent"),
            ("macs", row["macs"], row.get("flop_counter"), "flop counter"),
        ):
            if isinstance(other, str):
                count(name, problem, other)
            elif other is not None:
                compared[about] += 1
                equal[about] += own == other
                if own != other:
                    count(name, about, f"{own:,} is {other:,} by the {problem}")
    methods = Counter(row["method"] for row in rows.values() if not row["error"])
    print(f"{zoo}: {asked} names, {len(rows)} measured")
    print(
        f"  summarized: {equal['summary']} ({', '.join(f'{n} {method}' for method, n in methods.most_common())})"
    )
    print(f"  parameters equal to an independent build: {equal['parameters']} of {compared['parameters']}")
    print(f"  multiply-adds equal to torch's flop counter: {equal['macs']} of {compared['macs']}")
    for (about, reason), number in sorted(reasons.items()):
        print(f"  {about}: {number} × {reason}")
    unchecked = [name for name, row in rows.items() if row.get("flop_counter") is None]
    unneeded = exceptions.unused(unchecked) if whole else []
    for pattern, about, reason in unneeded:
        print(f"  not needed: {about} of {pattern}: {reason}")
    for line in unexplained:
        print(f"  unexplained: {line}")
    return int(bool(unexplained or unneeded))


if __name__ == "__main__":
    main()
