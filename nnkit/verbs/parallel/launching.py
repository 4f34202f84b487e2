"""Starts the ranks of a smoke-run on this machine, each with the command that torchrun would start."""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from nnkit.contract.requests import SmokeRequest
from nnkit.errors import NnkitError, UsageProblem
from nnkit.verbs.parallel.failures import make_error
from nnkit.verbs.parallel.rank import REPORT, make_arguments
from nnkit.verbs.parallel.world import TIME_LIMIT
from nnkit.verbs.smoke.report import CheckResult, SmokeReport


def launch(request: SmokeRequest) -> SmokeReport:
    """Run the ranks to their end and return the report of rank 0.

    Raises NnkitError for a rank that raised, died, or took longer than the limit. No rank is left running.
    """
    if not request.spec.typed or request.inputs is not None:
        raise UsageProblem(
            "a module or inputs from Python can't be sent to other processes",
            "name what they can build: file.py:Class, package.module:Class, or an architecture",
        )
    assert request.processes is not None
    limit = request.time_limit or TIME_LIMIT
    request.progress(f"starting {request.processes} ranks of {request.parallel}")
    with tempfile.TemporaryDirectory(prefix="nnkit-", ignore_cleanup_errors=True) as folder:
        report = Path(folder, "report.json")
        command = ["-m", "nnkit", *make_arguments(request), "--time-limit", f"{limit:g}"]
        try:
            _run_ranks(command, request.processes, folder, report)
        except ChildFailedError as error:
            if not report.exists():  # with a report, the ranks ended with code 4 for a check that failed
                logs = {
                    rank: next(Path(folder).rglob(f"{rank}/stderr.log")) for rank in range(request.processes)
                }
                raise make_error(error.failures, logs, limit)  # noqa: B904 - its cause is what the rank wrote
        return _read_report(request, report)


def _run_ranks(command: list[str], processes: int, folder: str, report: Path) -> None:
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        max_restarts=0,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=Std.ALL),
    )
    with ExitStack() as stack:
        stack.enter_context(_set_environment(processes, report))
        stack.enter_context(_silence_logging())
        stack.enter_context(_restore_signals())
        try:
            elastic_launch(config, sys.executable)(*command)
        except SignalException as caught:
            stack.close()
            signal.raise_signal(caught.sigval)  # Ctrl-C becomes Python's KeyboardInterrupt again


def _read_report(request: SmokeRequest, report: Path) -> SmokeReport:
    if not report.exists():
        raise NnkitError("the ranks ended without a report", "check whether the model ends its process")
    data = json.loads(report.read_text(encoding="utf-8"))
    spec = request.spec.with_sizes(data["spec"]["sizes"])
    checks = tuple(CheckResult(**check) for check in data["checks"])
    return SmokeReport(spec, data["device"], checks, dtypes=data["dtypes"])


@contextmanager
def _set_environment(processes: int, report: Path) -> Iterator[None]:
    """Set the variables for the ranks. They share the cores evenly, unless OMP_NUM_THREADS is set."""
    before = dict(os.environ)
    threads = max(1, (os.cpu_count() or 1) // processes)
    os.environ.update({"OMP_NUM_THREADS": str(threads), **before, REPORT: str(report)})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _silence_logging() -> Iterator[None]:
    """Keep the launcher from logging what the error explains better."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _restore_signals() -> Iterator[None]:
    """Restore the signal handlers, which the launcher changes when it runs in the main thread."""
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
