"""How ranks ended that didn't end well -> one error that says which, and where it was."""

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
TIMEOUT = "Timeout ("  # with which the stack begins that a watch writes
OTHERS = (  # whose frames say little to a user
    *(str(Path(str(each.__file__)).parent) for each in (torch, nnkit, pluggy, click)),
    sysconfig.get_path("stdlib"),
    "<",
)
ENDED_BY_LAUNCHER = -signal.SIGTERM
VERBOSE = "see its full output with -v"


class _Written(Exception):
    """What ranks wrote before they ended; Python shows it above the error that it is the cause of."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class _Rank:
    """A rank that failed: how it ended, what it recorded of an exception, what it wrote on stderr."""

    number: int
    failure: ProcessFailure | None
    written: str

    @property
    def recorded(self) -> dict[str, Any]:
        """What torch's launcher keeps of an exception: `message`, and `extraInfo` with the traceback."""
        message: Any = self.failure.message if self.failure else ""
        return message if isinstance(message, dict) else {}

    @property
    def traceback(self) -> str:
        """The traceback of the exception, or nothing."""
        return str(self.recorded["extraInfo"]["py_callstack"]) if self.recorded else ""

    @property
    def place(self) -> str:
        """Where it was: the innermost frame that is the user's own, or that there is; or nothing."""
        threads = list(THREAD.finditer(self.written))
        if threads:  # that of the main thread comes last, its innermost frame first
            frames = [each.groupdict() for each in FRAME.finditer(self.written, threads[-1].end())]
        else:
            frames = [each.groupdict() for each in FRAME.finditer(self.traceback)][::-1]
        own = [frame for frame in frames if not frame["file"].startswith(OTHERS)]
        for frame in own or frames:
            return f"{frame['function']}, {Path(frame['file']).name}:{frame['line']}"
        return ""

    @property
    def all(self) -> str:
        """Everything that is known of it."""
        return f"rank {self.number}:\n{self.written}{self.traceback}"


def error_of(failures: Mapping[int, ProcessFailure], logs: Mapping[int, Path], limit: float) -> NnkitError:
    """Return the error for ranks that failed; `logs` are what each rank wrote on stderr."""
    ranks = [
        _Rank(number, failures.get(number), path.read_text(encoding="utf-8", errors="replace"))
        for number, path in logs.items()
    ]
    if any(TIMEOUT in each.written for each in ranks):
        return _too_late(ranks, limit)
    raised = [each for each in ranks if each.recorded]
    died = [each for each in ranks if each.failure and not each.recorded]
    # A rank that dies takes the connections along on which the others then fail, or they are ended.
    first = [each for each in died if each.failure and each.failure.exitcode != ENDED_BY_LAUNCHER]
    if first or not raised:
        return _died((first or died)[0])
    return _raised(min(raised, key=_time))


def _time(rank: _Rank) -> int:
    assert rank.failure is not None
    return Path(rank.failure.error_file).stat().st_mtime_ns


def _raised(rank: _Rank) -> NnkitError:
    what = first_line(rank.recorded["message"])
    return _error(f"rank {rank.number} failed: {what} ({rank.place})", VERBOSE, [rank])


def _died(rank: _Rank) -> NnkitError:
    assert rank.failure is not None
    code, name = rank.failure.exitcode, rank.failure.signal_name()
    how = f"was ended by the signal {name}" if code < 0 else f"ended with exit code {code}"
    errors = [line for line in rank.written.splitlines() if line.startswith("Error: ")]
    told = f": {errors[-1].removeprefix('Error: ')}" if errors else ""
    place = f" ({rank.place})" if rank.place else ""
    return _error(f"rank {rank.number} {how}{place}{told}", VERBOSE, [rank])


def _too_late(ranks: Sequence[_Rank], limit: float) -> NnkitError:
    running = [each for each in ranks if each.place]
    places = "; ".join(f"rank {each.number} in {each.place}" for each in running)
    return _error(
        f"{len(running)} of {len(ranks)} ranks took longer than {limit:g} s: {places}",
        "see their stacks with -v, or allow more time with --time-limit",
        running,
    )


def _error(message: str, hint: str, ranks: Sequence[_Rank]) -> NnkitError:
    error = NnkitError(message, hint)
    error.__cause__ = _Written("\n".join(each.all for each in ranks))
    return error
