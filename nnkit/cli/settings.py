"""What holds for every command: how much is said, and in what colours."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from nnkit.contract.visible import message_line, visible_lines

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Settings:
    """verbose: tracebacks too. quiet: errors alone. color: `auto`, `always` or `never`, None if not given."""

    verbose: bool = False
    quiet: bool = False
    color: str | None = None

    @property
    def on_terminal(self) -> bool:
        """Whether stdout is a terminal, or is to be treated as one."""
        return self._chosen_color == "always" or sys.stdout.isatty()

    @property
    def use_color(self) -> bool:
        """Whether stdout takes colours; `NO_COLOR`, if not empty, says no unless `--color always`."""
        if self._chosen_color != "auto":
            return self._chosen_color == "always"
        return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def _chosen_color(self) -> str:
        from nnkit.host.configuration import configuration

        return self.color or configuration().color

    def note(self, line: str) -> None:
        """Say something on stderr, unless told to be quiet."""
        if not self.quiet:
            click.echo(message_line(line), err=True)

    def explain(self, trace: str) -> None:
        """Show a traceback on stderr, where that was asked for."""
        if self.verbose:
            click.echo(visible_lines(trace.rstrip()), err=True)

    def progress(self, line: str) -> None:
        """Say what is being done, on stderr and only to somebody who watches."""
        if not self.quiet and sys.stderr.isatty():
            click.echo(f"… {message_line(line)}", err=True)


def settings_options(function: F) -> F:
    """Add -v, -q and --color to a command."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value and parameter.name:
            setattr(ctx.ensure_object(Settings), parameter.name, value)

    choices = click.Choice(["auto", "always", "never"])
    for flags, kind, words in (
        (("--color",), choices, "Colours on stdout."),
        (("-q", "--quiet"), None, "Print results and errors alone."),
        (("-v", "--verbose"), None, "Show tracebacks."),
    ):
        option = click.option(
            *flags, type=kind, is_flag=kind is None, help=words, expose_value=False, callback=remember
        )
        function = option(function)
    return function
