"""One task in one process: started, held to its limits, and what became of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nnkit.verbs.sweep.memory import peak_memory, resident_memory

TICK = 0.05  # seconds between two looks
BLOCK, BLOCKS = 2**16, 64  # bytes at once, and how often in one look
LOG = 2**13  # bytes of stderr to keep
LAST_LINE = 200  # characters of it to tell
START = "import sys; sys.path[:] = {path!r}; from nnkit.verbs.sweep.child import main; main()"
OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "DefaultCPUAllocator: can't allocate memory")
"""How Python and torch say that there is no memory left."""

Outcome = dict[str, Any]


def run_task(task: Mapping[str, Any]) -> Outcome:
    """Run a task, which is plain data, and return what became of it, likewise.

    The outcome is a ModelResult's `status`, `message`, `seconds`, `peak_memory` and `report`; or `refused`,
    a message and a hint, where no model can be run in the way that is asked for.
    """
    run = Run(task)
    try:
        while (outcome := run.poll()) is None:
            time.sleep(TICK)
    finally:
        run.stop()
    return outcome


class Run:
    """A task that runs, in a process that leads a group of its own.

    threads: how many torch may use for an operation, unless the environment says; None for its default.
    """

    def __init__(self, task: Mapping[str, Any], threads: int | None = None) -> None:
        self.task = task
        self._broken: tuple[str, str] | None = None  # the status and message of a limit that didn't hold
        self._ended = False
        self._peak = 0  # bytes, as far as was looked
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            # It finds the modules that this process finds, wherever it was started.
            [sys.executable, "-c", START.format(path=sys.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            start_new_session=True,
            env={**({} if threads is None else {"OMP_NUM_THREADS": str(threads)}), **os.environ},
        )  # fmt: skip
        given, told, log = self._process.stdin, self._process.stdout, self._process.stderr
        assert given
        assert told
        assert log
        self._pipes = (given, told, log)
        self._told, self._log = _Stream(told), _Stream(log, LOG)
        with suppress(BrokenPipeError):
            given.write(json.dumps(task).encode() + b"\n")
        with suppress(OSError):  # where the machine itself runs out of memory, Linux ends this one first
            Path(f"/proc/{self._process.pid}/oom_score_adj").write_text("1000")

    def poll(self) -> Outcome | None:
        """Return the outcome, or None while it runs."""
        self._told.drain()
        self._log.drain()
        self._peak = max(self._peak, peak_memory(self._process.pid))
        pid, ending, usage = os.wait4(self._process.pid, os.WNOHANG)
        if pid == 0:
            if self._broken is None and (broken := self._broken_limit()):
                self._broken = broken
                self._kill()
            return None
        self._process.returncode = os.waitstatus_to_exitcode(ending)
        self.stop()
        told: dict[str, Any] = {}
        for event in self._events():
            told.update(event)
        status, message, report = self._verdict(self._process.returncode, told)
        if status == "refused":
            return {"refused": message}
        unit = 1 if sys.platform == "darwin" else 1024
        return {
            "status": status,
            "message": message,
            "seconds": round(time.monotonic() - self._began, 2),
            "peak_memory": max(self._peak, told.get("peak_memory", 0)) or usage.ru_maxrss * unit,
            "report": report,
        }

    def stop(self) -> None:
        """End whatever of it still runs."""
        if self._ended:
            return
        self._ended = True
        self._kill()
        self._process.wait()
        self._told.drain()
        self._log.drain()
        for pipe in self._pipes:
            pipe.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # it has ended, and left nothing behind
            os.killpg(self._process.pid, signal.SIGKILL)

    def _broken_limit(self) -> tuple[str, str] | None:
        seconds, memory = self.task["time_limit"], self.task["memory_limit"]
        if time.monotonic() - self._began > seconds:
            return "timed out", f"after {seconds:g} s"
        if memory is not None and resident_memory(self._process.pid) > memory:
            return "out of memory", f"it took more than {memory / 1e9:.3g} GB"
        return None

    def _verdict(self, code: int, told: Mapping[str, Any]) -> tuple[str, Any, Mapping[str, Any] | None]:
        """Return status, message and report of a process that ended with `code`."""
        at = f" while {told.get('at', 'starting')}"
        if self._broken:
            status, message = self._broken
            return status, message + at, None
        if code < 0:
            return "died", f"signal {-code} ({_words_for(-code)}){at}{self._last_line()}", None
        if "refused" in told:
            return "refused", told["refused"], None
        if "report" in told:
            return *judge(told["report"]["checks"]), told["report"]
        if "error" in told:
            return _or_out_of_memory("error", told["error"]), told["error"], None
        return "error", f"exit code {code}{at}{self._last_line()}", None

    def _events(self) -> Iterator[dict[str, Any]]:
        for line in self._told.text.splitlines():
            with suppress(ValueError):  # what Python itself prints before the task begins; a line cut short
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def _last_line(self) -> str:
        lines = self._log.text.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last[:LAST_LINE]}" if last else ""


class _Stream:
    """What has come through a pipe; of a long text the end."""

    def __init__(self, pipe: IO[bytes], keep: int = 2**26) -> None:
        self._pipe, self._keep, self.text = pipe, keep, b""
        os.set_blocking(pipe.fileno(), False)

    def drain(self) -> None:
        """Take what is there."""
        for _ in range(BLOCKS):
            try:
                block = os.read(self._pipe.fileno(), BLOCK)
            except BlockingIOError:
                return
            if not block:
                return
            self.text = (self.text + block)[-self._keep :]


def judge(checks: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the status of a model whose checks came to their end, and the worst of them in a line."""
    for status in ("failed", "warned"):
        bad = [check for check in checks if check["status"] == status]
        if bad:
            more = f"; and {len(bad) - 1} more: {', '.join(each['name'] for each in bad[1:])}"
            message = f"{bad[0]['name']}: {bad[0]['message']}{more if len(bad) > 1 else ''}"
            return _or_out_of_memory(status, *(each["message"] for each in bad)), message
    skipped = sum(check["status"] == "skipped" for check in checks)
    ran = len(checks) - skipped
    return "passed", f"{ran} check{'' if ran == 1 else 's'}" + (f", {skipped} skipped" if skipped else "")


def _or_out_of_memory(status: str, *messages: str) -> str:
    said = any(words in message for words in OUT_OF_MEMORY for message in messages)
    return "out of memory" if said else status


def _words_for(number: int) -> str:
    words = (signal.strsignal(number) or "unknown").lower()
    # Nobody here has sent it: the limits would have been told instead.
    return f"{words}, most likely by the system for want of memory" if number == signal.SIGKILL else words
