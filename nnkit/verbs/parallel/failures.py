"""How the ranks failed -> one error that names the rank to blame, and the line it was at."""

import re
import signal
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pluggy
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

import nnkit
from nnkit.errors import NnkitError, first_line

FRAME = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+),? in (?P<function>\S+)', re.MULTILINE)
THREAD = re.compile(r"^(?:Current t|T)hread 0x.*\(most recent call first\):$", re.MULTILINE)
TIMEOUT = "Timeout ("  # how faulthandler begins a stack that it writes when time is up
LIBRARIES = (  # the frames here say little to a user
    *(str(Path(str(library.__file__)).parent) for library in (torch, nnkit, pluggy, click)),
    sysconfig.get_path("stdlib"),
    "<",
)
ENDED_BY_LAUNCHER = -signal.SIGTERM
VERBOSE = "see its full output with -v"


class _Output(Exception):
    """What the ranks wrote before they ended, as the cause of the error: Python shows it above the error."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class _Rank:
    """A rank that failed: how it ended, and what it wrote to stderr."""

    number: int
    failure: ProcessFailure | None
    written: str

    @property
    def recorded(self) -> dict[str, Any]:
        """What torch's launcher recorded of an exception: `message`, and `extraInfo` with the traceback."""
        message: Any = self.failure.message if self.failure else ""
        return message if isinstance(message, dict) else {}

    @property
    def traceback(self) -> str:
        """The traceback of the exception, or an empty string."""
        return str(self.recorded["extraInfo"]["py_callstack"]) if self.recorded else ""

    @property
    def location(self) -> str:
        """The innermost frame in the user's own code, else the innermost of all, else an empty string."""
        threads = list(THREAD.finditer(self.written))
        if threads:  # the main thread comes last, with its innermost frame first
            frames = [match.groupdict() for match in FRAME.finditer(self.written, threads[-1].end())]
        else:  # a traceback has its innermost frame last
            frames = [match.groupdict() for match in FRAME.finditer(self.traceback)][::-1]
        own_frames = [frame for frame in frames if not frame["file"].startswith(LIBRARIES)]
        candidates = own_frames or frames
        if not candidates:
            return ""
        frame = candidates[0]
        return f"{frame['function']}, {Path(frame['file']).name}:{frame['line']}"

    @property
    def output(self) -> str:
        """Everything that is known about it."""
        return f"rank {self.number}:\n{self.written}{self.traceback}"


def make_error(failures: Mapping[int, ProcessFailure], logs: Mapping[int, Path], limit: float) -> NnkitError:
    """Return the error for ranks that failed; `logs` are what each rank wrote to stderr."""
    ranks = [
        _Rank(number, failures.get(number), path.read_text(encoding="utf-8", errors="replace"))
        for number, path in logs.items()
    ]
    if any(TIMEOUT in rank.written for rank in ranks):
        return _make_timeout_error(ranks, limit)
    raised = [rank for rank in ranks if rank.recorded]
    died = [rank for rank in ranks if rank.failure and not rank.recorded]
    # A rank that dies breaks its connections: the others then raise for that, or the launcher ends them.
    died_first = [rank for rank in died if rank.failure and rank.failure.exitcode != ENDED_BY_LAUNCHER]
    if died_first or not raised:
        return _make_death_error((died_first or died)[0])
    return _make_exception_error(min(raised, key=_failure_time))


def _failure_time(rank: _Rank) -> int:
    assert rank.failure is not None
    return Path(rank.failure.error_file).stat().st_mtime_ns


def _make_exception_error(rank: _Rank) -> NnkitError:
    message = first_line(rank.recorded["message"])
    return _with_output(f"rank {rank.number} failed: {message} ({rank.location})", VERBOSE, [rank])


def _make_death_error(rank: _Rank) -> NnkitError:
    assert rank.failure is not None
    code, signal_name = rank.failure.exitcode, rank.failure.signal_name()
    how = f"was ended by the signal {signal_name}" if code < 0 else f"ended with exit code {code}"
    errors = [line for line in rank.written.splitlines() if line.startswith("Error: ")]
    message = f": {errors[-1].removeprefix('Error: ')}" if errors else ""
    location = f" ({rank.location})" if rank.location else ""
    return _with_output(f"rank {rank.number} {how}{location}{message}", VERBOSE, [rank])


def _make_timeout_error(ranks: Sequence[_Rank], limit: float) -> NnkitError:
    running = [rank for rank in ranks if rank.location]
    locations = "; ".join(f"rank {rank.number} in {rank.location}" for rank in running)
    return _with_output(
        f"{len(running)} of {len(ranks)} ranks took longer than {limit:g} s: {locations}",
        "see their stacks with -v, or allow more time with --time-limit",
        running,
    )


def _with_output(message: str, hint: str, ranks: Sequence[_Rank]) -> NnkitError:
    error = NnkitError(message, hint)
    error.__cause__ = _Output("\n".join(rank.output for rank in ranks))
    return error
