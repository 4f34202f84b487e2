"""How a forked child ends: as Python does, without taking apart everything that it shares with the server.

Python would delete each module and each object, and copy the memory of most of them to do so. That takes
longer than the checks of a small model. Nobody can tell whether it was done, with two exceptions: a library
that the model has loaded may crash at its end, and an object may have a `__del__`. Then Python does it.
"""

import atexit
import gc
import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

from nnkit.host.leftovers import flush_c, flush_files, have_finalizer


class Ending:
    """What a process consists of when it is made: what has come since decides how the process ends."""

    def __init__(self) -> None:
        self._libraries = mapped_libraries()
        self._has_finalizers = have_finalizer(gc.get_objects())

    def end(self) -> None:
        """End the process with code 0; returns where only Python itself can end it as it should."""
        if self._has_finalizers or not mapped_libraries() <= self._libraries:
            return
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does
        with suppress(Exception):  # it has been printed, and changes no exit code
            atexit._run_exitfuncs()
        made = gc.get_objects()  # without what the server has frozen
        if have_finalizer(made):
            return
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        flush_files(made)
        flush_c()
        os._exit(0)


def mapped_libraries() -> frozenset[str]:
    """Return the shared libraries in this process, except modules of the standard library."""
    maps = Path("/proc/self/maps").read_text(errors="replace")
    paths = re.findall(r"(/\S[^\n]*\.so\b[^\n]*)", maps)
    return frozenset(path for path in paths if "/lib-dynload/" not in path)
