"""Let Ctrl-C end calls into compiled code: Python acts on a signal only between its own instructions."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

SECONDS_TO_STOP = 5.0


def interruptible(call: Callable[[], T], stop: Callable[[], None] = lambda: None) -> T:
    """Return what `call` returns. It runs in another thread, and a signal ends the wait for it.

    stop: asks the call to end. A call that doesn't end within a few seconds is left behind in its thread,
    which ends with the process.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return future.result()
    except BaseException:
        if not future.done():
            stop()
            thread.join(SECONDS_TO_STOP)
        raise
