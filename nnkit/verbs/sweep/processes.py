"""A process that runs one task, which leads a group of its own, and how it is started anew."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple, Protocol

START = "import sys; sys.path[:] = {path!r}; from nnkit.verbs.sweep.child import main; main()"


class Pipes(NamedTuple):
    """The ends of pipes that become stdin, stdout and stderr of a process."""

    stdin: int
    stdout: int
    stderr: int


class Ended(NamedTuple):
    """How a process ended.

    code: its exit code, or the number of the signal as a negative number.
    peak: its peak memory in the unit of getrusage, counted from that of the process that started it.
    """

    code: int
    peak: int


class Lost(Exception):
    """Nobody knows how the process ended, because the server that forked it has ended."""


class Process(Protocol):
    """A process, started in either way."""

    @property
    def pid(self) -> int:
        """Its process ID, which is also that of its group."""
        ...

    def poll(self) -> Ended | None:
        """Return how it ended, or None while it runs. Raises Lost."""
        ...

    def wait(self) -> None:
        """Wait until it has ended."""
        ...


class NewProcess:
    """A process that imports everything itself."""

    def __init__(self, pipes: Pipes, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            # It finds the modules that this process finds, wherever it was started.
            [sys.executable, "-c", START.format(path=sys.path)],
            stdin=pipes.stdin,
            stdout=pipes.stdout,
            stderr=pipes.stderr,
            start_new_session=True,
            env=environment,
        )
        self.pid = self._process.pid

    def poll(self) -> Ended | None:
        """Return how it ended, or None while it runs."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(self._process.returncode, usage.ru_maxrss)

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.wait()
