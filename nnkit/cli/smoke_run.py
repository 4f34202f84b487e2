"""`nnkit smoke-run ARCH`."""

from pathlib import Path

import click

from nnkit import api
from nnkit.cli.completers import complete_check, complete_device
from nnkit.cli.options import architecture_options
from nnkit.cli.output import print_json
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.sweep import SweepCommand, SweepOptions, run_many, sweep_options
from nnkit.errors import VerificationFailed
from nnkit.spec import ModelSpec


@click.command("smoke-run", cls=SweepCommand)
@architecture_options
@sweep_options
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    shell_complete=complete_device,
    help="cpu, cuda, cuda:1, mps, xpu, or auto for the best there is.",
)
@click.option(
    "--check",
    "checks",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_check,
    help="Run this check alone; may be repeated.",
)
@click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the results for a CI system, too."
)
@click.option("--full", is_flag=True, help="Run the checks that take long, too.")
@click.option("--compile", "compiled", is_flag=True, help="Check what torch.compile makes of the model.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    device: str,
    checks: tuple[str, ...],
    junit: Path | None,
    full: bool,
    compiled: bool,
    as_json: bool,
    many: SweepOptions,
    spec: ModelSpec | None,
) -> None:
    """Run a model on a device, forward, backward and one optimiser step, and check how it behaves.

    \b
    nnkit smoke-run resnet18 --device cuda
    nnkit smoke-run gcn --preset karate --check gradients
    nnkit smoke-run --all --results zoo.jsonl --memory-limit 8GB
    nnkit smoke-run "res*" "graph/*" --batch 2 --shard 1/3

    Of many models, each runs in a process of its own.
    """
    if spec is None:
        run_many(
            ctx, many, device=device, checks=checks, full=full, compiled=compiled, junit=junit,
            as_json=as_json,
        )  # fmt: skip
        return
    many.refuse()
    from nnkit.exporting.files import staged
    from nnkit.render.junit import as_junit
    from nnkit.render.smoke import as_text

    settings = ctx.ensure_object(Settings)
    report = api.smoke_run(
        spec, device=device, checks=checks or None, full=full, compile=compiled, progress=settings.progress
    )
    if junit is not None:
        with staged(junit, force=True) as file:
            file.write_text(as_junit(report), encoding="utf-8")
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(as_text(report, settings.use_color), color=settings.use_color)
    failed = [check for check in report.checks if check.status == "failed"]
    if failed:
        names = ", ".join(check.name for check in failed)
        raise VerificationFailed(
            f"{len(failed)} of {len(report.checks)} checks failed: {names}",
            f"repeat one alone: {failed[0].repeat}",
        )
