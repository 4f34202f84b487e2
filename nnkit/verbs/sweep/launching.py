"""Starts the processes of tasks: by fork where that is possible, else each anew."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import IO

from nnkit.verbs.sweep.forking import ForkServer
from nnkit.verbs.sweep.processes import Lost, NewProcess, Pipes, Process

REPLACEABLE = ("changed", "lost")  # reasons for which a server is replaced, if it has been of use


class Launcher:
    """Starts processes in the environment that it is given.

    forks: whether to fork them where the server agrees.
    names: of the models to come, so that the server imports their zoos.
    Any thread may use it.
    """

    def __init__(self, environment: Mapping[str, str], forks: bool, names: Iterable[str] = ()) -> None:
        self._environment = environment
        self._names = {_zoo_of(name): name for name in names}
        self._server = self._start_server() if forks else None

    @property
    def is_starting(self) -> bool:
        """Whether it is worth waiting, because a process can soon be started by fork."""
        return self._server is not None and self._server.is_starting

    def start(self) -> tuple[Process, IO[bytes], IO[bytes], IO[bytes]]:
        """Start a process and return it, with the other ends of its stdin, stdout and stderr."""
        try:
            return self._start(self._server)
        except Lost:
            return self._start(None)

    def _start(self, server: ForkServer | None) -> tuple[Process, IO[bytes], IO[bytes], IO[bytes]]:
        (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = (os.pipe() for _ in range(3))
        pipes = Pipes(stdin, stdout, stderr)
        process: Process | None = None
        try:
            if server is not None and not server.is_starting:
                process = server.fork(pipes)
            process = process or NewProcess(pipes, self._environment)
        finally:
            for pipe in pipes:
                os.close(pipe)
            if process is None:
                for pipe in (to_stdin, from_stdout, from_stderr):
                    os.close(pipe)
            if server is not None and server.reason:
                self._replace(server)
        return (
            process,
            os.fdopen(to_stdin, "wb", 0),
            os.fdopen(from_stdout, "rb", 0),
            os.fdopen(from_stderr, "rb", 0),
        )

    def _replace(self, server: ForkServer) -> None:
        """Use another server from now on, or none where another would do no better."""
        if self._server is server:
            is_useful = server.served and server.reason in REPLACEABLE
            self._server = self._start_server() if is_useful else None

    def _start_server(self) -> ForkServer | None:
        try:
            return ForkServer(self._environment, tuple(self._names.values()))
        except OSError:
            return None  # a new process may not start either, and then tells the reason

    def wait(self, seconds: float) -> None:
        """Return when a process may have ended, at the latest after some seconds."""
        if self._server is None:
            time.sleep(seconds)
        else:
            self._server.wait(seconds)

    def close(self) -> None:
        """End the server; the processes have ended."""
        if self._server is not None:
            self._server.close()
            self._server = None


_SHARED: dict[tuple[object, ...], Launcher] = {}
_SHARING = threading.Lock()


def shared_launcher(forks: bool, name: str) -> Launcher:
    """Return a launcher for this process as it is now, which later calls for models of the same zoo get too.

    One from before is forgotten when the environment, the working folder or the module path has changed.
    """
    now = (forks, _zoo_of(name), os.getpid(), _working_folder(), tuple(sys.path), tuple(os.environ.items()))
    with _SHARING:
        if now not in _SHARED:
            _SHARED.clear()
            _SHARED[now] = Launcher(dict(os.environ), forks, [name])
        return _SHARED[now]


def _zoo_of(name: str) -> str:
    prefix, _, _ = name.partition("/")
    return prefix


def _working_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a name, to be compared
    except OSError:
        return ""  # it was removed
