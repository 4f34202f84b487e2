"""`nnkit smoke-run ARCH`."""

import click

from nnkit import api
from nnkit.cli.options import ArchitectureCommand, architecture_options
from nnkit.cli.output import print_json
from nnkit.cli.settings import Settings, settings_options
from nnkit.errors import VerificationFailed
from nnkit.spec import ModelSpec


@click.command("smoke-run", cls=ArchitectureCommand)
@architecture_options
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    help="cpu, cuda, cuda:1, mps, xpu, or auto for the best there is.",
)
@click.option(
    "--check", "checks", multiple=True, metavar="NAME", help="Run this check alone; may be repeated."
)
@click.option("--full", is_flag=True, help="Run the checks that take long, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context, device: str, checks: tuple[str, ...], full: bool, as_json: bool, spec: ModelSpec
) -> None:
    """Run a model on a device, forward, backward and one optimiser step, and check how it behaves.

    \b
    nnkit smoke-run resnet18 --device cuda
    nnkit smoke-run gcn --preset karate --check gradients
    """
    from nnkit.render.smoke import as_text

    settings = ctx.ensure_object(Settings)
    report = api.smoke_run(spec, device=device, checks=checks or None, full=full, progress=settings.progress)
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(as_text(report, settings.use_color), color=settings.use_color)
    failed = [check.name for check in report.checks if check.status == "failed"]
    if failed:
        raise VerificationFailed(
            f"{len(failed)} of {len(report.checks)} checks failed: {', '.join(failed)}",
            f"repeat one alone: {ctx.command_path} {ctx.params['reference']} --check {failed[0]}",
        )
