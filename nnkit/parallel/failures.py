"""How ranks ended that didn't end well -> one error that says which, and where it was."""

import re
import signal
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

import nnkit
from nnkit.errors import NnkitError, first_line

FRAME = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+),? in (?P<function>\S+)', re.MULTILINE)
THREAD = re.compile(r"^(?:Current t|T)hread 0x.*\(most recent call first\):$", re.MULTILINE)
TIMEOUT = "Timeout ("  # with which the stack begins that a watch writes
OTHERS = (  # whose frames say little to a user
    str(Path(torch.__file__).parent), str(Path(nnkit.__file__).parent), sysconfig.get_path("stdlib"), "<",
)  # fmt: skip
ENDED_BY_LAUNCHER = -signal.SIGTERM
VERBOSE = "see all that it wrote: repeat with -v"


class _Written(Exception):
    """What ranks wrote before they ended; Python shows it above the error that it is the cause of."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def error_of(failures: Mapping[int, ProcessFailure], logs: Mapping[int, Path], limit: float) -> NnkitError:
    """Return the error for ranks that failed; `logs` are what each rank wrote on stderr."""
    written = {rank: path.read_text(encoding="utf-8", errors="replace") for rank, path in logs.items()}
    if any(TIMEOUT in text for text in written.values()):
        return _too_late(written, limit)
    died = {rank: each for rank, each in failures.items() if not _recorded(each)}
    # A rank that dies takes the connections along on which the others then fail, or they are ended.
    alone = {rank: each for rank, each in died.items() if each.exitcode != ENDED_BY_LAUNCHER}
    raised = {rank: each for rank, each in failures.items() if _recorded(each)}
    if alone or not raised:
        rank, failure = next(iter((alone or died).items()))
        return _died(rank, failure, written[rank])
    rank = min(raised, key=lambda rank: Path(raised[rank].error_file).stat().st_mtime_ns)
    return _raised(rank, _recorded(raised[rank]))


def _recorded(failure: ProcessFailure) -> dict[str, Any]:
    """Return what a rank recorded of its exception: `message`, and `extraInfo` with the traceback."""
    message: Any = failure.message
    return message if isinstance(message, dict) else {}


def _raised(rank: int, recorded: dict[str, Any]) -> NnkitError:
    traceback = recorded["extraInfo"]["py_callstack"]
    place = _place([each.groupdict() for each in FRAME.finditer(traceback)][::-1])
    error = NnkitError(f"rank {rank} failed: {first_line(recorded['message'])} ({place})", VERBOSE)
    error.__cause__ = _Written(f"rank {rank}:\n{traceback}")
    return error


def _died(rank: int, failure: ProcessFailure, written: str) -> NnkitError:
    code = failure.exitcode
    how = f"was ended by the signal {failure.signal_name()}" if code < 0 else f"ended with exit code {code}"
    last = next((line for line in reversed(written.splitlines()) if line.startswith("Error: ")), "")
    told = f": {last.removeprefix('Error: ')}" if last else ""
    error = NnkitError(f"rank {rank} {how}{told}", VERBOSE)
    error.__cause__ = _Written(f"rank {rank}:\n{written}")
    return error


def _too_late(written: Mapping[int, str], limit: float) -> NnkitError:
    stacks = {rank: stack for rank, text in written.items() if (stack := _stack(text))}
    places = ", ".join(
        f"rank {rank} in {_place([each.groupdict() for each in FRAME.finditer(stack)])}"
        for rank, stack in stacks.items()
    )
    error = NnkitError(
        f"{len(stacks)} of {len(written)} ranks took longer than {limit:g} s: {places}",
        "see their stacks: repeat with -v; or give them longer with --time-limit",
    )
    error.__cause__ = _Written("\n".join(f"rank {rank}:\n{written[rank]}" for rank in stacks))
    return error


def _stack(text: str) -> str:
    """Return the stack of the main thread, the last that Python writes, or nothing."""
    return text[threads[-1].end() :] if (threads := list(THREAD.finditer(text))) else ""


def _place(frames: list[dict[str, str]]) -> str:
    """Return where the innermost frame is that is the user's own; frames come innermost first."""
    own = [frame for frame in frames if not frame["file"].startswith(OTHERS)]
    for frame in own or frames:
        return f"{frame['function']}, {Path(frame['file']).name}:{frame['line']}"
    return "no Python code"
