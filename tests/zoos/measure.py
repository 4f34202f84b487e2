"""Measure the names that arrive on stdin, and write a JSON line for each: the worker of `sweep.py`."""

import json
import os
import resource
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from independent import parameters_of_own_build

import nnkit
from nnkit.errors import first_line
from nnkit.models.building import build_module
from nnkit.models.running import call
from nnkit.models.sampling import sample_inputs
from nnkit.verbs.core_handlers import plugin_manager

LARGE = 10**9  # parameters of a model that is not given values here
MOST_MEMORY = 8 * 10**9  # bytes: a model that takes more ends the process


def main() -> None:
    import torch

    Thread(target=end_beyond, args=(MOST_MEMORY,), daemon=True).start()

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    zoo, report = sys.argv[1], os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what zoos print is no result
    for line in sys.stdin:
        name, check = line.rstrip("\n").split("\t")
        report.write(json.dumps(measure(zoo, name, check == "1")) + "\n")
        report.flush()


def end_beyond(most: int) -> None:
    """End the process when it takes more memory than that."""
    while True:
        time.sleep(0.3)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if resident > most:
            os._exit(99)


def measure(zoo: str, name: str, check: bool) -> dict[str, Any]:
    """Return the figures of a name; an error is the text of one."""
    row: dict[str, Any] = {"name": name, "error": ""}
    started = time.perf_counter()
    summary, problem = None, ""
    for options in sizes(zoo, name):
        try:
            summary = nnkit.summarize(f"{zoo}/{name}", **options)
            break
        except Exception as error:
            problem = f"{type(error).__name__}: {first_line(error)}"
    if summary is None:
        return {**row, "error": problem}
    row |= {
        "seconds": round(time.perf_counter() - started, 2),
        "parameters": summary.totals.parameters,
        "macs": summary.totals.macs,
        "method": summary.method,
        "missed": list(summary.totals.missed),
    }
    row["built"] = of_or_error(lambda: parameters_of_own_build(zoo, name, options))
    if check:
        row["flop_counter"] = of_or_error(lambda: count_by_torch(summary.spec))
    row["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return row


def sizes(zoo: str, name: str) -> list[dict[str, Any]]:
    """Return the options to measure a model with: models of language two layers deep, where they can be."""
    if zoo != "transformers":
        return [{}]
    try:
        nnkit.resolve(f"{zoo}/{name}", layers=2)
    except Exception:  # it has no layers, or other settings say how many it has
        return [{}]
    return [{"layers": 2}, {}]


def of_or_error(get: Any) -> int | str:
    try:
        return get()
    except Exception as error:
        return f"{type(error).__name__}: {first_line(error)}"


def count_by_torch(spec: Any) -> int:
    """Return the multiply-adds of forward by torch's own counter: without values, else with them."""
    with suppress(Exception):
        return count_on(spec, "meta")
    if (
        sum(parameter.numel() for parameter in build_module(spec, plugin_manager(), "meta").parameters())
        > LARGE
    ):
        raise ValueError("too large for a run, which it needs")
    return count_on(spec, "cpu")


def count_on(spec: Any, device: str) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module = build_module(spec, plugin_manager(), device)
    module.requires_grad_(False)  # torch's tracker of modules fails on views of parameters
    inputs = [tensor.to(device) for tensor in sample_inputs(spec, full=True)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(module, spec.signature, inputs)
    return counter.get_total_flops() // 2


if __name__ == "__main__":
    main()
