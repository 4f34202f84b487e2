"""`nnkit plugins install NAME|PATH`."""

from collections.abc import Sequence

import click

from nnkit.cli.output import print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.errors import UsageProblem
from nnkit.host.installing.brought import check_installed, raise_problems
from nnkit.host.installing.tools import Place, Step
from nnkit.host.installing.wanted import prefixed, want


@click.command("install")
@click.argument("what", metavar="NAME|PATH...", nargs=-1)
@click.option(
    "-e", "--editable", is_flag=True, help="A folder that stays where it is: what you edit is in use."
)
@click.option("--dry-run", is_flag=True, help="Print the command, and run nothing.")
@settings_options
@click.pass_context
def command(ctx: click.Context, what: tuple[str, ...], editable: bool, dry_run: bool) -> None:
    """Install plugins with the tool that made this environment, and tell what they bring.

    \b
    nnkit plugins install nnkit-mine          from the index; the name is asked for as you type it
    nnkit plugins install ./nnkit-mine        a folder, a wheel, or a URL
    nnkit plugins install -e ./nnkit-mine

    One that is installed and is no plugin, or whose plugin fails, stays installed: exit code 3.
    """
    if not what:
        raise UsageProblem("nothing to install was named", "for example: nnkit plugins install nnkit-mine")
    requirements = want(what, editable)
    step = Place.here().install(requirements, "editable" if editable else "name")
    take(ctx.ensure_object(Settings), step, requirements, dry_run)


def take(settings: Settings, step: Step, requirements: Sequence[str], dry_run: bool) -> None:
    """Run a command that installs, or print it alone, and print what it brought."""
    if dry_run:
        print_text(str(step))
        return
    settings.progress(str(step))
    step.run(prefixed(requirements))
    brought = check_installed(requirements)
    for each in brought:
        for line in each.lines:
            print_text(line)
    raise_problems(brought)
