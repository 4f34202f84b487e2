"""The process that starts the models of a sweep by fork, so that each finds torch and the plugins imported.

For a small model these imports take longer than its checks.

A child is to be like a new process in all that a model could notice. So this process refuses to fork where a
copy would differ from what a new process imports:

- It has a second thread. A fork copies only the thread that forks, and a lock that the other one holds at
  that moment stays locked in the child. So this process imports and never computes, and looks into /proc
  right before each fork.
- It has initialized CUDA, whose driver doesn't survive a fork.
- A plugin has opened a file or a connection, started a process or registered an exit handler when it was
  imported. The children would share it: the first child to end would remove a temporary folder for all.
- A zoo that the sweep needs can't be imported.
- A file that it has imported has changed since.

Each child leads a session of its own. What NumPy draws is seeded anew; Python itself does that at a fork.
"""

import atexit
import ctypes
import gc
import importlib
import json
import logging  # noqa: F401 - it registers an exit handler, which is none of a plugin's
import multiprocessing.util  # noqa: F401 - the same
import os
import selectors
import signal
import socket
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from nnkit.host.leftovers import flush_c
from nnkit.verbs import core_handlers
from nnkit.verbs.sweep import child
from nnkit.verbs.sweep.ending import Ending, mapped_libraries

IDLE = 60.0  # seconds without a child, after which it ends; whoever needs it again starts another
PIPES = 3  # for stdin, stdout and stderr of a child
MESSAGE_SIZE = 2**10

DESCRIPTORS = "/proc/self/fd"
THREADS = "/proc/self/task"


class _Imported(NamedTuple):
    """What this process has imported.

    stamps: of the files that it has read.
    shared: what its children would share and must not; empty if there is nothing.
    ending: ends a child.
    """

    stamps: Mapping[str, tuple[int, int] | None]
    shared: str
    ending: Ending


def main(descriptor: int, names: Sequence[str]) -> None:
    """Serve the requests that arrive on a socket, until its other end is closed.

    names: of models to come, one for each zoo, which is then imported too.
    Also returns in each child, when its task has ended; what the task raises ends the child.
    """
    channel = socket.socket(fileno=descriptor)
    imported = _import_everything(names)
    if _Server(channel, imported).serve():
        try:
            child.main()
            imported.ending.end()
        finally:
            gc.unfreeze()  # so that Python deletes all objects


def _import_everything(names: Sequence[str] = ()) -> "_Imported":
    """Import what every smoke-run imports, and return what came of it."""
    started_at = time.time_ns()
    gc.disable()
    shared = import_plugins()  # before torch: the manager reports the plugins that import torch
    importlib.import_module("nnkit.verbs.smoke.handler")
    importlib.import_module("numpy.random")
    shared = shared or _import_zoos(names)
    sys.stdout.flush()
    sys.stderr.flush()
    flush_c()  # else each child would print what a library has printed here
    _end_threads_of_openblas()
    gc.collect()
    ending = Ending()
    gc.freeze()  # so that the collector of a child doesn't touch, and thereby copy, the memory they share
    settings = [source.place for source in core_handlers.plugin_manager().configuration.files]
    modules = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    stamps = {path: _stamp(path) for path in (*filter(None, modules), *settings)}
    is_outdated = any(stamp and stamp[0] > started_at for stamp in stamps.values())
    return _Imported(stamps, "changed" if is_outdated else shared, ending)


def import_plugins() -> str:
    """Import the plugins, and return what they have made that children would share; empty for nothing."""
    descriptors, exit_handlers = _count(DESCRIPTORS), _count_exit_handlers()
    core_handlers.plugin_manager()
    if _has_children():
        return "processes"
    if _count(DESCRIPTORS) > descriptors:
        return "descriptors"
    return "exit handlers" if _count_exit_handlers() > exit_handlers else ""


def _import_zoos(names: Sequence[str]) -> str:
    """Declare a model of each zoo, which imports the zoo, and return what children would share.

    A package may register exit handlers, which then run at the end of each child as they do in a new process.
    Only those that delete what all of them share are in the way. A zoo that can't be imported is left to new
    processes, because in them it fails in the same way each time.
    """
    from nnkit.models.process import random_states_kept

    manager = core_handlers.plugin_manager()
    descriptors, known = _count(DESCRIPTORS), set(_finalized())
    try:
        with random_states_kept():
            for name in filter(manager.is_member, names):
                manager.find(name)
    except BaseException:
        return "zoo"
    if _has_children():
        return "processes"
    if _count(DESCRIPTORS) > descriptors:
        return "descriptors"
    deletes = any(each.startswith(("tempfile.", "shutil.", "os.")) for each in _finalized() - known)
    return "exit handlers" if deletes else ""


