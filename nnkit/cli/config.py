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
    configured = configuration().with_flag("color", settings.color, "--color")
    for problem in configured.problems:
        settings.note(f"warning: {problem.message}; {problem.hint}")
    if as_json:
        print_json(_as_data(configured))
    else:
        print_text(_as_text(configured))


def _as_data(configured: Configuration) -> dict[str, object]:
    return {
        "schema": "nnkit.config/1",
        "nnkit": __version__,
        "settings": [
            {
                "name": _setting_name(name),
                "value": getattr(configured, name),
                "source": configured.source(name).kind,
                "place": configured.source(name).place or None,
            }
            for name in SETTINGS
        ],
        "files": _files(configured),
        "problems": [problem.message for problem in configured.problems],
    }


def _as_text(configured: Configuration) -> str:
    from nnkit.render.table import Table, to_plain

    rows = []
    for name in SETTINGS:
        source = configured.source(name)
        rows.append(
            (_setting_name(name), _format_value(getattr(configured, name)), source.place or source.kind)
        )
    files = [f"{kind} file: {path or 'none'}" for kind, path in _files(configured).items()]
    return "\n".join([to_plain(Table(("setting", "value", "from"), rows)), "", *files])


def _files(configured: Configuration) -> dict[str, str | None]:
    """Return the files that were read; None for one that doesn't exist."""
    return {"project": None, "user": None} | {source.kind: source.place for source in configured.files}


def _setting_name(name: str) -> str:
    return name.replace("_", "-")


def _format_value(value: tuple[str, ...] | str | None) -> str:
    if value is None:
        return "all"
    return value if isinstance(value, str) else ", ".join(value) or "none"
