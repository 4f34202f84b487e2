"""A line on stderr that says what a command is doing, if that is a terminal.

It appears once a command has taken half a second, and is erased before anything else is written and at the
end. It is drawn here rather than by rich, whose bar replaces the streams from a thread of its own, so that
results printed meanwhile could end up on stderr; and whose import takes longer than many commands.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from nnkit.cli.streams import takes_everything
from nnkit.contract.visible import message_line

DELAY = 0.5  # seconds before it appears, so that quick commands don't flicker
INTERVAL = 0.1  # seconds between two drawings
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN_SPINNER = "|/-\\"
BAR, PLAIN_BAR = "━─", "#-"  # what is done, and what isn't
BAR_WIDTH = 20
ERASE = "\r\x1b[K"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"  # so that wide letters can't push the line onto a second one


class StatusLine:
    """The line, its thread, and what stands in for stdout and stderr as long as it may appear.

    Call it with what is being done and, if known, the share of the work that is done.
    """

    def __init__(self, terminal: TextIO, is_wanted: Callable[[], bool]) -> None:
        self._terminal, self._is_wanted = terminal, is_wanted
        self._signs = (SPINNER, BAR) if takes_everything(terminal) else (PLAIN_SPINNER, PLAIN_BAR)
        self._lock = threading.RLock()
        self._started_at = time.monotonic()
        self._line = ""
        self._share: float | None = None
        self._turn, self._drawn_at = 0, 0.0
        self._is_drawn = False
        self._ended = threading.Event()
        self._at_line_start = True
        self._ticking = threading.Event()
        self._ticking.set()

    def __call__(self, line: str, share: float | None = None) -> None:
        changed = line != self._line
        self._line, self._share = line, share
        if not self._ticking.is_set() and (changed or time.monotonic() - self._drawn_at >= INTERVAL):
            self.draw()

    @contextmanager
    def drawn_by_calls(self) -> Iterator["StatusLine"]:
        """Stop the thread, which would take time from what is measured: each call draws the line."""
        self._ticking.clear()
        try:
            yield self
        finally:
            self._ticking.set()

    def run(self) -> None:
        """Draw the line until it has ended; this is what the thread does."""
        pause = DELAY
        while not self._ended.wait(pause):
            self._ticking.wait()
            with suppress(OSError, ValueError):  # the terminal has gone, or the stream was closed
                self.draw()
            pause = INTERVAL

    def draw(self) -> None:
        """Draw the line, unless something is on the line already, or another command owns the terminal."""
        with self._lock:
            if (
                self._ended.is_set()
                or not self._at_line_start
                or not self._is_wanted()
                or not self._is_foreground()
            ):
                return
            self._terminal.write(f"{ERASE}{NO_WRAP}{self._text()}{WRAP}")
            self._terminal.flush()
            self._is_drawn, self._drawn_at = True, time.monotonic()

    def _text(self) -> str:
        spinner, bar = self._signs
        self._turn += 1
        parts = [spinner[self._turn % len(spinner)]]
        if self._share is not None:
            filled = int(min(max(self._share, 0.0), 1.0) * BAR_WIDTH)
            parts.append(bar[0] * filled + bar[1] * (BAR_WIDTH - filled))
        seconds = int(time.monotonic() - self._started_at)
        parts += [message_line(self._line), f"{seconds // 60}:{seconds % 60:02}"]
        return " ".join(filter(None, parts))[: self._width() - 1]

    def _width(self) -> int:
        with suppress(OSError, ValueError):
            return os.get_terminal_size(self._terminal.fileno()).columns or 80
        return 80

    def _is_foreground(self) -> bool:
        """Whether this process may write to the terminal; in the background it would write over a prompt."""
        try:
            return os.tcgetpgrp(self._terminal.fileno()) == os.getpgrp()
        except (AttributeError, OSError, ValueError):  # Windows; a terminal that controls no process
            return True

    def erase(self) -> None:
        """Erase the line, if it is there."""
        if self._is_drawn:
            self._is_drawn = False
            self._terminal.write(ERASE)
            self._terminal.flush()

    def end(self) -> None:
        """Erase the line for good."""
        with self._lock, suppress(OSError, ValueError):
            self._ended.set()
            self.erase()
        self._ticking.set()

    def write_above(self, stream: TextIO, text: str) -> int:
        """Write to a stream where the line was; it is drawn again below, once that line is complete.

        What reads a result through a pipe, such as a pager, may draw on this terminal itself: the line ends.
        """
        with self._lock:
            if text and not stream.isatty():
                self.end()
            elif text:
                self.erase()
                self._at_line_start = text.endswith("\n")
            return stream.write(text)


class _Above:
    """A stream that has the status line erased before it is written to."""

    def __init__(self, stream: TextIO, status: StatusLine) -> None:
        self._stream, self._status = stream, status

    def write(self, text: str) -> int:
        return self._status.write_above(self._stream, text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def status_line(is_wanted: Callable[[], bool]) -> Iterator[StatusLine | None]:
    """Show a line on stderr as long as this lasts; None where nobody would see it.

    is_wanted: whether it may appear; the option that turns it off is read after this begins.
    """
    if not _can_draw():
        yield None
        return
    streams = sys.stdout, sys.stderr
    # A descriptor of its own: what captures the output of a library redirects that of stderr for a while.
    descriptor, letters = os.dup(sys.stderr.fileno()), (sys.stderr.encoding, sys.stderr.errors)
    with open(descriptor, "w", -1, *letters) as terminal:  # noqa: PTH123 - a descriptor has no path
        status = StatusLine(terminal, is_wanted)
        sys.stdout, sys.stderr = (_Above(stream, status) for stream in streams)
        thread = threading.Thread(target=status.run, daemon=True)
        thread.start()
        try:
            yield status
        finally:
            sys.stdout, sys.stderr = streams
            status.end()
            thread.join(INTERVAL)  # a terminal that takes nothing may hold it


def _can_draw() -> bool:
    """Whether stderr is a terminal that can erase a line, and no other rank of torchrun's draws on it."""
    is_rank = os.environ.get("RANK", "0") != "0"
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not is_rank
