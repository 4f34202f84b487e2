"""`nnkit list`."""

from collections.abc import Mapping

import click

from nnkit import __version__
from nnkit.cli.command import Command
from nnkit.cli.completers import complete_architecture
from nnkit.cli.installed import installed_plugins
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.contract.architecture import Architecture
from nnkit.errors import UsageProblem, did_you_mean


@click.command("list", cls=Command)
@click.argument("pattern", required=False, default="", shell_complete=complete_architecture)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@settings_options
@click.pass_context
def command(ctx: click.Context, pattern: str, as_json: bool) -> None:
    """List the installed architectures by family.

    \b
    nnkit list
    nnkit list resnet
    nnkit list --json

    PATTERN keeps the architectures whose name or family contains it.
    """
    manager = installed_plugins(ctx.ensure_object(Settings))
    architectures = manager.architectures()
    matching = {
        full_name: architecture
        for full_name, architecture in architectures.items()
        if pattern.lower() in full_name or pattern.lower() in architecture.family.lower()
    }
    if pattern and not matching:
        raise UsageProblem(f"no architecture matches {pattern!r}", _suggestion(pattern, architectures))
    if as_json:
        rows = [_row(full_name, architecture) for full_name, architecture in matching.items()]
        print_json({"schema": "nnkit.list/1", "nnkit": __version__, "architectures": rows})
    else:
        print_text(_text(matching))


def _suggestion(pattern: str, architectures: Mapping[str, Architecture]) -> str:
    names = {full_name.rpartition("/")[2] for full_name in architectures}
    families = {architecture.family.lower() for architecture in architectures.values()}
    return did_you_mean(pattern.lower(), names | families) or "list all architectures: nnkit list"


def _row(full_name: str, architecture: Architecture) -> dict[str, str]:
    return {
        "name": architecture.name,
        "plugin": full_name.rpartition("/")[0],
        "family": architecture.family,
        "summary": architecture.summary,
    }


def _text(architectures: Mapping[str, Architecture]) -> str:
    """Return a table of the architectures, with a line for each family above its members."""
    from nnkit.render.table import Table, to_plain

    families: dict[str, list[tuple[str, ...]]] = {}
    for full_name, architecture in architectures.items():
        row = (f"  {architecture.name}", full_name.rpartition("/")[0], architecture.summary)
        families.setdefault(architecture.family, []).append(row)
    table = to_plain(Table(("", "plugin", ""), [row for rows in families.values() for row in rows]))
    lines = iter(table.splitlines()[1:])  # without the heading
    return "\n".join(
        f"{family}\n" + "\n".join(next(lines) for _ in rows) for family, rows in families.items()
    )
