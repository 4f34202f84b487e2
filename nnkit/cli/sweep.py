"""The part of `nnkit smoke-run` that takes many models: what is typed, and how it is shown."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from nnkit.cli.completers import complete_executor
from nnkit.cli.options import FILE, OPTIONS, ArchitectureCommand, installed_plugins, size_options
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings
from nnkit.contract.requests import CORE_EXECUTOR
from nnkit.contract.spec import AS_BUILT
from nnkit.errors import NnkitError, UsageProblem, VerificationFailed
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.sweep.report import NOT_RUN, ModelResult, SweepReport, SweepStopped
from nnkit.verbs.sweep.tasks import is_pattern

OF_ONE_MODEL = {"preset": "--preset", "weights": "--weights", "strict": "--strict", "inputs": "--input"}


class SweepCommand(ArchitectureCommand):
    """Takes --all, patterns and several architectures as well; the sizes of all of them are its options."""

    def find_reference(self, ctx: click.Context, args: Sequence[str]) -> str | None:
        """Return the one reference; None where there are many, and say so in the context."""
        sure, doubtful = self.words(args)
        if "--all" in args or len(sure) > 1 or any(map(is_pattern, (*sure, *doubtful))):
            ctx.meta[FILE] = "many models"
            return None
        return super().find_reference(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        if FILE not in ctx.meta:
            return params
        many = click.Argument(["reference"], nargs=-1, metavar="[ARCH|PATTERN] …")
        sizes = {name for each in plugin_manager().architectures().values() for name in each.dims}
        params = [many if each.name == many.name else each for each in params]
        return [*params, *size_options(sorted(sizes), kind=int)]


@dataclass(frozen=True)
class SweepOptions:
    """What concerns many models alone; None and False for what wasn't typed."""

    everything: bool
    results: Path | None
    shard: tuple[int, int] | None
    time_limit: float | None
    memory_limit: int | None
    jobs: int | None
    executor: str | None

    def refuse(self, parallel: bool) -> None:
        """Raise UsageProblem where one of them was typed beside the name of a single model.

        parallel: it runs in many processes, which have a time limit too.
        """
        for name, value in vars(self).items():
            if value not in (None, False) and not (parallel and name == "time_limit"):
                raise UsageProblem(
                    f"--{name.replace('_', '-')} is for many models",
                    "name several, or a pattern like 'res*', or all of them by --all",
                )


def _shard(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageProblem(
            f"can't read --shard {value!r}", "write it so, for the first of three: --shard 1/3"
        )
    return part, parts


def _bytes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    from nnkit.verbs.summary.fitting import parse_size

    return None if value is None else parse_size(value)


def sweep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what concerns many models; the function gets it as SweepOptions."""

    @functools.wraps(function)
    def with_options(
        everything: bool,
        results: Path | None,
        shard: tuple[int, int] | None,
        time_limit: float | None,
        memory_limit: int | None,
        jobs: int | None,
        executor: str | None,
        **own: Any,
    ) -> Any:
        many = SweepOptions(everything, results, shard, time_limit, memory_limit, jobs, executor)
        return function(many=many, **own)

    for decorate in (
        click.option("--executor", metavar="NAME", shell_complete=complete_executor,
                     help="Of many: where they run, as a plugin may add it. [default: local]"),
        click.option("--jobs", type=click.IntRange(min=1), metavar="N",
                     help="Of many: how many run at once. [default: 1, or as the executor has it]"),
        click.option("--memory-limit", callback=_bytes, metavar="SIZE",
                     help="Of many: end one that takes more, like 8GB."),
        click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
                     help="Of many: end one that takes longer. [default: 600; of --nproc: 120]"),
        click.option("--shard", callback=_shard, metavar="I/N",
                     help="Of many: run part I of N, on this machine of N."),
        click.option("--results", type=click.Path(path_type=Path), metavar="FILE",
                     help="Of many: add each result to FILE; a rerun leaves out what is in it."),
        click.option("--all", "everything", is_flag=True, help="Run every architecture there is."),
    ):  # fmt: skip
        with_options = decorate(with_options)
    return with_options


def run_many(
    ctx: click.Context,
    many: SweepOptions,
    *,
    device: str,
    checks: tuple[str, ...],
    full: bool,
    compiled: bool,
    junit: Path | None,
    as_json: bool,
) -> None:
    """Run the models that were named and show what became of them.

    Raises VerificationFailed where a check failed, and NnkitError where a model couldn't be run.
    """
    from nnkit import api
    from nnkit.render.sweep import as_line
    from nnkit.verbs.exporting.files import check_folder
    from nnkit.verbs.sweep.handler import TIME_LIMIT

    settings = ctx.ensure_object(Settings)
    installed_plugins(settings)
    patterns: tuple[str, ...] = ctx.params["reference"]
    if many.everything and patterns:
        raise UsageProblem(f"--all and {patterns[0]} can't both be", "leave one of them out")
    if junit is not None:
        check_folder(junit)  # not after an hour
    for name, flag in OF_ONE_MODEL.items():
        if ctx.params[name] not in (None, ()):
            raise UsageProblem(f"{flag} is for one model", "name one alone")

    def tell(result: ModelResult, number: int, planned: int) -> None:
        settings.note(as_line(result, number, planned))

    try:
        report = api.smoke_sweep(
            *patterns, device=device, checks=checks or None, full=full, compiled=compiled,
            seed=ctx.params["seed"] or 0, dtype=ctx.params["dtype"] or AS_BUILT, sizes=ctx.meta[OPTIONS],
            results=many.results,
            shard=many.shard or (1, 1), time_limit=many.time_limit or TIME_LIMIT,
            memory_limit=many.memory_limit, jobs=many.jobs, executor=many.executor or CORE_EXECUTOR,
            finished=tell,
        )  # fmt: skip
    except SweepStopped as stopped:
        if stopped.report.models:
            _show(settings, stopped.report, junit, as_json)
        raise
    _show(settings, report, junit, as_json)
    _raise_for(report)


def _show(settings: Settings, report: SweepReport, junit: Path | None, as_json: bool) -> None:
    from nnkit.render.junit import sweep_as_junit
    from nnkit.render.sweep import as_text
    from nnkit.verbs.exporting.files import staged

    if as_json:
        print_json(report.to_dict())
    else:
        print_text(as_text(report, settings.on_terminal, settings.use_color), settings.use_color)
    if junit is not None:
        with staged(junit, force=True) as file:
            file.write_text(sweep_as_junit(report), encoding="utf-8")


def _raise_for(report: SweepReport) -> None:
    bad = [model for model in report.models if model.status in NOT_RUN]
    failed = [model for model in report.models if model.status == "failed"]
    told = []
    if bad:
        told.append(f"{len(bad)} of {report.planned} models could not be run")
    if failed:
        told.append(f"{len(failed)} of {report.planned} models failed a check")
    if told:
        kind = NnkitError if bad else VerificationFailed
        raise kind(", ".join(told), f"repeat one alone: {(bad or failed)[0].command}")
