"""How commands print their reports."""

import json
from collections.abc import Callable
from typing import Any

import click


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


def print_json(data: Any) -> None:
    """Print data as JSON on stdout."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))
