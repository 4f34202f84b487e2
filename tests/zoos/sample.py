"""Export and smoke-run a random sample of the zoos, and print what became of each: nothing is chosen.

    python tests/zoos/sample.py                     the sample of the documentation, resumable: run it again to go on
    python tests/zoos/sample.py --seed 7 --limit 900
    python tests/zoos/sample.py --table             only the table, from the results so far

Names are drawn by the seed from all that the installed zoos have, until each size of each zoo has its share: SHARES.
The size is that of the summary: small below 10 million parameters, medium below 50 million, large above. A name that
can't be summarized has no size; the sweeps explain it, and the table counts it. Types of transformers have two layers.

For each name `nnkit export --onnx`, with its proof, and `nnkit smoke-run` are commands, each in a process of its own
with a limit of processor time and of resident memory. Results are one JSON line each in `build/zoos/sample-SEED.jsonl`. Whose fault
a failure is, and why, is in `sample_reasons.tsv`: name, command, whose (`nnkit`, `zoo`, `exporter`, `limits`), reason. A
failure without a reason there makes the exit code 1, and so does a reason that a whole sample doesn't need.

Where the zoos can't be imported because torchvision's compiled operators don't fit torch: PYTHONPATH=tests/operators.
"""

import argparse
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweep import names_of

from nnkit.cli.main import main as cli
from nnkit.verbs.core_handlers import plugin_manager

HERE = Path(__file__).parent
SIZES = {"small": 10_000_000, "medium": 50_000_000, "large": 10**15}  # below so many parameters
SHARES = {
    "timm": {"small": 8, "medium": 8, "large": 8},
    "torchvision": {"small": 4, "medium": 4, "large": 4},
    "transformers": {"small": 4, "medium": 6, "large": 8},
    "pyg": {"small": 6},
}
OPTIONS = {"transformers": ["--layers", "2"]}
COMMANDS = {"export": ["--onnx", "--json"], "smoke-run": ["--json"]}
MEASURED = Path("build/zoos/sample-sizes.jsonl")
PATIENCE = 20  # times its limit, by the clock: on a busy machine a command gets little of a processor
MOST = 8  # times its share are drawn of a zoo before a size stays short of it


def main() -> None:
    options = read_options()
    folder = Path("build/zoos")
    folder.mkdir(parents=True, exist_ok=True)
    drawn, results = folder / f"sample-{options.seed}.json", folder / f"sample-{options.seed}.jsonl"
    if not drawn.exists():
        drawn.write_text(json.dumps(draw(options.seed)))
    sample = json.loads(drawn.read_text())
    if not options.table:
        run(sample, results, options)
    sys.exit(print_table(sample, rows_in(results)))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--limit", type=float, default=600, help="seconds of processor time for a command")
    parser.add_argument("--memory", type=float, default=10, help="resident GB for a command")
    parser.add_argument("--again", action="store_true", help="repeat what failed")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


# The sample


def draw(seed: int) -> dict[str, Any]:
    """Return the sample: its names with their parameters and options, and those that have no size."""
    sample: dict[str, Any] = {"names": {}, "without_size": {}}
    for zoo, shares in SHARES.items():
        names = names_of(plugin_manager().namespaces()[zoo])
        random.Random(f"{seed} {zoo}").shuffle(names)
        taken: Counter[str] = Counter()
        for name in names[: MOST * sum(shares.values())]:
            if all(taken[size] >= share for size, share in shares.items()):
                break
            found = measure(f"{zoo}/{name}")
            if found["problem"]:
                sample["without_size"][f"{zoo}/{name}"] = found["problem"]
                continue
            size = size_of(found)
            if taken[size] < shares.get(size, 0):
                taken[size] += 1
                sample["names"][f"{zoo}/{name}"] = found
    return sample


def measure(name: str) -> dict[str, Any]:
    """Return the parameters of a name, the options that it was built with, and what is wrong; kept in MEASURED."""
    known = {row["name"]: row for row in rows_of(MEASURED)}
    if name not in known:
        zoo = name.partition("/")[0]
        options = OPTIONS.get(zoo, [])
        parameters, problem = count_parameters(name, options)
        if options and problem:  # it has no layers, or is no model with so few
            parameters, without = count_parameters(name, [])
            options, problem = (options, problem) if without else ([], "")
        known[name] = {"name": name, "parameters": parameters, "options": options, "problem": problem}
        with MEASURED.open("a") as file:
            file.write(json.dumps(known[name]) + "\n")
        print(f"{name}: {problem or parameters}", file=sys.stderr, flush=True)
    return known[name]


def count_parameters(reference: str, words: list[str]) -> tuple[int, str]:
    """Return the parameters, and what is wrong."""
    import nnkit

    options = {words[at].removeprefix("--"): words[at + 1] for at in range(0, len(words), 2)}
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(300)
    try:
        return nnkit.summarize(reference, **options).totals.parameters, ""
    except Exception as error:
        return 0, f"{type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        signal.alarm(0)


def _too_long(signal: int, frame: Any) -> None:
    raise TimeoutError("took more than 300 s")


# The commands


def run(sample: dict[str, Any], results: Path, options: argparse.Namespace) -> None:
    """Run each command of each name that has no result yet, and append its result."""
    known = rows_in(results)
    import_what_all_need()
    for number, (name, verb) in enumerate(pairs(sample), 1):
        row = known.get((name, verb))
        if row and not (options.again and row["code"]):
            continue
        row = {
            "name": name,
            "verb": verb,
            **run_command(name, sample["names"][name]["options"], verb, options),
        }
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        verdict = row["error"] or "good"
        print(f"{number} {verb} {name}: {verdict} ({row['seconds']:.0f} s)", file=sys.stderr, flush=True)


