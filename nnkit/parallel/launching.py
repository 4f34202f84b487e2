"""Starts the ranks of a smoke-run on this machine, each the same command as torchrun would start."""

import json
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from nnkit.errors import UsageProblem
from nnkit.hookspecs import SmokeRequest
from nnkit.parallel.failures import error_of
from nnkit.parallel.rank import REPORT, words_of
from nnkit.parallel.world import TIME_LIMIT
from nnkit.smoke.report import CheckResult, SmokeReport

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def launch(request: SmokeRequest) -> SmokeReport:
    """Run the ranks to their end and return the report of rank 0.

    Raises NnkitError for a rank that raised, died, or took longer than the limit; then none is left.
    """
    if not request.spec.typed or request.inputs is not None:
        raise UsageProblem(
            "a module and inputs of this process's own can't be handed to others",
            "name what others can build: file.py:Class, package.module:Class, or an architecture",
        )
    assert request.processes is not None
    limit = request.time_limit or TIME_LIMIT
    request.progress(f"starting {request.processes} ranks of {request.parallel}")
    with tempfile.TemporaryDirectory(prefix="nnkit-", ignore_cleanup_errors=True) as folder:
        report = Path(folder, "report.json")
        command = ["-m", "nnkit", *words_of(request), "--time-limit", f"{limit:g}"]
        try:
            _run(command, request.processes, folder, report)
        except ChildFailedError as error:
            if not report.exists():  # else it ends with 4 for a check that failed
                logs = {
                    rank: next(Path(folder).rglob(f"{rank}/stderr.log")) for rank in range(request.processes)
                }
                raise error_of(error.failures, logs, limit)  # noqa: B904 - its cause is what the rank wrote
        return _read(request, report)


def _run(command: list[str], processes: int, folder: str, report: Path) -> None:
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, max_restarts=0, run_id=uuid.uuid4().hex,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
        logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=Std.ALL),
    )  # fmt: skip
    threads = max(1, (os.cpu_count() or 1) // processes)
    with ExitStack() as stack:
        stack.enter_context(_environment({REPORT: str(report), "OMP_NUM_THREADS": str(threads)}))
        stack.enter_context(_signals_kept())
        try:
            elastic_launch(config, sys.executable)(*command)
        except SignalException as caught:
            stack.close()
            signal.raise_signal(caught.sigval)  # Ctrl-C is Python's KeyboardInterrupt again


def _read(request: SmokeRequest, report: Path) -> SmokeReport:
    data = json.loads(report.read_text(encoding="utf-8"))
    spec = request.spec.with_sizes(data["spec"]["sizes"])
    return SmokeReport(spec, data["device"], tuple(CheckResult(**check) for check in data["checks"]))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Have variables set, and the launcher silent, for the processes that are started inside."""
    before = dict(os.environ)
    os.environ.update({**values, **{name: before[name] for name in ("OMP_NUM_THREADS",) if name in before}})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Undo what the launcher makes of signals, and keep it from logging what an error tells better."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        for each, handler in before.items():
            signal.signal(each, handler)
