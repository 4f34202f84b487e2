"""Ends the process as Python does, without taking apart what the system frees at once.

At its end, Python waits for threads, calls what `atexit` has registered, and flushes stdout and stderr. Then
it deletes each module and each object. With torch imported that takes a fifth of `nnkit summary`, and nobody
can tell whether it was done, but for:

- files that are still open, whose last lines are written then: here they are flushed;
- text that C has not written yet: C is asked to;
- objects with a `__del__`, threads that still run, and options of Python itself (`-X dev`, `-i`), which may
  show more: then Python ends the process.
"""

import atexit
import gc
import os
import sys
import threading
from collections.abc import Iterable
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import Any

STARTERS = ("runpy",)  # what Python itself calls the program by, for `python -m`
QUIET = (sys.stdlib_module_names | {"msgspec", "yaml", "_yaml"}) - {"_ctypes"}  # that don't write by C


def is_ours(frame: FrameType) -> bool:
    """Whether a frame belongs to the program itself, so that nobody waits for its end.

    `coverage run -m nnkit`, a debugger and a profiler do: they write their results when it has ended.
    """
    caller = frame.f_back
    if caller is None or caller.f_globals.get("__name__") != "__main__":
        return False
    while (caller := caller.f_back) is not None:
        if caller.f_globals.get("__name__") not in STARTERS:
            return False
    return True


def end(code: int) -> None:
    """End the process with this code; returns where only Python itself can end it as it should."""
    if os.name != "posix" or _has_options():
        return
    _flush_c()
    if not _wait_for_threads():
        return
    atexit._run_exitfuncs()
    if threading.active_count() == 1 and _flush(filter(None, (sys.stdout, sys.stderr))) and _leave_nothing():
        os._exit(code)


def _has_options() -> bool:
    """Whether Python was started with options that may show more at its end."""
    flags = sys.flags
    special = (flags.inspect, flags.interactive, flags.verbose, flags.debug, flags.dev_mode)
    return any((*special, sys.warnoptions, sys._xoptions, os.environ.get("PYTHONINSPECT")))


def _wait_for_threads() -> bool:
    """Wait for all threads but daemons; whether that was not interrupted.

    Python would wait again, and show why it doesn't go on; so it is given the error to show.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
    except BaseException as error:
        interruption = error

        def raise_again() -> None:
            raise interruption

        threading._shutdown = raise_again  # type: ignore[attr-defined]
        return False
    return True


def _flush(streams: Iterable[Any]) -> bool:
    """Flush streams; whether all of them could be."""
    try:
        for stream in streams:
            if not getattr(stream, "closed", False):
                stream.flush()
    except Exception:
        return False
    return True


def _leave_nothing() -> bool:
    """Write what is still to be written; whether nothing else is left to do."""
    from nnkit.host.leftovers import flush_files, have_finalizer

    gc.unfreeze()
    kept = gc.get_objects()
    if have_finalizer(kept):
        return False
    flush_files(kept)
    _flush_c()
    return True


def _flush_c() -> None:
    """Write what compiled modules have written by C, if there are any; Python does so twice too."""
    if any(map(_is_foreign, list(sys.modules.items()))):
        from nnkit.host.leftovers import flush_c

        flush_c()


def _is_foreign(item: tuple[str, Any]) -> bool:
    """Whether a module is compiled, and may have written by C."""
    name, module = item
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return isinstance(loader, ExtensionFileLoader) and name.partition(".")[0] not in QUIET