def pairs(sample: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return what is to be run, small models first: what hangs or fails for lack of time comes last."""
    names = sorted(sample["names"], key=lambda name: sample["names"][name]["parameters"])
    return ((name, verb) for name in names for verb in COMMANDS)


def run_command(name: str, own: list[str], verb: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a command did; it is ended when it takes too long or too much memory."""
    words = [verb, name, *own, *COMMANDS[verb]]
    started, peak, ended, code = time.monotonic(), 0.0, "", None
    with tempfile.TemporaryDirectory() as folder:
        process = start(words, Path(folder))
        while code is None:
            time.sleep(0.2)
            done, status = os.waitpid(process, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if done else None
            peak = max(peak, resident(process))
            if used(process) > options.limit or time.monotonic() - started > PATIENCE * options.limit:
                ended = f"took more than {options.limit:g} s"
            elif peak > options.memory:
                ended = f"took more than {options.memory:g} GB"
            if ended and code is None:
                os.killpg(process, signal.SIGKILL)
                code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        out = Path(folder, "out").read_text(errors="replace")
        err = Path(folder, "err").read_text(errors="replace")
    seconds = round(time.monotonic() - started, 1)
    error = ended or (failure(out, err) if code else "")
    return {"code": code, "error": error, "seconds": seconds, "gigabytes": round(peak, 2)}


def start(words: list[str], folder: Path) -> int:
    """Start a command in a folder, with its output in two files; return its process, which leads a group.

    It is a fork of this one, which has imported what all commands do: that takes longer than many of them.
    """
    process = os.fork()
    if process:
        with suppress(OSError):  # it may have done so itself already
            os.setpgid(process, process)
        return process
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), descriptor)
        cli(words)
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def import_what_all_need() -> None:
    """Import zoos and exporters, before any command is forked."""
    for package in ("onnxscript", "onnxruntime", "timm", "torchvision", "transformers", "torch_geometric"):
        with suppress(Exception):  # which the commands report
            importlib.import_module(package)


def failure(out: str, err: str) -> str:
    """Return the error of a command, or the checks that failed."""
    errors = [line.removeprefix("Error: ") for line in err.splitlines() if line.startswith("Error: ")]
    try:
        checks = json.loads(out).get("checks", [])
        errors += [f"{each['name']}: {each['message']}" for each in checks if each.get("status") == "failed"]
    except (ValueError, AttributeError, TypeError):
        pass
    return "; ".join(errors) or err[-300:] or "ended without a word"


def resident(process: int) -> float:
    """Return the resident memory of a process, in GB; 0 where that can't be read."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def used(process: int) -> float:
    """Return the processor time of a process in seconds; 0 where that can't be read."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def rows_in(results: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the last result of each command of each name."""
    return {(row["name"], row["verb"]): row for row in rows_of(results)}


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# The table


def print_table(sample: dict[str, Any], rows: dict[tuple[str, str], dict[str, Any]]) -> int:
    """Print what was good, by zoo and size, and each failure with its reason; return 1 where one has none."""
    names = sample["names"]
    reasons = read_reasons()
    print("| zoo | size | names | exports proven | smoke-runs passed |\n|---|---|---:|---:|---:|")
    for zoo in SHARES:
        for size in SIZES:
            chosen = [name for name in names if name.startswith(f"{zoo}/") and size_of(names[name]) == size]
            cells = [
                share_of([rows[name, verb] for name in chosen if (name, verb) in rows]) for verb in COMMANDS
            ]
            if chosen:
                print(f"| {zoo} | {size} | {len(chosen)} | {' | '.join(cells)} |")
    totals = [share_of([row for row in rows.values() if row["verb"] == verb]) for verb in COMMANDS]
    print(f"| all | | {len(names)} | {' | '.join(totals)} |\n")
    failed = {key: row for key, row in sorted(rows.items()) if row["code"]}
    print("| model | command | whose | why |\n|---|---|---|---|")
    for key in failed:
        if key in reasons:
            print(f"| `{key[0]}` | {key[1]} | {' | '.join(reasons[key])} |")
    whole = len(rows) == len(names) * len(COMMANDS)
    unexplained = [key for key in failed if key not in reasons]
    unneeded = [key for key in reasons if whole and key not in failed]
    print(f"\n{len(sample['without_size'])} names were drawn that can't be summarized")
    for name, verb in unexplained:
        print(f"unexplained: {verb} {name}: {failed[name, verb]['error']}")
    for name, verb in unneeded:
        print(f"not needed: {verb} {name}")
    return int(bool(unexplained or unneeded))


def read_reasons() -> dict[tuple[str, str], tuple[str, str]]:
    """Return whose fault the failure of a command is, and why."""
    lines = (HERE / "sample_reasons.tsv").read_text().splitlines()[1:]
    return {(name, verb): (whose, why) for name, verb, whose, why in (line.split("\t") for line in lines)}


def size_of(found: dict[str, Any]) -> str:
    return next(size for size, below in SIZES.items() if found["parameters"] < below)


def share_of(rows: list[dict[str, Any]]) -> str:
    return f"{sum(not row['code'] for row in rows)} of {len(rows)}" if rows else "not run"


if __name__ == "__main__":
    main()
