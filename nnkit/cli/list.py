"""`nnkit list`."""

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
    everything = manager.architectures()
    word = pattern.lower()
    found = {full: each for full, each in everything.items() if word in full or word in each.family.lower()}
    if pattern and not found:
        names = {full.rpartition("/")[2] for full in everything}
        families = {each.family.lower() for each in everything.values()}
        hint = did_you_mean(word, names | families) or "see all: nnkit list"
        raise UsageProblem(f"no architecture matches {pattern!r}", hint)
    if as_json:
        rows = [_row(full, each) for full, each in found.items()]
        print_json({"schema": "nnkit.list/1", "nnkit": __version__, "architectures": rows})
    else:
        print_text(_text(found))


def _row(full: str, architecture: Architecture) -> dict[str, str]:
    return {
        "name": architecture.name,
        "plugin": full.rpartition("/")[0],
        "family": architecture.family,
        "summary": architecture.summary,
    }


def _text(found: dict[str, Architecture]) -> str:
    from nnkit.render.table import Table, to_plain

    families: dict[str, list[tuple[str, ...]]] = {}
    for full, each in found.items():
        families.setdefault(each.family, []).append((f"  {each.name}", full.rpartition("/")[0], each.summary))
    lines = to_plain(Table(("", "plugin", ""), [row for rows in families.values() for row in rows]))
    body = iter(lines.splitlines()[1:])
    return "\n".join(f"{family}\n" + "\n".join(next(body) for _ in rows) for family, rows in families.items())
