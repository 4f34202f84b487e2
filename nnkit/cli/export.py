"""`nnkit export ARCH`."""

from pathlib import Path

import click

from nnkit import api
from nnkit.cli.options import ArchitectureCommand, architecture_options
from nnkit.cli.output import print_json
from nnkit.cli.settings import Settings, settings_options
from nnkit.errors import UsageProblem
from nnkit.spec import ModelSpec


@click.command("export", cls=ArchitectureCommand)
@architecture_options
@click.option("--onnx", "kind", flag_value="onnx", help="Write ONNX, every dim dynamic under its own name.")
@click.option("--safetensors", "kind", flag_value="safetensors", help="Write the weights and the ModelSpec.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write. [default: ARCH.onnx or ARCH.safetensors, in this folder]",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--verify/--no-verify", default=True, help="Prove the file before it takes its place.")
@click.option("--opset", type=click.IntRange(min=1), help="Of the ONNX file; honoured or refused.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    kind: str | None,
    output: Path | None,
    force: bool,
    verify: bool,
    opset: int | None,
    as_json: bool,
    spec: ModelSpec,
) -> None:
    """Write a model to a file, and prove that the file is the model.

    \b
    nnkit export gcn --onnx
    nnkit export resnet18 --preset imagenet --safetensors -o weights.safetensors
    """
    from nnkit.render.export import as_text

    settings = ctx.ensure_object(Settings)
    kind = kind or (output.suffix.removeprefix(".") if output else None)
    if not kind:
        raise UsageProblem("which format?", "say --onnx or --safetensors")
    target = output or Path(f"{spec.architecture.name}.{kind}")
    report = api.export(
        spec, target, format=kind, force=force, verify=verify, opset=opset, progress=settings.progress
    )
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(as_text(report))
