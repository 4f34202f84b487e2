"""`nnkit plugins new NAME`."""

import re
from collections.abc import Sequence
from pathlib import Path

import click

from nnkit.cli.command import Command
from nnkit.cli.output import print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.errors import UsageProblem
from nnkit.verbs.core_handlers import plugin_manager


@click.command("new", cls=Command)
@click.argument("name")
@click.option(
    "--architecture", metavar="NAME", help="Name of its architecture: lower-case words and hyphens."
)
@click.option("--from", "code", metavar="FILE.py:CLASS", help="Start from a module of your own.")
@click.option(
    "--input",
    "inputs",
    metavar="DECLARATION",
    multiple=True,
    help='With --from: declare an input, as in "x: float32[batch, 3, 32, 32]" (repeatable).',
)
@click.option(
    "--set",
    "chosen",
    metavar="NAME=VALUE",
    multiple=True,
    help="With --from: the default of an option, for a parameter of the class (repeatable).",
)
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    architecture: str | None,
    code: str | None,
    inputs: tuple[str, ...],
    chosen: tuple[str, ...],
) -> None:
    """Create a plugin in a new folder: complete, installable, with passing tests.

    \b
    nnkit plugins new mine --architecture my-net        ./nnkit-mine
    nnkit plugins new mine --from net.py:Net --input "x: float32[batch, 3]"
    """
    from nnkit.authoring.scaffold.names import choose_names
    from nnkit.authoring.scaffold.project import fresh_project, refuse_existing, write_project

    settings = ctx.ensure_object(Settings)
    if inputs and not code:
        raise UsageProblem("--input needs --from FILE.py:CLASS", "see: nnkit plugins new --help")
    if chosen and not code:
        raise UsageProblem("--set needs --from FILE.py:CLASS", "see: nnkit plugins new --help")
    manager = plugin_manager()
    names = choose_names(name, architecture or _architecture_of(code), manager)
    folder = Path(names.distribution)
    refuse_existing(folder)
    notes: list[str] = []
    if code:
        from nnkit.authoring.scaffold.from_code import project_of_code

        settings.progress(f"running {code}")
        project = project_of_code(names, code, inputs, _read_chosen(chosen), manager)
        files, notes = project.files, project.notes
    else:
        files = fresh_project(names)
    write_project(folder, files)
    for path in sorted(files):
        print_text(str(folder / path))
    for note in notes:
        settings.note(f"note: {note}")
    settings.note(f"next: nnkit plugins install -e ./{folder} && nnkit summary {names.architecture}")


def _read_chosen(texts: Sequence[str]) -> dict[str, str]:
    """Return what was typed as `--set width=8` by name."""
    chosen = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageProblem(f"--set takes NAME=VALUE, got {text!r}", "for example: --set width=8")
        chosen[name.strip().replace("-", "_")] = value.strip()
    return chosen


def _architecture_of(code: str | None) -> str:
    """Return the name of the architecture for `file.py:MyNet`: `my-net`."""
    if not code:
        raise UsageProblem("the plugin's architecture needs a name", "for example: --architecture my-net")
    if ":" not in code:
        from nnkit.models.user_modules import name_only_module

        code = name_only_module(code)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", code.rpartition(":")[2])
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
