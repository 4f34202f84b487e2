"""The options of every command: how much it prints, and in what colors."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from nnkit.cli.command import add_options
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

    def progress(self, line: str) -> None:
        """Print what is being done on stderr, if that is a terminal."""
        if not self.quiet and sys.stderr.isatty():
            click.echo(f"… {message_line(line)}", err=True)


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
