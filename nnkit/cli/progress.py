"""A progress bar on stderr, if that is a terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from nnkit.cli.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

REDRAW_INTERVAL = 0.1  # seconds


class Progress(Protocol):
    """What a verb calls with a line about what it does and, if known, the share of the work that is done."""

    def __call__(self, line: str, share: float | None = None) -> None: ...


@contextmanager
def progress_bar(settings: Settings) -> Iterator[Progress]:
    """Yield what a verb reports its progress to: a bar that disappears at the end.

    Without a terminal, or if quiet, nothing is drawn. The call itself draws the bar: a thread would take
    time from what is measured.
    """
    if settings.quiet or not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        yield _Drawn(bar)


def _ignore(line: str, share: float | None = None) -> None:
    """Draw nothing."""


class _Drawn:
    """A bar that is redrawn when its line changes, else at most every tenth of a second."""

    def __init__(self, bar: "RichProgress") -> None:
        self.bar = bar
        self.task = bar.add_task("", total=None)
        self.line, self.drawn_at = "", 0.0

    def __call__(self, line: str, share: float | None = None) -> None:
        now = time.monotonic()
        if line == self.line and now - self.drawn_at < REDRAW_INTERVAL:
            return
        self.line, self.drawn_at = line, now
        total = None if share is None else 1.0  # None: the bar shows activity, not how much is done
        self.bar.update(self.task, description=line, total=total, completed=share, refresh=True)
