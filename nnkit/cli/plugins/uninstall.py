"""`nnkit plugins uninstall NAME`."""

import sys

import click

from nnkit.cli.command import Command
from nnkit.cli.output import print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.errors import NnkitError, UsageProblem
from nnkit.host.installing.tools import Place
from nnkit.host.installing.wanted import removable


@click.command("uninstall", cls=Command)
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Don't ask for confirmation.")
@click.option("--dry-run", is_flag=True, help="Print the command without running it.")
@settings_options
@click.pass_context
def command(ctx: click.Context, name: str, yes: bool, dry_run: bool) -> None:
    """Uninstall the distribution NAME, or the one with the plugin NAME, even if it is broken.

    \b
    nnkit plugins uninstall nnkit-mine
    """
    settings = ctx.ensure_object(Settings)
    distribution = removable(name)
    step = Place.here().uninstall(distribution)
    if dry_run:
        print_text(str(step))
        return
    if not yes and not step.reason:
        _ask(distribution)
    settings.progress(str(step))
    step.run()
    print_text(f"removed {distribution}")


def _ask(distribution: str) -> None:
    if not sys.stdin.isatty():
        raise UsageProblem(
            f"can't ask whether to remove {distribution}: stdin is not a terminal", "confirm with -y"
        )
    if not click.confirm(f"Remove {distribution}?", err=True):
        raise NnkitError(f"{distribution} was not removed", "to remove it, answer y or add -y")
