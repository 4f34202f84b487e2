"""`nnkit plugins install NAME|PATH`."""

from collections.abc import Sequence

import click

from nnkit.cli.command import Command
from nnkit.cli.output import print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.errors import UsageProblem
from nnkit.host.installing.brought import check_installed, raise_problems
from nnkit.host.installing.tools import Place, Step
from nnkit.host.installing.wanted import prefixed, want


@click.command("install", cls=Command)
@click.argument("what", metavar="NAME|PATH...", nargs=-1)
@click.option(
    "-e", "--editable", is_flag=True, help="Install a folder in place, so that your edits take effect."
)
@click.option("--dry-run", is_flag=True, help="Print the command without running it.")
@settings_options
@click.pass_context
def command(ctx: click.Context, what: tuple[str, ...], editable: bool, dry_run: bool) -> None:
    """Install plugins with the tool that made this environment, and show what they add.

    \b
    nnkit plugins install nnkit-mine      from the index, by this exact name
    nnkit plugins install ./nnkit-mine    a folder, a wheel or a URL
    nnkit plugins install -e ./nnkit-mine

    A package that isn't a plugin, or whose plugin fails, stays installed. The exit code is then 3.
    """
    if not what:
        raise UsageProblem("no plugin was named", "for example: nnkit plugins install nnkit-mine")
    requirements = want(what, editable)
    step = Place.here().install(requirements, "editable" if editable else "name")
    take(ctx.ensure_object(Settings), step, requirements, dry_run)


def take(settings: Settings, step: Step, requirements: Sequence[str], dry_run: bool) -> None:
    """Run an install command and print what it added, or only print the command."""
    if dry_run:
        print_text(str(step))
        return
    settings.progress(str(step))
    step.run(prefixed(requirements))
    brought = check_installed(requirements)
    for distribution in brought:
        for line in distribution.lines:
            print_text(line)
    raise_problems(brought)
