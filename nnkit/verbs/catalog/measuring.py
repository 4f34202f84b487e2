"""Names -> rows, in processes that measure some names each and are then replaced.

A process that measures many keeps what its models and torch have cached; one for each name would spend most
of the time on imports.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryFile
from threading import Thread
from typing import Any

from nnkit.contract.catalog import CatalogRow
from nnkit.errors import NnkitError, PluginProblem

AT_ONCE = 40  # names for each process
TICK = 0.2  # seconds between two looks at the time limit
START_UP = 600  # seconds that a process may take before its first name, on a busy machine
START = "import sys; sys.path[:] = {path!r}; from nnkit.verbs.catalog.child import main; main()"
LOG_SIZE = 2**13  # bytes of stderr that are looked at


def measure_all(
    names: Sequence[str], quick: bool, time_limit: float, jobs: int = 1
) -> Generator[tuple[str, CatalogRow], None, None]:
    """Yield each name with its row, in the order in which they are finished.

    A name that takes longer than `time_limit` seconds, or that its process dies of, has the reason as its
    method. Raises PluginProblem where a zoo can't be imported. The processes end with the generator.
    """
    waiting = deque(names)
    events: Queue[tuple[_Worker, dict[str, Any] | None]] = Queue()
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                share = [waiting.popleft() for _ in range(min(AT_ONCE, len(waiting)))]
                workers.append(_Worker(share, quick, time_limit, events))
            try:
                worker, event = events.get(timeout=TICK)
            except Empty:
                for worker in workers:
                    worker.enforce_limit()
                continue
            if event is not None:
                worker.take(event)
            else:
                workers.remove(worker)
                worker.conclude()
                waiting.extendleft(reversed(worker.names))
            yield from worker.finished()
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process, the names that it still has to measure, and the row that it is at."""

    def __init__(self, names: list[str], quick: bool, time_limit: float, events: Queue[Any]) -> None:
        self.names = deque(names)
        self._limit = time_limit
        self._row: CatalogRow | None = None
        self._at = ""
        self._since = time.monotonic() + START_UP
        self._overdue = False
        self._has_started = False
        self._rows: list[tuple[str, CatalogRow]] = []
        self._last_line = ""
        self._log = TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-c", START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # so Ctrl-C reaches only the parent, which ends it
        )
        assert self._process.stdin
        with suppress(BrokenPipeError):
            task = {"names": names, "quick": quick}
            self._process.stdin.write(json.dumps(task).encode() + b"\n")
            self._process.stdin.flush()
        with suppress(OSError):  # where the machine runs out of memory, Linux ends this process first
            Path(f"/proc/{self._process.pid}/oom_score_adj").write_text("1000")
        Thread(target=self._read, args=(events,), daemon=True).start()

    def _read(self, events: Queue[Any]) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with suppress(ValueError):  # a line cut short
                events.put((self, json.loads(line)))
        events.put((self, None))

    def take(self, event: dict[str, Any]) -> None:
        """Take note of what the process is doing. Raises PluginProblem where it can't measure anything."""
        if "refused" in event:
            message, hint = event["refused"]
            raise PluginProblem(message, hint)
        if "at" in event:
            self._at, self._row, self._since = event["at"], None, time.monotonic()
            self._has_started = True
        elif "row" in event:
            self._row = CatalogRow(**event["row"])
        elif self._row:
            self._finish(self._row)

    def finished(self) -> Iterator[tuple[str, CatalogRow]]:
        """Yield the rows that are new."""
        rows, self._rows = self._rows, []
        yield from rows

    def enforce_limit(self) -> None:
        """End the process if it takes too long; its reader then reports that it ended."""
        if time.monotonic() - self._since > self._limit:
            self._overdue = True
            self._kill()

    def end(self) -> int:
        """End the process and return its exit code."""
        self._kill()
        code = self._process.wait()
        self._last_line = self._read_last_line()
        for file in (self._process.stdin, self._process.stdout, self._log):
            with suppress(OSError):
                if file:
                    file.close()
        return code

    def conclude(self) -> None:
        """Give the name that the process was at when it ended a row, if it was at one.

        A process may also die between two names, such as for want of memory; another one goes on then.
        Raises NnkitError for a process that died before its first name.
        """
        code = self.end()
        if self.names and self._overdue and self._at:
            self._fail(f"it takes more than {self._limit:g} s")
        elif self.names and code and self._at:
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._fail(f"its process died: {reason}")
        elif self.names and code and not self._has_started:
            raise NnkitError("the process that measures architectures can't start", self._last_line)

    def _fail(self, reason: str) -> None:
        """Finish the name that the process was at; with the figures that it had, if it had any."""
        row = self._row or CatalogRow(name=self._at.partition("/")[2], method=reason)
        if row.macs is not None:
            row = replace(row, training=0)
        self._finish(row)

    def _finish(self, row: CatalogRow) -> None:
        self._rows.append((self._at, row))
        self.names.remove(self._at)
        self._at, self._row = "", None

    def _read_last_line(self) -> str:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LOG_SIZE))
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
