"""`nnkit plugins freeze`."""

from pathlib import Path

import click

from nnkit.cli.command import Command
from nnkit.cli.output import print_text
from nnkit.cli.plugins.install import take
from nnkit.cli.settings import Settings, settings_options
from nnkit.errors import UsageProblem
from nnkit.host.installing.distributions import plugin_distributions, requirement_of
from nnkit.host.installing.tools import Place
from nnkit.host.installing.wanted import requirements_in


@click.command("freeze", cls=Command)
@click.option(
    "--restore",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Install the requirements in FILE.",
)
@click.option("--dry-run", is_flag=True, help="With --restore: print the command without running it.")
@settings_options
@click.pass_context
def command(ctx: click.Context, restore: Path | None, dry_run: bool) -> None:
    """Print the installed plugins as requirements, to restore them after an upgrade or elsewhere.

    \b
    nnkit plugins freeze > plugins.txt
    nnkit plugins freeze --restore plugins.txt
    """
    if restore is None:
        if dry_run:
            raise UsageProblem("--dry-run needs --restore FILE", "see: nnkit plugins freeze --help")
        for distribution in plugin_distributions().values():
            print_text(requirement_of(distribution))
        return
    requirements = requirements_in(restore)
    if not requirements:
        ctx.ensure_object(Settings).note(f"{restore} has no requirements")
        return
    step = Place.here().install([str(restore)], "file")
    take(ctx.ensure_object(Settings), step, requirements, dry_run)
