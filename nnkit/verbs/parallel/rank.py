"""One rank of a world: joins it, takes part in the proof, and records how it ended."""

import faulthandler
import json
import os
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from nnkit.contract.requests import SmokeRequest
from nnkit.errors import NnkitError, first_line
from nnkit.models.devices import find_device
from nnkit.verbs.parallel.parity import prove
from nnkit.verbs.parallel.world import TIME_LIMIT, World, joined
from nnkit.verbs.smoke.report import SmokeReport
from nnkit.verbs.smoke.subject import Subject

REPORT = "NNKIT_RANK_REPORT"
"""The environment variable with the file where the launcher expects the report of the ranks."""


def run_as_rank(request: SmokeRequest, world: World) -> SmokeReport:
    """Take part in the proof and return what all ranks found; each rank returns the same report."""
    limit = request.time_limit or TIME_LIMIT
    kind = find_device(request.device).type
    device = torch.device(kind) if kind == "cpu" else torch.device(kind, world.local_rank)
    assert request.parallel is not None
    joined.append(world)
    with _limit_time(limit), _record_failure(world), _join_world(device, limit):
        subject = Subject(request.spec, request.host, device)
        proof = prove(subject, world, request.parallel)
    repeat = make_command(request, "--nproc", str(world.size))
    report = SmokeReport(
        spec=request.spec.with_sizes(proof.sizes),
        device=f"{kind} × {world.size} ({request.parallel})",
        checks=tuple(replace(check, repeat=repeat) for check in proof.checks),
        dtypes=proof.dtypes,
    )
    if world.leads and REPORT in os.environ:
        Path(os.environ[REPORT]).write_text(json.dumps(report.to_dict()), encoding="utf-8")
    return report


def make_arguments(request: SmokeRequest) -> list[str]:
    """Return the arguments that each rank is started with."""
    device = () if request.device == "cpu" else ("--device", request.device)
    return ["smoke-run", *request.spec.typed, *device, "--parallel", str(request.parallel)]


def make_command(request: SmokeRequest, *more: str) -> str:
    """Return the command that repeats the whole proof."""
    if not request.spec.typed:
        return f"nnkit.smoke_run(module, inputs, parallel={request.parallel!r})"
    return shlex.join(["nnkit", *make_arguments(request), *more])


@contextmanager
def _join_world(device: torch.device, limit: float) -> Iterator[None]:
    if device.type != "cpu":
        torch.accelerator.set_device_index(device.index)
    # Twice the time: a rank that waits for others is ended by its own time limit, which shows where it is.
    dist.init_process_group(dist.get_default_backend_for_device(device), timeout=timedelta(seconds=2 * limit))
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _record_failure(world: World) -> Iterator[None]:
    """Leave an exception's traceback where torch's launcher looks for it, and name the rank in the error."""
    try:
        yield
    except Exception as error:
        get_error_handler().record_exception(error)
        message = f"rank {world.rank} failed: {type(error).__name__}: {first_line(error)}"
        raise NnkitError(message, "see the full error with -v") from error


@contextmanager
def _limit_time(limit: float) -> Iterator[None]:
    """End the process after `limit` seconds. Whenever it is ended, its stack goes to stderr first.

    C code writes the stack, so that neither a lock nor a kernel that never returns can block it.
    """
    stderr = 2  # the descriptor: user code may have replaced sys.stderr
    faulthandler.enable(file=stderr)
    faulthandler.dump_traceback_later(limit, exit=True, file=stderr)
    in_main_thread = threading.current_thread() is threading.main_thread()
    # A rank that waits in C++ for another one would never see the exception that Python raises for a signal.
    ending = (signal.SIGINT, signal.SIGTERM) if in_main_thread else ()
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in ending}
    faulthandler.register(signal.SIGTERM, file=stderr, chain=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        faulthandler.unregister(signal.SIGTERM)
        for number, handler in handlers.items():
            signal.signal(number, handler)
