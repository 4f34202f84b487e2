"""What is left to do for a process that ends at once, without Python deleting each module and each object.

Nobody can tell whether they were deleted, but for what a `__del__` does and for what was not written yet.
"""

import io
from collections.abc import Iterable
from contextlib import suppress

TRUSTED = ("torch", "_io", "socket", "_socket")  # whose `__del__` only frees memory and closes files


def have_finalizer(things: Iterable[object]) -> bool:
    """Whether any of the things has a `__del__` that may do more: delete a temporary file, end an archive."""
    final = (kind for kind in set(map(type, things)) if hasattr(kind, "__del__"))
    return not all(kind.__module__.partition(".")[0] in TRUSTED for kind in final)


def flush_files(things: Iterable[object]) -> None:
    """Write what the files among the things have in memory."""
    things = list(things)
    files = {kind for kind in set(map(type, things)) if issubclass(kind, io.IOBase)}
    for file in [thing for thing in things if type(thing) in files]:
        with suppress(Exception):  # Python ignores it too
            if isinstance(file, io.IOBase) and not file.closed:
                file.flush()


def flush_c() -> None:
    """Write what compiled modules have written by C and is still in memory."""
    import ctypes

    ctypes.CDLL(None).fflush(None)
