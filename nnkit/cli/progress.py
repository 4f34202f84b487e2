"""A bar on stderr for somebody who watches, of what a verb reports of its progress."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from nnkit.cli.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

REDRAWN = 0.1  # seconds between two drawings


class Progress(Protocol):
    """What a verb calls: with what is being done and, where it knows, the share of all that is done."""

    def __call__(self, line: str, share: float | None = None) -> None: ...


@contextmanager
def progress_bar(settings: Settings) -> Iterator[Progress]:
    """Give what a verb reports to: a bar that is gone at the end, or nothing without a terminal, or if quiet.

    Drawn from the call itself, by no thread of its own: one would take time from what is measured.
    """
    if settings.quiet or not sys.stderr.isatty():
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        yield _Drawn(bar)


def _nothing(line: str, share: float | None = None) -> None:
    """Nobody watches."""


class _Drawn:
    """A bar that is drawn when what is being done changes, and at most every tenth of a second otherwise."""

    def __init__(self, bar: "RichProgress") -> None:
        self.bar = bar
        self.task = bar.add_task("", total=None)
        self.line, self.drawn = "", 0.0

    def __call__(self, line: str, share: float | None = None) -> None:
        now = time.monotonic()
        if line == self.line and now - self.drawn < REDRAWN:
            return
        self.line, self.drawn = line, now
        total = None if share is None else 1.0  # None: the bar says that something is done, not how much
        self.bar.update(self.task, description=line, total=total, completed=share, refresh=True)
