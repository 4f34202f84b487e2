"""How commands print their reports."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import click

from nnkit.cli.settings import Settings
from nnkit.cli.streams import takes_everything


def report_format(*formats: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--format` with these choices, the first by default, and `--json` for `--format json`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        choice = click.option(
            "--format",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="What to print.",
        )
        flag = click.option("--json", "format", flag_value="json", help="The same as --format json.")
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
        click.echo(forms[format](), color=settings.use_color)


def print_json(data: Any) -> None:
    """Print data as JSON on stdout; where that can't take every letter, by their escapes."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=not takes_everything(sys.stdout)))
