"""`nnkit doctor`."""

import click

from nnkit.cli.command import Command
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options


@click.command("doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Print versions, devices, memory and broken packages, to paste into a bug report.

    \b
    nnkit doctor
    nnkit doctor --json

    Each optional package is imported in its own process, which takes a few seconds.
    """
    from nnkit.render.doctor import as_text
    from nnkit.verbs.diagnosis import diagnose

    ctx.ensure_object(Settings).progress("importing the optional packages")
    diagnosis = diagnose()
    if as_json:
        print_json(diagnosis.to_dict())
    else:
        print_text(as_text(diagnosis))