def _finalized() -> set[str]:
    """Return the names of the functions that `weakref.finalize` calls when this process ends."""
    called = [info.func for info in weakref.finalize._registry.values()]  # type: ignore[attr-defined]
    return {f"{getattr(each, '__module__', '')}.{getattr(each, '__qualname__', '')}" for each in called}


def _count(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())


def _count_exit_handlers() -> int:
    """Return how many functions run when this process ends; `weakref.finalize` keeps some of its own."""
    return atexit._ncallbacks() + len(weakref.finalize._registry)  # type: ignore[attr-defined]


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat takes longer, and there are thousands of files
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _end_threads_of_openblas() -> None:
    """End the threads that OpenBLAS starts when NumPy is imported; a child starts its own when it needs them.

    OpenBLAS does this itself at every fork. Doing it earlier leaves one thread for the check to see.
    """
    for path in mapped_libraries():
        if "openblas" in os.path.basename(path):  # noqa: PTH119
            with suppress(OSError, AttributeError):
                ctypes.CDLL(path).blas_thread_shutdown_()


class _Server:
    """Forks a child for each request, and reports how each child has ended."""

    def __init__(self, channel: socket.socket, imported: _Imported) -> None:
        self._channel, self._imported = channel, imported
        self._numbers: dict[int, int] = {}  # of the requests, by the pid of the child
        self._woken, wake = socket.socketpair()
        self._woken.setblocking(False)
        wake.setblocking(False)
        self._wake = wake
        # With a handler, the signal wakes the selector.
        self._handler = signal.signal(signal.SIGCHLD, lambda *received: None)
        signal.set_wakeup_fd(wake.fileno())

    def serve(self) -> bool:
        """Return True in a child, False when nothing is left to do."""
        self._send(ready=True)
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(None if self._numbers else IDLE)}
                if not ready and not self._numbers:
                    return False
                if self._woken in ready:
                    self._woken.recv(MESSAGE_SIZE)
                    self._report_ended()
                if self._channel in ready:
                    message, pipes, *_ = socket.recv_fds(self._channel, MESSAGE_SIZE, PIPES)
                    if not message:
                        return False
                    if self._start(json.loads(message)["number"], pipes):
                        return True

    def _start(self, number: int, pipes: list[int]) -> bool:
        """Start a child with these pipes, and report it or the reason not to. Return True in the child."""
        if reason := self._reason_not_to_fork():
            self._send(number=number, refused=reason)
            pid = -1
        else:
            leads, led = os.pipe()
            pid = os.fork()  # where the system refuses, the server ends, and a new process is tried
            if pid == 0:
                os.setsid()
                os.close(led)
                os.close(leads)
                self._become_child(pipes)
                return True
            os.close(led)
            os.read(leads, 1)  # returns when the child leads its group, which can be killed from then on
            os.close(leads)
            self._numbers[pid] = number
            self._send(number=number, pid=pid)
        for pipe in pipes:
            os.close(pipe)
        return False

    def _reason_not_to_fork(self) -> str:
        if self._imported.shared:
            return self._imported.shared
        if _count(THREADS) > 1:
            return "threads"
        if sys.modules["torch"].cuda.is_initialized():
            return "CUDA"
        if any(_stamp(path) != stamp for path, stamp in self._imported.stamps.items()):
            return "changed"
        return ""

    def _become_child(self, pipes: list[int]) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, self._handler)
        for each in (self._channel, self._woken, self._wake):
            each.close()
        for standard, pipe in enumerate(pipes):
            os.dup2(pipe, standard)
            os.close(pipe)
        sys.modules["numpy.random"].seed()
        importlib.invalidate_caches()
        gc.enable()

    def _report_ended(self) -> None:
        while self._numbers:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._numbers:
                number = self._numbers.pop(pid)
                self._send(number=number, code=os.waitstatus_to_exitcode(status), peak=usage.ru_maxrss)

    def _send(self, **message: Any) -> None:
        with suppress(BrokenPipeError):  # the next read finds that the other end is closed
            self._channel.send(json.dumps(message).encode())
