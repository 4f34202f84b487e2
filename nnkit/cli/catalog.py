"""The options of `nnkit list` about figures: which architectures to show, and measuring what isn't known."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnkit.cli.command import Decorator, Sections, add_options
from nnkit.cli.completers import beginning
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings
from nnkit.contract.byte_sizes import parse_count, parse_size
from nnkit.contract.text import format_amount, plural
from nnkit.errors import UsageProblem
from nnkit.host.plugin_manager import PluginManager

if TYPE_CHECKING:
    from nnkit.contract.catalog import CatalogRow

BOUNDS = {
    "min_params": ("least", "parameters"),
    "max_params": ("most", "parameters"),
    "min_macs": ("least", "macs"),
    "max_macs": ("most", "macs"),
    "min_activations": ("least", "activations"),
    "max_activations": ("most", "activations"),
    "trains_in": ("most", "training"),
}
"""The figure that an option bounds."""


@dataclass(frozen=True)
class CatalogOptions:
    """The options as typed; None, False or "" for those that weren't."""

    min_params: int | None
    max_params: int | None
    min_macs: int | None
    max_macs: int | None
    min_activations: int | None
    max_activations: int | None
    trains_in: int | None
    input: str
    family: str
    task: str
    has_weights: bool
    sort: str
    reverse: bool
    limit: int | None
    columns: str

    @property
    def typed(self) -> bool:
        """Whether any of them was typed."""
        return any(value not in (None, False, "") for value in vars(self).values())


@dataclass(frozen=True)
class RefreshOptions:
    """How to measure what isn't known."""

    refresh: bool
    output: Path | None
    quick: bool
    time_limit: float | None
    jobs: int | None

    def refuse(self) -> None:
        """Raise UsageProblem if one of them was typed without --refresh."""
        for name, value in vars(self).items():
            if value not in (None, False):
                raise UsageProblem(f"--{name.replace('_', '-')} is for --refresh", "add --refresh")


