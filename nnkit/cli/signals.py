"""SIGTERM and SIGHUP end a command as Ctrl-C does: half-written files are removed first."""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, NoReturn

Handler = Callable[[int, FrameType | None], Any] | int


class Terminated(BaseException):
    """The process was asked to end. Not an Exception, so that no handler takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def raising_signals() -> Iterator[None]:
    """Raise Terminated for a signal that would end the process at once, and KeyboardInterrupt for Ctrl-C.

    Both wait while torch is being imported. A handler that somebody else has set stays, and what was there
    before is there again afterwards, since a program may run commands by `main(args)`.
    """
    with ExitStack() as restored:
        if threading.current_thread() is threading.main_thread():
            for number, usual, handler in _handlers():
                if signal.getsignal(number) is usual:
                    signal.signal(number, handler)
                    restored.callback(signal.signal, number, usual)
        yield


def _handlers() -> Iterator[tuple[signal.Signals, Handler, Handler]]:
    """Yield each signal, the handler that Python starts with and the one that raises."""
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a fork has no files of its own to remove
            end_by(number)
        if not _waits_for_torch(number, frame):
            raise Terminated(number)

    yield signal.SIGINT, signal.default_int_handler, _interrupt
    yield signal.SIGTERM, signal.SIG_DFL, end
    yield signal.SIGHUP, signal.SIG_DFL, end


PAUSE = 0.002  # seconds between two looks whether torch is imported; a small summary takes 200 ms after it

_waiting: set[int] = set()


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _waits_for_torch(number, frame):
        raise KeyboardInterrupt


def _waits_for_torch(number: int, frame: FrameType | None) -> bool:
    """Whether a signal came while torch is imported; then it is raised again right after the import.

    torch imports NumPy from C++, which clears any exception. Then the command would go on, or fail later
    because NumPy is there only in part.
    """
    if not _is_importing_torch(frame):
        return False
    if number not in _waiting:  # whoever presses Ctrl-C again meanwhile wants no more than one end
        _waiting.add(number)
        threading.Thread(target=_raise_after_torch, args=[signal.Signals(number)], daemon=True).start()
    return True


def _raise_after_torch(number: signal.Signals) -> None:
    main = threading.main_thread().ident
    while _is_importing_torch(sys._current_frames().get(main or 0)):
        time.sleep(PAUSE)
    _waiting.discard(number)
    _thread.interrupt_main(number)


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
