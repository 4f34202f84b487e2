"""The part of `nnkit smoke-run` that takes several models: its options, and how the results are shown."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from nnkit.cli.architecture_help import flag_of
from nnkit.cli.command import Decorator, Sections, add_options
from nnkit.cli.completers import complete_executor
from nnkit.cli.installed import installed_plugins
from nnkit.cli.options import ArchitectureCommand, size_options
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings
from nnkit.cli.state import state_of
from nnkit.contract.byte_sizes import parse_size
from nnkit.contract.contributions import CORE_EXECUTOR
from nnkit.contract.spec import AS_BUILT
from nnkit.contract.text import plural
from nnkit.errors import NnkitError, UsageProblem, VerificationFailed
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.sweep.report import NOT_RUN, ModelResult, SweepReport, SweepStopped
from nnkit.verbs.sweep.tasks import is_pattern

ONE_MODEL_OPTIONS = {
    "preset": "--preset",
    "weights": "--weights",
    "key": "--key",
    "strip_prefix": "--strip-prefix",
    "strict": "--strict",
    "with_": "--with",
    "without": "--without",
    "inputs": "--input",
    "declarations": "--declare",
}


class SweepCommand(ArchitectureCommand):
    """Also takes --all, patterns and several architectures; the sizes of all of them are then its options."""

    def find_reference(self, ctx: click.Context, args: Sequence[str]) -> str | None:
        """Return the one reference; None for several models, which is kept in the state."""
        positional, doubtful = self.split_words(args)
        has_pattern = any(map(is_pattern, (*positional, *doubtful)))
        if "--all" in args or len(positional) > 1 or has_pattern:
            state = state_of(ctx)
            state.many_models = True
            if any(map(plugin_manager().is_member, (*positional, *doubtful))):
                # Which sizes there are is known when the zoo has been asked for each model, not yet.
                state.sizes = _typed_names(args)
            return None
        return super().find_reference(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        parameters = super().get_params(ctx)
        if not state_of(ctx).many_models:
            return parameters
        references = click.Argument(["reference"], nargs=-1, metavar="[ARCH|PATTERN] …")
        parameters = [
            references if parameter.name == references.name else parameter for parameter in parameters
        ]
        manager = plugin_manager()
        manager.check_all()
        architectures = manager.architectures().values()
        dims = {dim for architecture in architectures for dim in architecture.dims}
        known = {flag for parameter in parameters for flag in (*parameter.opts, *parameter.secondary_opts)}
        dims |= {name for name in state_of(ctx).sizes if flag_of(name) not in known}
        return [*parameters, *size_options(sorted(dims), kind=int)]


def _typed_names(args: Sequence[str]) -> frozenset[str]:
    """Return the names of the options that are typed: `--height 64` -> height."""
    typed = (re.fullmatch(r"--([a-z][\w-]*)(=.*)?", word) for word in args)
    return frozenset(match[1].replace("-", "_") for match in typed if match)


@dataclass(frozen=True)
class SweepOptions:
    """The options for several models; None or False for those that weren't typed."""

    everything: bool
    results: Path | None
    shard: tuple[int, int] | None
    time_limit: float | None
    memory_limit: int | None
    jobs: int | None
    executor: str | None

    def refuse(self, parallel: bool) -> None:
        """Raise UsageProblem if one of them was typed with a single model.

        parallel: the model runs in several processes, which have a time limit too.
        """
        for name, value in vars(self).items():
            if value not in (None, False) and not (parallel and name == "time_limit"):
                raise UsageProblem(
                    f"--{name.replace('_', '-')} is for several models",
                    "name several, or a pattern such as 'res*', or add --all",
                )


def _parse_shard(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UsageProblem(
            f"can't read --shard {value!r}", "for example, for the first of three parts: --shard 1/3"
        )
    return part, parts


def _parse_bytes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else parse_size(value)


SWEEP_OPTIONS: Sequence[Decorator] = (
    click.option("--all", "everything", is_flag=True, help="Run every installed architecture."),
    click.option(
        "--results",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Append each result to FILE; a rerun skips the models in it.",
    ),
    click.option("--shard", callback=_parse_shard, metavar="I/N", help="Run only part I of N."),
    click.option(
        "--time-limit",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Stop a model that takes longer. [default: 600; with --nproc: 120]",
    ),
    click.option(
        "--memory-limit",
        callback=_parse_bytes,
        metavar="SIZE",
        help="Stop a model that takes more memory, such as 8GB.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Run N models at once. [default: 1, or the executor's choice]",
    ),
    click.option(
        "--executor",
        metavar="NAME",
        shell_complete=complete_executor,
        help="Where to run them; plugins may add executors. [default: local]",
    ),
)
SWEEP_SECTION: Sections = {
    "Options for several models": (
        "everything",
        "results",
        "shard",
        "time_limit",
        "memory_limit",
        "jobs",
        "executor",
    )
}


def sweep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for several models; the function gets them as SweepOptions."""

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

    return add_options(with_options, SWEEP_OPTIONS)


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
    """Run the models that were named and show the results.

    Raises VerificationFailed if a check failed, and NnkitError if a model couldn't be run.
    """
    from nnkit import api
    from nnkit.render.sweep import as_line
    from nnkit.verbs.exporting.files import check_folder
    from nnkit.verbs.sweep.handler import TIME_LIMIT

    settings = ctx.ensure_object(Settings)
    installed_plugins(settings)
    patterns: tuple[str, ...] = ctx.params["reference"]
    _refuse_contradictions(ctx, many, patterns)
    if junit is not None:
        check_folder(junit)  # now rather than after an hour

    def report_result(result: ModelResult, number: int, planned: int) -> None:
        settings.note(as_line(result, number, planned))
        settings.progress(f"{number} of {plural(planned, 'model')} done", number / planned)

    try:
        report = api.smoke_sweep(
            *patterns,
            device=device,
            checks=checks or None,
            full=full,
            compiled=compiled,
            seed=ctx.params["seed"] or 0,
            dtype=ctx.params["dtype"] or AS_BUILT,
            sizes=state_of(ctx).options,
            results=many.results,
            shard=many.shard or (1, 1),
            time_limit=many.time_limit or TIME_LIMIT,
            memory_limit=many.memory_limit,
            jobs=many.jobs,
            executor=many.executor or CORE_EXECUTOR,
            finished=report_result,
        )
    except SweepStopped as stopped:
        if stopped.report.models:
            _show(settings, stopped.report, junit, as_json)
        raise
    _show(settings, report, junit, as_json)
    _raise_for(report)


def _refuse_contradictions(ctx: click.Context, many: SweepOptions, patterns: tuple[str, ...]) -> None:
    if many.everything and patterns:
        raise UsageProblem(f"--all and {patterns[0]} don't go together", "use one of them")
    for name, flag in ONE_MODEL_OPTIONS.items():
        if ctx.params[name] not in (None, ()):
            raise UsageProblem(f"{flag} is for one model", "name only one model")


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
    broken = [model for model in report.models if model.status in NOT_RUN]
    failed = [model for model in report.models if model.status == "failed"]
    problems = []
    if broken:
        problems.append(f"{len(broken)} of {report.planned} models could not be run")
    if failed:
        problems.append(f"{len(failed)} of {report.planned} models failed a check")
    if problems:
        error = NnkitError if broken else VerificationFailed
        raise error(", ".join(problems), f"rerun one: {(broken or failed)[0].command}")