def _parse_count(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else parse_count(value)


def _parse_bytes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else parse_size(value)


def _complete_columns(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    from nnkit.render.catalog import COLUMNS

    before, comma, _ = incomplete.rpartition(",")
    return beginning(incomplete, [f"{before}{comma}{name}" for name in COLUMNS])


def _bound(flag: str, description: str) -> Decorator:
    return click.option(flag, callback=_parse_count, metavar="N", help=description)


FILTERS: Sequence[Decorator] = (
    _bound("--min-params", "At least N parameters, such as 10M."),
    _bound("--max-params", "At most N parameters."),
    _bound("--min-macs", "At least N multiply-adds for the default input, such as 1.5G."),
    _bound("--max-macs", "At most N multiply-adds."),
    _bound("--min-activations", "At least N elements in the results of products."),
    _bound("--max-activations", "At most N of these."),
    click.option(
        "--trains-in",
        callback=_parse_bytes,
        metavar="SIZE",
        help="A training step with Adam on the default input fits into SIZE, such as 16GB.",
    ),
    click.option(
        "--input", default="", metavar="SIZE", help="The default input has this size: 224, 3x224x224."
    ),
    click.option("--family", default="", metavar="TEXT", help="The family contains TEXT."),
    click.option("--task", default="", metavar="TEXT", help="The task contains TEXT."),
    click.option("--has-weights", is_flag=True, help="Weights are published."),
    click.option(
        "--sort", default="", metavar="COLUMN", shell_complete=_complete_columns, help="Sort by COLUMN."
    ),
    click.option("--reverse", is_flag=True, help="Largest first."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N."),
    click.option(
        "--columns",
        default="",
        metavar="NAMES",
        shell_complete=_complete_columns,
        help="Columns to show, comma-separated, or all.",
    ),
)
REFRESHING: Sequence[Decorator] = (
    click.option("--refresh", is_flag=True, help="Measure what isn't known about the installed versions."),
    click.option(
        "--output",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write a catalog to FILE. [default: your own, in the cache folder]",
    ),
    click.option(
        "--quick",
        is_flag=True,
        help="Only parameters, multiply-adds and activations. The rest takes most of the time.",
    ),
    click.option(
        "--time-limit",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Give up an architecture that takes longer. [default: 300]",
    ),
    click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Measure N at once. [default: 1]"),
)
CATALOG_SECTIONS: Sections = {
    "Which one fits": tuple(CatalogOptions.__dataclass_fields__),
    "Measuring": tuple(RefreshOptions.__dataclass_fields__),
}


def catalog_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options about figures; the function gets them as CatalogOptions and RefreshOptions."""

    @functools.wraps(function)
    def with_options(**typed: Any) -> Any:
        chosen = CatalogOptions(**{name: typed.pop(name) for name in CatalogOptions.__dataclass_fields__})
        refreshing = RefreshOptions(**{name: typed.pop(name) for name in RefreshOptions.__dataclass_fields__})
        return function(chosen=chosen, refreshing=refreshing, **typed)

    return add_options(with_options, (*FILTERS, *REFRESHING))


def show_figures(
    settings: Settings, manager: PluginManager, pattern: str, chosen: CatalogOptions, format: str
) -> bool:
    """Print the figures of the architectures that match; return whether any name matches the pattern."""
    from nnkit.render.catalog import COLUMNS, USUAL, as_csv, as_text, notes_on, parse_columns
    from nnkit.verbs.catalog.selection import Query, matching_names, select

    if not matching_names(manager, pattern):
        return False
    shown = list(parse_columns(chosen.columns)) if chosen.columns else []
    sort = parse_columns(chosen.sort)[0] if chosen.sort else "name"
    bounds: dict[str, dict[str, int]] = {"least": {}, "most": {}}
    for option, (side, figure) in BOUNDS.items():
        if (value := getattr(chosen, option)) is not None:
            bounds[side][figure] = value
    query = Query(
        pattern=pattern,
        **bounds,
        input=chosen.input,
        family=chosen.family,
        task=chosen.task,
        has_weights=chosen.has_weights,
        sort=COLUMNS[sort].field,
        reverse=chosen.reverse,
        limit=chosen.limit,
    )
    report = select(manager, query)
    if format == "json":
        print_json(report.to_dict())
    elif format == "csv":
        print_text(as_csv(report, shown or list(COLUMNS)))
    else:
        asked_for = [name for name in COLUMNS if _is_asked_for(name, sort, chosen)]
        columns = shown or [*USUAL, *(name for name in asked_for if name not in USUAL)]
        if report.entries:
            print_text(as_text(report, columns, settings.on_terminal, settings.use_color), settings.use_color)
        else:
            settings.note("no architecture has such figures")
        for note in notes_on(report):
            settings.note(note)
    return True


def _is_asked_for(column: str, sort: str, chosen: CatalogOptions) -> bool:
    """Whether an option is about a column, so that the table shows it."""
    typed = {"training": chosen.trains_in, "family": chosen.family, "task": chosen.task}
    return column == sort or bool(typed.get(column))


def refresh_figures(
    settings: Settings, manager: PluginManager, pattern: str, options: RefreshOptions
) -> bool:
    """Measure what isn't known of the architectures that match; return whether any name matches."""
    from nnkit.verbs.catalog.refreshing import TIME_LIMIT, RefreshRequest, refresh
    from nnkit.verbs.catalog.selection import matching_names

    names = matching_names(manager, pattern)
    if not names:
        return False

    def show(name: str, row: "CatalogRow", number: int, planned: int) -> None:
        figures = row.method
        if row.parameters is not None and row.macs is not None:
            figures = f"{format_amount(row.parameters)} parameters, {format_amount(row.macs)} MACs"
        settings.note(f"[{number}/{planned}] {name}: {figures}")
        settings.progress(f"{number} of {plural(planned, 'architecture')} measured", number / planned)

    request = RefreshRequest(
        manager=manager,
        names=tuple(names),
        output=options.output,
        quick=options.quick,
        time_limit=options.time_limit or TIME_LIMIT,
        jobs=options.jobs or 1,
        finished=show,
    )
    report = refresh(request)
    settings.note(f"{plural(report.known, 'architecture')} known before, {report.measured} measured now")
    if report.failed:
        settings.note(f"{len(report.failed)} without figures; the reasons: --columns name,method")
    return True
