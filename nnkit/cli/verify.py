"""`nnkit verify FILE`."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import click

from nnkit.cli.completers import complete_architecture, complete_file
from nnkit.cli.options import ArchitectureCommand, architecture_options
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.user_code import values_of
from nnkit.contract.spec import ModelSpec


class VerifyCommand(ArchitectureCommand):
    """Takes the options of the model to compare with: that of --against, else the one named in the file."""

    def take_reference(self, ctx: click.Context, text: str, args: Sequence[str]) -> None:
        """Look up the model to compare the file with."""
        against = values_of("--against", args)
        super().take_reference(ctx, against[0] if against else text, args)


@click.command("verify", cls=VerifyCommand)
@architecture_options(argument="FILE", complete=complete_file)
@click.option(
    "--against",
    metavar="ARCH",
    shell_complete=complete_architecture,
    help="Model to compare with. [default: the one named in the file]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
@click.pass_context
def command(ctx: click.Context, against: str | None, as_json: bool, spec: ModelSpec) -> None:
    """Repeat the proof for a file that nnkit wrote, or check anyone's file against a model.

    \b
    nnkit verify gcn.onnx
    nnkit verify theirs.onnx --against resnet18 --weights theirs.safetensors
    nnkit verify mine.onnx --against file.py:Net --input "x: float32[batch, 3]"
    """
    from nnkit import api
    from nnkit.render.export import as_text

    settings = ctx.ensure_object(Settings)
    file = Path(ctx.params["reference"])
    named = against is not None or ctx.params["weights"] is not None
    with redirect_stdout(sys.stderr):  # what a model prints
        report = api.verify(file, spec, named=named, progress=settings.progress)
    if as_json:
        print_json(report.to_dict())
    else:
        print_text(as_text(report))
