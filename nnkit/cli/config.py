"""`nnkit config`."""

import click

from nnkit import __version__
from nnkit.cli.command import Command
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.host.configuration import SETTINGS, Configuration, configuration


@click.command("config", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON.")
@settings_options
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show each setting, its value and where it comes from.

    \b
    nnkit config
    nnkit config --json

    In order of precedence: command-line flag, environment variable, project file (nnkit.toml, or
    [tool.nnkit] in pyproject.toml), user file, default.
    """
    settings = ctx.ensure_object(Settings)
    settled = configuration().with_flag("color", settings.color, "--color")
    for problem in settled.problems:
        settings.note(f"warning: {problem.message}; {problem.hint}")
    if as_json:
        print_json(_data(settled))
    else:
        print_text(_text(settled))


def _data(settled: Configuration) -> dict[str, object]:
    return {
        "schema": "nnkit.config/1",
        "nnkit": __version__,
        "settings": [
            {
                "name": _typed(name),
                "value": getattr(settled, name),
                "source": settled.source(name).kind,
                "place": settled.source(name).place or None,
            }
            for name in SETTINGS
        ],
        "files": _files(settled),
        "problems": [problem.message for problem in settled.problems],
    }


def _text(settled: Configuration) -> str:
    from nnkit.render.table import Table, to_plain

    rows = []
    for name in SETTINGS:
        source = settled.source(name)
        rows.append((_typed(name), _words(getattr(settled, name)), source.place or source.kind))
    files = [f"{kind} file: {path or 'none'}" for kind, path in _files(settled).items()]
    return "\n".join([to_plain(Table(("setting", "value", "from"), rows)), "", *files])


def _files(settled: Configuration) -> dict[str, str | None]:
    """Return the files that were read; None for one that doesn't exist."""
    return {"project": None, "user": None} | {source.kind: source.place for source in settled.files}


def _typed(name: str) -> str:
    return name.replace("_", "-")


def _words(value: tuple[str, ...] | str | None) -> str:
    if value is None:
        return "all"
    return value if isinstance(value, str) else ", ".join(value) or "none"
