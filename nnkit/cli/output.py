"""How commands print their reports."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import click

from nnkit.cli.settings import Settings
from nnkit.cli.streams import takes_everything
from nnkit.contract.json_text import json_text
from nnkit.contract.visible import visible_lines


def report_format(*formats: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--format` with these choices, the first by default, and `--json` for `--format json`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        choice = click.option(
            "--format",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="Output format.",
        )
        flag = click.option("--json", "format", flag_value="json", help="Same as --format json.")
        return choice(flag(function))

    return decorate


class Report(Protocol):
    """What commands print."""

    def to_dict(self) -> dict[str, Any]: ...


def print_report(
    settings: Settings, report: Report, format: str, forms: Mapping[str, Callable[[], str]]
) -> None:
    """Print a report on stdout: as JSON, or in the form of that name."""
    if format == "json":
        print_json(report.to_dict())
    else:
        print_text(forms[format](), settings.use_color)


COLOR = re.compile(r"(\x1b\[[0-9;]*m)")


def print_text(text: str, color: bool = False) -> None:
    """Print text on stdout; whatever could steer a terminal is escaped, except nnkit's own colors."""
    if color:
        parts = COLOR.split(text)
        text = "".join(part if COLOR.fullmatch(part) else visible_lines(part) for part in parts)
    else:
        text = visible_lines(text)
    click.echo(text, color=color)


def print_json(data: Any) -> None:
    """Print data as JSON on stdout; escaping letters that stdout can't encode."""
    click.echo(json_text(data, indent=2, ascii_only=_needs_ascii()))


def print_json_pieces(pieces_of: Callable[[bool], Iterable[str]]) -> None:
    """Print JSON that comes in pieces on stdout; `pieces_of` takes whether letters must be escaped."""
    for piece in pieces_of(_needs_ascii()):
        click.echo(piece, nl=False)
    click.echo()


def _needs_ascii() -> bool:
    return not takes_everything(sys.stdout)
