"""`nnkit smoke-run ARCH`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nnkit.cli.completers import complete_check
from nnkit.cli.options import EXISTING_DEVICE, architecture_options, device_option
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.sweep import SWEEP_SECTION, SweepCommand, SweepOptions, run_many, sweep_options
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, UsageProblem, VerificationFailed
from nnkit.render.table import terminal_width
from nnkit.verbs.parallel.world import world_around

if TYPE_CHECKING:
    from nnkit.verbs.smoke.report import SmokeReport


@click.command("smoke-run", cls=SweepCommand, sections=SWEEP_SECTION)
@architecture_options
@sweep_options
@device_option(f"{EXISTING_DEVICE} [default: cpu]", default=None)
@click.option("--simulate", metavar="KIND", help="Check only device placement, on a fake cuda, xpu or mps.")
@click.option(
    "--check",
    "checks",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_check,
    help="Run only this check (repeatable).",
)
@click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Also write the results as JUnit XML."
)
@click.option("--full", is_flag=True, help="Also run the slow checks.")
@click.option("--compile", "compiled", is_flag=True, help="Check the model compiled with torch.compile.")
@click.option(
    "--nproc", type=int, metavar="N", help="Instead, check that training over N processes matches one."
)
@click.option(
    "--parallel",
    metavar="HOW",
    help="With --nproc, or as a rank that torchrun started: ddp, fsdp or tp. [default: ddp]",
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
    """Run a model on a device and check that it works and trains.

    \b
    nnkit smoke-run resnet18 --device cuda
    nnkit smoke-run gcn --preset karate --check gradients
    nnkit smoke-run resnet18 --simulate cuda
    nnkit smoke-run resnet18 --nproc 2 --parallel fsdp
    nnkit smoke-run --all --results zoo.jsonl --memory-limit 8GB
    nnkit smoke-run "res*" "graph/*" --batch 2 --shard 1/3

    The checks cover forward, backward, an optimizer step and how the outputs depend on the inputs. With
    several models, each runs in its own process.
    """
    from nnkit import api

    if simulate and device:
        raise UsageProblem("--device and --simulate don't go together", "use one of them")
    device = device or "cpu"
    if spec is None:
        _refuse_one_model_options({"--simulate": simulate, "--nproc": nproc, "--parallel": parallel})
        run_many(
            ctx,
            many,
            device=device,
            checks=checks,
            full=full,
            compiled=compiled,
            junit=junit,
            as_json=as_json,
        )
        return
    many.refuse(parallel=nproc is not None or parallel is not None)
    settings = ctx.ensure_object(Settings)
    shown = _Shown(settings, as_json)
    try:
        report = api.smoke_run(
            spec,
            device=device,
            simulate=simulate,
            checks=checks or None,
            full=full,
            compiled=compiled,
            processes=nproc,
            parallel=parallel,
            time_limit=many.time_limit,
            progress=shown.begin,
            finished=shown.add,
        )
    except KeyboardInterrupt as interrupt:
        if shown.report is None:
            raise
        shown.complete(shown.report, junit)
        raise _interrupted(shown.report) from interrupt
    if parallel and (world := world_around()) and not world.leads:
        return  # rank 0 reports for all
    shown.complete(report, junit)
    _raise_for(report)


class _Shown:
    """What of a report is on the terminal already, where each check is printed as it ends.

    report: the checks that have ended; None before the first.
    """

    def __init__(self, settings: Settings, as_json: bool) -> None:
        self._settings, self._as_json = settings, as_json
        self._prints_at_once = settings.on_terminal and not as_json
        self._columns = terminal_width() if settings.on_terminal else None
        self._printed = 0  # checks
        self.report: SmokeReport | None = None

    def begin(self, line: str) -> None:
        """Show what is being done, and how much of it is done."""
        share = None
        if self.report:
            done = len(self.report.checks)
            share = done / (done + len(self.report.not_run))
        self._settings.progress(line, share)

    def add(self, report: "SmokeReport") -> None:
        """Take the report with one check more; skipped ones wait for those that share their reason."""
        from nnkit.render.smoke import heading

        if self._prints_at_once:
            if self.report is None:
                self._print(heading(report, self._columns))
            if report.checks[-1].status != "skipped":
                self._print_checks(report)
        self.report = report

    def _print_checks(self, report: "SmokeReport") -> None:
        from nnkit.render.smoke import lines_from

        self._print(lines_from(report, self._printed, self._settings.use_color, self._columns))
        self._printed = len(report.checks)

    def complete(self, report: "SmokeReport", junit: Path | None) -> None:
        """Write the JUnit file, and print what isn't on the terminal yet."""
        from nnkit.render.smoke import as_text, not_run
        from nnkit.verbs.exporting.files import staged

        if junit is not None:
            from nnkit.render.junit import as_junit

            with staged(junit, force=True) as file:
                file.write_text(as_junit(report), encoding="utf-8")
        if self._as_json:
            print_json(report.to_dict())
        elif self._prints_at_once and self.report:
            self._print_checks(report)
            self._print(not_run(report, self._settings.use_color, self._columns))
        else:
            self._print([as_text(report, self._settings.use_color, self._columns)])

    def _print(self, lines: list[str]) -> None:
        if lines:
            print_text("\n".join(lines), self._settings.use_color)


def _interrupted(report: "SmokeReport") -> NnkitError:
    """Return the error for Ctrl-C, with the command that runs the rest."""
    done, rest, last = len(report.checks), report.not_run, report.checks[-1]
    command = last.repeat.removesuffix(f"--check {last.name}") + " ".join(f"--check {name}" for name in rest)
    return NnkitError(f"interrupted; {done} of {done + len(rest)} checks done", f"run the rest: {command}")


def _refuse_one_model_options(options: dict[str, object]) -> None:
    for flag, value in options.items():
        if value is not None:
            raise UsageProblem(f"{flag} is for one model", "name only one model")


def _raise_for(report: "SmokeReport") -> None:
    """Raise VerificationFailed if a check failed."""
    failed = [check for check in report.checks if check.status == "failed"]
    if failed:
        names = ", ".join(check.name for check in failed)
        message = f"{len(failed)} of {len(report.checks)} checks failed: {names}"
        raise VerificationFailed(message, f"rerun one: {failed[0].repeat}")
