"""Find the line of the user's own code that is running or failed. Torch-free."""

import functools
import linecache
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

PYTHON = Path(linecache.__file__).parent
NNKIT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Line:
    """A line of code and its function, shown as `net.py:12 in forward: return self.two(y)`."""

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.number).strip()
        return f"{short(self.file)}:{self.number} in {self.function}" + (f": {text}" if text else "")


def failing_line(error: BaseException) -> Line | None:
    """Return the innermost line of the user's code that an error came through."""
    return _innermost(reversed(list(traceback.walk_tb(error.__traceback__))))


def at_line(error: BaseException) -> str:
    """Return ` (forward at net.py:12)` for an error that came through the user's code, else nothing."""
    line = failing_line(error)
    if line is None:
        return ""
    function = "" if line.function == "<module>" else f"{line.function} "
    return f" ({function}at {short(line.file)}:{line.number})"


def current_line() -> Line | None:
    """Return the innermost line of the user's code that is running."""
    return _innermost(traceback.walk_stack(sys._getframe(1)))


def users_frame(frame: FrameType | None) -> tuple[str, int] | None:
    """Return the file and the number of the innermost line of the user's code, from `frame` outward."""
    while frame is not None and not _is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return None if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def _innermost(frames: Iterable[tuple[FrameType, int]]) -> Line | None:
    for frame, number in frames:
        if _is_users(frame.f_code.co_filename):
            return Line(frame.f_code.co_filename, number, frame.f_code.co_name)
    return None


@functools.cache
def _is_users(file: str) -> bool:
    """Whether a file is not part of Python, torch or nnkit, and its code was not generated."""
    path, torch = Path(file), sys.modules.get("torch")
    if file.startswith("<") or path.is_relative_to(NNKIT):
        return False
    if path.is_relative_to(PYTHON) and "site-packages" not in path.parts:
        return False
    return torch is None or not path.is_relative_to(Path(str(torch.__file__)).parent)


def short(file: str) -> str:
    """Return a path relative to the current folder or to the import path."""
    for folder in (str(Path.cwd()), *sorted(sys.path, key=len, reverse=True)):
        if folder and Path(file).is_relative_to(folder):
            return str(Path(file).relative_to(folder))
    return file
