"""`nnkit smoke-run ARCH`."""

from pathlib import Path

import click

from nnkit import api
from nnkit.cli.options import ArchitectureCommand, architecture_options
from nnkit.cli.output import print_json
from nnkit.cli.settings import Settings, settings_options
from nnkit.errors import UsageProblem, VerificationFailed
from nnkit.parallel.world import world_around
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
@click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the results for a CI system, too."
)
@click.option("--full", is_flag=True, help="Run the checks that take long, too.")
@click.option(
    "--nproc", type=int, metavar="N", help="Prove instead that it trains over N processes as in one."
)
@click.option(
    "--parallel",
    metavar="HOW",
    help="By ddp, fsdp or tp; without --nproc, as a rank that torchrun started. [default: ddp]",
)
@click.option("--time-limit", type=float, metavar="SECONDS", help="Of all of them. [default: 120]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    device: str,
    checks: tuple[str, ...],
    junit: Path | None,
    full: bool,
    nproc: int | None,
    parallel: str | None,
    time_limit: float | None,
    as_json: bool,
    spec: ModelSpec,
) -> None:
    """Run a model on a device, forward, backward and one optimiser step, and check how it behaves.

    \b
    nnkit smoke-run resnet18 --device cuda
    nnkit smoke-run gcn --preset karate --check gradients
    nnkit smoke-run resnet18 --nproc 2 --parallel fsdp
    """
    from nnkit.exporting.files import staged
    from nnkit.render.junit import as_junit
    from nnkit.render.smoke import as_text

    if time_limit is not None and nproc is None and parallel is None:
        raise UsageProblem("--time-limit is for many processes", "say how many: --nproc 2")
    settings = ctx.ensure_object(Settings)
    report = api.smoke_run(
        spec, device=device, checks=checks or None, full=full, processes=nproc, parallel=parallel,
        time_limit=time_limit, progress=settings.progress,
    )  # fmt: skip
    if parallel and (world := world_around()) and not world.leads:
        return  # rank 0 speaks for all
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
