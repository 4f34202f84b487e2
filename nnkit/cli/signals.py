"""SIGTERM and SIGHUP end a command as Ctrl-C does: half-written files are removed first."""

import _thread
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


PAUSE = 0.05  # seconds until an interrupt that had to wait is tried again


def interrupt_after_imports_of_torch() -> None:
    """Let an interrupt that comes while torch is imported wait until it is.

    torch imports NumPy from C++, which clears the KeyboardInterrupt. Then the command would go on, or fail
    later because NumPy is there only in part.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _is_importing_torch(frame):
        raise KeyboardInterrupt
    again = threading.Timer(PAUSE, _thread.interrupt_main)
    again.daemon = True
    again.start()


def _is_importing_torch(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "torch":
            return True
        frame = frame.f_back
    return False


def end_by(number: int) -> NoReturn:
    """End the process by a signal, so that the sender sees its effect."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
