"""`nnkit smoke-run ARCH`."""

from pathlib import Path

import click

from nnkit import api
from nnkit.cli.completers import complete_check, complete_device
from nnkit.cli.options import architecture_options
from nnkit.cli.output import print_json, print_text
from nnkit.cli.progress import progress_bar
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.sweep import SweepCommand, SweepOptions, run_many, sweep_options
from nnkit.contract.spec import ModelSpec
from nnkit.errors import UsageProblem, VerificationFailed
from nnkit.verbs.parallel.world import world_around


@click.command("smoke-run", cls=SweepCommand)
@architecture_options
@sweep_options
@click.option(
    "--device",
    show_default="cpu",
    metavar="DEVICE",
    shell_complete=complete_device,
    help="cpu, cuda, cuda:1, mps, xpu, or auto for the best there is.",
)
@click.option("--simulate", metavar="KIND", help="Check the placement alone, on a fake cuda, xpu or mps.")
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
@click.option(
    "--nproc", type=int, metavar="N", help="Prove instead that it trains over N processes as in one."
)
@click.option(
    "--parallel",
    metavar="HOW",
    help="By ddp, fsdp or tp; without --nproc, as a rank that torchrun started. [default: ddp]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    device: str | None,
    simulate: str | None,
    checks: tuple[str, ...],
    junit: Path | None,
    full: bool,
    compiled: bool,
    nproc: int | None,
    parallel: str | None,
    as_json: bool,
    many: SweepOptions,
    spec: ModelSpec | None,
) -> None:
    """Run a model on a device, forward, backward and one optimiser step, and check how it behaves.

    \b
    nnkit smoke-run resnet18 --device cuda
    nnkit smoke-run gcn --preset karate --check gradients
    nnkit smoke-run resnet18 --simulate cuda
    nnkit smoke-run resnet18 --nproc 2 --parallel fsdp
    nnkit smoke-run --all --results zoo.jsonl --memory-limit 8GB
    nnkit smoke-run "res*" "graph/*" --batch 2 --shard 1/3

    Of many models, each runs in a process of its own.
    """
    if simulate and device:
        raise UsageProblem("--device and --simulate don't go together", "give one of them")
    device = device or "cpu"
    if spec is None:
        for flag, value in (("--simulate", simulate), ("--nproc", nproc), ("--parallel", parallel)):
            if value is not None:
                raise UsageProblem(f"{flag} is for one model", "name one alone")
        run_many(
            ctx, many, device=device, checks=checks, full=full, compiled=compiled, junit=junit,
            as_json=as_json,
        )  # fmt: skip
        return
    many.refuse(parallel=nproc is not None or parallel is not None)
    from nnkit.render.junit import as_junit
    from nnkit.render.smoke import as_text
    from nnkit.verbs.exporting.files import staged

    settings = ctx.ensure_object(Settings)
    with progress_bar(settings) as progress:
        report = api.smoke_run(
            spec, device=device, simulate=simulate, checks=checks or None, full=full, compiled=compiled,
            processes=nproc, parallel=parallel, time_limit=many.time_limit, progress=progress,
        )  # fmt: skip
    if parallel and (world := world_around()) and not world.leads:
        return  # rank 0 speaks for all
    if junit is not None:
        with staged(junit, force=True) as file:
            file.write_text(as_junit(report), encoding="utf-8")
    if as_json:
        print_json(report.to_dict())
    else:
        print_text(as_text(report, settings.use_color), settings.use_color)
    failed = [check for check in report.checks if check.status == "failed"]
    if failed:
        names = ", ".join(check.name for check in failed)
        raise VerificationFailed(
            f"{len(failed)} of {len(report.checks)} checks failed: {names}",
            f"repeat one alone: {failed[0].repeat}",
        )
