"""This side of the fork server: it starts the server, sends requests, and keeps what the server reports."""

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnkit.verbs.sweep.processes import Ended, Lost, Pipes

START = (
    "import sys; sys.path[:] = {path!r}; "
    "from nnkit.verbs.sweep.server import main; main({descriptor}, {names!r})"
)
START_UP = 120.0  # seconds that its imports may take
REPLY = 60.0  # seconds that a fork may take on a machine that swaps
MESSAGE_SIZE = 2**10


def can_fork(device: str) -> bool:
    """Whether models on a device can be forked: on Linux, and only for the CPU.

    Elsewhere libraries of the system don't survive a fork, and neither does the driver of an accelerator.
    """
    kind, _, _ = device.partition(":")
    return sys.platform == "linux" and Path("/proc/self/task").exists() and kind == "cpu"


class ForkServer:
    """A server, which is starting at first. Any thread may use it. It ends when nobody refers to it.

    names: of models to come, one for each zoo, so that it imports the zoo.

    Attributes:
        served: How many processes it has started.
        reason: Why it starts no more; empty while it does.
    """

    def __init__(self, environment: Mapping[str, str], names: Sequence[str]) -> None:
        self.served = 0
        self.reason = ""
        self._lock = threading.RLock()
        self._replies: dict[int, dict[str, Any]] = {}
        self._ended: dict[int, Ended] = {}
        self._number = 0
        self._is_ready = False
        self._started_at = time.monotonic()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    START.format(path=sys.path, descriptor=theirs.fileno(), names=list(names)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=environment,
            )
        self.close = weakref.finalize(self, _end, self._channel, process, os.getpid())

    @property
    def is_starting(self) -> bool:
        """Whether it may be ready soon."""
        if not self._is_ready and not self.reason:
            self._receive()
            if not self._is_ready and time.monotonic() - self._started_at > START_UP:
                self.close()
                self.reason = "lost"
        return not self._is_ready and not self.reason

    def fork(self, pipes: Pipes) -> "ForkedProcess | None":
        """Return a process with these pipes, or None if the server refuses to start it: see `reason`.

        Raises Lost if the server has ended or hangs, and nobody knows whether it started a process.
        """
        with self._lock:
            self._number += 1
            number = self._number
            try:
                socket.send_fds(self._channel, [json.dumps({"number": number}).encode()], list(pipes))
                reply = self._await_reply(number)
            except OSError as error:
                self.reason = "lost"
                raise Lost from error
            if "refused" in reply:
                self.reason = reply["refused"]
                return None
            self.served += 1
            return ForkedProcess(self, number, reply["pid"])

    def _await_reply(self, number: int) -> dict[str, Any]:
        until = time.monotonic() + REPLY
        while number not in self._replies:
            self._receive()
            if time.monotonic() > until:
                self.close()
                self.reason = "lost"
            if self.reason:
                raise Lost
            self.wait(1)
        return self._replies.pop(number)

    def wait(self, seconds: float) -> None:
        """Return when the server has reported something, at the latest after some seconds."""
        if self.reason == "lost":
            time.sleep(seconds)
        else:
            reported = select.poll()  # `select.select` takes no descriptor from 1024 on
            reported.register(self._channel, select.POLLIN)
            reported.poll(1000 * seconds)

    def ended(self, number: int) -> Ended | None:
        """Return how a process ended, None while it runs. Raises Lost if nobody will know."""
        self._receive()
        with self._lock:
            ended = self._ended.pop(number, None)
        if ended is None and self.reason == "lost":
            raise Lost
        return ended

    def _receive(self) -> None:
        with self._lock:
            while self.reason != "lost":
                try:
                    message = self._channel.recv(MESSAGE_SIZE, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return
                except OSError:
                    message = b""
                if message:
                    self._take(json.loads(message))
                else:
                    self.reason = "lost"

    def _take(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._is_ready = True
        elif "code" in message:
            self._ended[message["number"]] = Ended(message["code"], message["peak"])
        else:
            self._replies[message["number"]] = message


class ForkedProcess:
    """A process that a server has forked."""

    def __init__(self, server: ForkServer, number: int, pid: int) -> None:
        self.pid = pid
        self._server, self._number = server, number
        self._ended: Ended | None = None

    def poll(self) -> Ended | None:
        """Return how it ended, or None while it runs. Raises Lost."""
        self._ended = self._ended or self._server.ended(self._number)
        return self._ended

    def wait(self) -> None:
        """Wait until it has ended."""
        with suppress(Lost):
            while self.poll() is None:
                self._server.wait(1)


def _end(channel: socket.socket, process: "subprocess.Popen[bytes]", owner: int) -> None:
    """End a server, unless this process is a fork of the one that started it."""
    channel.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()
    else:
        process.returncode = 0  # it isn't this process's to wait for
