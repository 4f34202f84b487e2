"""One task in one process: start it, enforce its limits, and find out what became of it."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nnkit.contract.text import plural
from nnkit.verbs.sweep.forking import can_fork
from nnkit.verbs.sweep.launching import Launcher, shared_launcher
from nnkit.verbs.sweep.memory import peak_memory, resident_memory
from nnkit.verbs.sweep.processes import Lost

TICK = 0.05  # seconds between two polls
BLOCK_SIZE = 2**16  # bytes to read at once
BLOCKS_PER_POLL = 64  # so that a process that writes without end can't hold up the others
LOG_SIZE = 2**13  # bytes of stderr to keep
EVENTS_SIZE = 2**26  # bytes of stdout to keep
LAST_LINE = 200  # characters of the last line of stderr to show
OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "DefaultCPUAllocator: can't allocate memory")
"""The messages of Python and torch for having no memory left."""

Outcome = dict[str, Any]


def run_task(task: Mapping[str, Any]) -> Outcome:
    """Run a task and return what became of it, both as plain data.

    The outcome has a ModelResult's `status`, `message`, `seconds`, `peak_memory` and `report`; or `refused`,
    a message and a hint, where no model can be run in the requested way.
    """
    launcher = shared_launcher(can_fork(task["device"]), task["spec"]["architecture"])
    while launcher.is_starting:
        launcher.wait(TICK)
    run = Run(task, launcher)
    try:
        while (outcome := run.poll()) is None:
            launcher.wait(TICK)
    finally:
        run.stop()
    return outcome


class Run:
    """A running task, in a process that leads a group of its own.

    launcher: starts the process.
    """

    def __init__(self, task: Mapping[str, Any], launcher: Launcher) -> None:
        self.task = task
        self._launcher = launcher
        self._start()

    def _start(self) -> None:
        self._exceeded: tuple[str, str] | None = None  # status and message, once a limit is exceeded
        self._ended = False
        self._peak = 0  # bytes, the most seen so far
        self._started_at = time.monotonic()
        self._process, stdin, stdout, stderr = self._launcher.start()
        self._pipes = (stdin, stdout, stderr)
        self._stdout, self._log = _Stream(stdout, EVENTS_SIZE), _Stream(stderr, LOG_SIZE)
        with suppress(BrokenPipeError):
            stdin.write(json.dumps(self.task).encode() + b"\n")
        with suppress(OSError):  # where the machine itself runs out of memory, Linux ends this process first
            Path(f"/proc/{self._process.pid}/oom_score_adj").write_text("1000")

    def poll(self) -> Outcome | None:
        """Return the outcome, or None while the task runs."""
        self._stdout.drain()
        self._log.drain()
        self._peak = max(self._peak, peak_memory(self._process.pid))
        try:
            ended = self._process.poll()
        except Lost:
            self.stop()
            self._start()
            return None
        if ended is None:
            if self._exceeded is None:
                self._enforce_limits()
            return None
        self.stop()
        events: dict[str, Any] = {}
        for event in self._read_events():
            events.update(event)
        status, message, report = self._judge(ended.code, events)
        if status == "refused":
            return {"refused": message}
        unit = 1 if sys.platform == "darwin" else 1024
        return {
            "status": status,
            "message": message,
            "seconds": round(time.monotonic() - self._started_at, 2),
            "peak_memory": max(self._peak, events.get("peak_memory", 0)) or ended.peak * unit,
            "report": report,
        }

    def stop(self) -> None:
        """End every process of the task that still runs."""
        if self._ended:
            return
        self._ended = True
        self._kill()
        self._process.wait()
        self._stdout.drain()
        self._log.drain()
        for pipe in self._pipes:
            pipe.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # it has ended, and left nothing behind
            os.killpg(self._process.pid, signal.SIGKILL)

    def _enforce_limits(self) -> None:
        seconds, memory = self.task["time_limit"], self.task["memory_limit"]
        if time.monotonic() - self._started_at > seconds:
            self._exceeded = "timed out", f"after {seconds:g} s"
        elif memory is not None and resident_memory(self._process.pid) > memory:
            self._exceeded = "out of memory", f"it took more than {memory / 1e9:.3g} GB"
        if self._exceeded:
            self._kill()

    def _judge(self, code: int, events: Mapping[str, Any]) -> tuple[str, Any, Mapping[str, Any] | None]:
        """Return the status, message and report of a process that ended with `code`.

        events: what the process sent, later values in place of earlier ones.
        """
        at = f" while {events.get('at', 'starting')}"
        if self._exceeded:
            status, message = self._exceeded
            return status, message + at, None
        if code < 0:
            return "died", f"signal {-code} ({_describe_signal(-code)}){at}{self._last_line()}", None
        if "refused" in events:
            return "refused", events["refused"], None
        if "report" in events:
            return *judge_checks(events["report"]["checks"]), events["report"]
        if "error" in events:
            return _recognize_out_of_memory("error", events["error"]), events["error"], None
        return "error", f"exit code {code}{at}{self._last_line()}", None

    def _read_events(self) -> Iterator[dict[str, Any]]:
        for line in self._stdout.text.splitlines():
            with suppress(ValueError):  # what Python itself prints before the task begins; a line cut short
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def _last_line(self) -> str:
        lines = [line.strip() for line in self._log.text.decode(errors="replace").split("\n")]
        written = [line for line in lines if line]
        return f": {written[-1][:LAST_LINE]}" if written else ""


class _Stream:
    """What has been read from a pipe so far: its last `keep` bytes."""

    def __init__(self, pipe: IO[bytes], keep: int) -> None:
        self._pipe, self._keep, self.text = pipe, keep, b""
        os.set_blocking(pipe.fileno(), False)

    def drain(self) -> None:
        """Read what the pipe holds now."""
        for _ in range(BLOCKS_PER_POLL):
            try:
                block = os.read(self._pipe.fileno(), BLOCK_SIZE)
            except BlockingIOError:
                return
            if not block:
                return
            self.text = (self.text + block)[-self._keep :]


def judge_checks(checks: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the status of a model whose checks have finished, and a line on the worst of them."""
    for status in ("failed", "warned"):
        bad = [check for check in checks if check["status"] == status]
        if bad:
            message = f"{bad[0]['name']}: {bad[0]['message']}"
            if len(bad) > 1:
                names = ", ".join(check["name"] for check in bad[1:])
                message += f"; and {len(bad) - 1} more: {names}"
            return _recognize_out_of_memory(status, *(check["message"] for check in bad)), message
    skipped = sum(check["status"] == "skipped" for check in checks)
    ran = plural(len(checks) - skipped, "check")
    return "passed", f"{ran}, {skipped} skipped" if skipped else ran


def _recognize_out_of_memory(status: str, *messages: str) -> str:
    """Return `status`, or `out of memory` where a message of the process means that."""
    is_out_of_memory = any(phrase in message for phrase in OUT_OF_MEMORY for message in messages)
    return "out of memory" if is_out_of_memory else status


def _describe_signal(number: int) -> str:
    description = (signal.strsignal(number) or "unknown").lower()
    if number == signal.SIGKILL:  # nnkit didn't send it: a limit would have been reported instead
        return f"{description}, most likely by the system because memory ran out"
    return description
