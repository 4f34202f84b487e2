"""SIGTERM and SIGHUP end a command as Ctrl-C does: half-written files are removed first."""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn


class Terminated(BaseException):
    """The process was asked to end. Not an Exception, so that no handler takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def raise_when_terminated() -> None:
    """Raise Terminated in the main thread for a signal that would end the process at once."""
    if threading.current_thread() is not threading.main_thread():
        return
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a fork has no files of its own to remove
            end_by(number)
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def end_by(number: int) -> NoReturn:
    """End the process by a signal, so that the sender sees its effect."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
