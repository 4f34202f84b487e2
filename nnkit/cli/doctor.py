"""`nnkit doctor`."""

import click

from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@settings_options
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Print versions, devices, memory, threads and what is broken, in one block to paste into an issue.

    \b
    nnkit doctor
    nnkit doctor --json

    Optional packages are tried, each in a process of its own, which takes some seconds.
    """
    from nnkit.render.doctor import as_text
    from nnkit.verbs.diagnosis import diagnose

    ctx.ensure_object(Settings).progress("trying the optional packages")
    diagnosis = diagnose()
    if as_json:
        print_json(diagnosis.to_dict())
    else:
        print_text(as_text(diagnosis))
