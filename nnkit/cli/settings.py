"""The options of every command: how much it prints, and in what colors."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import click

from nnkit.cli.command import add_options
from nnkit.cli.progress import StatusLine, status_line
from nnkit.contract.visible import message_line, visible_lines


@dataclass
class Settings:
    """How much to print, and in what colors.

    verbose: print tracebacks too. quiet: print only results and errors. color: `auto`, `always`, `never`,
    or None if not given.
    """

    verbose: bool = False
    quiet: bool = False
    color: str | None = None
    _status: StatusLine | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def on_terminal(self) -> bool:
        """Whether stdout is a terminal, or should be treated as one."""
        return self._chosen_color == "always" or sys.stdout.isatty()

    @property
    def use_color(self) -> bool:
        """Whether to print colors; a non-empty `NO_COLOR` turns them off unless `--color always`."""
        if self._chosen_color != "auto":
            return self._chosen_color == "always"
        return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def _chosen_color(self) -> str:
        from nnkit.host.configuration import configuration

        return self.color or configuration().color

    def note(self, line: str) -> None:
        """Print a line on stderr, unless quiet."""
        if not self.quiet:
            click.echo(message_line(line), err=True)

    def explain(self, trace: str) -> None:
        """Print a traceback on stderr, if verbose."""
        if self.verbose:
            click.echo(visible_lines(trace.rstrip()), err=True)

    def show_log(self) -> None:
        """Print what the rooms below log, such as downloads, on stderr, each line once, unless quiet."""
        import logging

        shown = set[str]()

        class Notes(logging.Handler):
            def emit(this, record: logging.LogRecord) -> None:  # noqa: N805
                line = record.getMessage()
                if line not in shown:  # a command may build its model several times
                    shown.add(line)
                    self.note(line)

        logger = logging.getLogger("nnkit")
        logger.handlers, logger.propagate = [Notes()], False
        logger.setLevel(logging.ERROR if self.quiet else logging.INFO)

    @contextmanager
    def show_progress(self) -> Iterator[None]:
        """Show what is being done in a line on stderr, if that is a terminal, as long as this lasts."""
        with status_line(lambda: not self.quiet) as self._status:
            yield
        self._status = None

    def progress(self, line: str, share: float | None = None) -> None:
        """Show what is being done and, if known, the share of the work that is done."""
        if self._status:
            self._status(line, share)

    @contextmanager
    def still_progress(self) -> Iterator[None]:
        """Let nothing run beside what is measured: only `progress` itself draws."""
        with self._status.drawn_by_calls() if self._status else nullcontext():
            yield


def _keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep the value of a global option in the settings."""
    if value and parameter.name:
        setattr(ctx.ensure_object(Settings), parameter.name, value)


GLOBAL_OPTIONS = (
    click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, callback=_keep, help="Show full tracebacks."
    ),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Print only results and errors.",
    ),
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        expose_value=False,
        callback=_keep,
        help="Color the output.",
    ),
)


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add -v, -q and --color to a command."""
    return add_options(function, GLOBAL_OPTIONS)
