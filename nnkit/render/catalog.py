"""CatalogReport -> a table, CSV, and what has to be said about it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nnkit.contract.text import format_amount, format_bytes
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.render.table import Table, terminal_width, to_csv, to_plain, to_terminal
from nnkit.verbs.catalog.selection import FIGURES, CatalogReport, Entry

UNKNOWN = "?"
OUTDATED = "~"


class Column(NamedTuple):
    """A column: the field of CatalogRow that it shows, and its heading."""

    field: str
    heading: str


COLUMNS = {
    "name": Column("name", "name"),
    "family": Column("family", "family"),
    "task": Column("task", "task"),
    "params": Column("parameters", "params"),
    "macs": Column("macs", "MACs"),
    "activations": Column("activations", "acts"),
    "training": Column("training", "training"),
    "input": Column("input", "input"),
    "sizes": Column("sizes", "sizes"),
    "weights": Column("pretrained", "weights"),
    "method": Column("method", "method"),
    "version": Column("version", "version"),
}
USUAL = ("name", "params", "macs", "activations", "input")
NUMBERS = frozenset(column.heading for column in COLUMNS.values() if column.field in FIGURES)


def parse_columns(text: str) -> tuple[str, ...]:
    """Return the columns of `name,macs`, or all of them. Raises UsageProblem for an unknown one."""
    if text == "all":
        return tuple(COLUMNS)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in COLUMNS:
            offered = f"the columns are {', '.join(COLUMNS)}, or all"
            raise UsageProblem(f"unknown column {name!r}", did_you_mean(name, COLUMNS) or offered)
    return names or USUAL


def as_text(report: CatalogReport, columns: Sequence[str], terminal: bool, color: bool) -> str:
    """Return a table; on a terminal that is too narrow for it, columns are left out."""
    headings = tuple(COLUMNS[name].heading for name in columns)
    rows = [tuple(_cell(entry, COLUMNS[name].field) for name in columns) for entry in report.entries]
    longest = max((len(entry.name) for entry in report.entries), default=0)
    table = Table(headings, rows, NUMBERS, least=longest)
    text = to_plain(table)
    is_too_wide = max(map(len, text.splitlines())) > terminal_width()
    return to_terminal(table, color) if terminal and is_too_wide else text


def _cell(entry: Entry, field: str) -> str:
    if field == "name":
        return entry.name
    mark = OUTDATED if entry.state == "outdated" else ""
    if field in FIGURES:
        figure = entry.figure(field)
        if figure is None:
            return UNKNOWN
        return mark + (format_bytes if field == "training" else format_amount)(figure)
    value = getattr(entry.row, field)
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return mark + value if field == "version" else str(value)


def as_csv(report: CatalogReport, columns: Sequence[str]) -> str:
    """Return CSV with exact figures; what isn't known is empty."""
    fields = [COLUMNS[name].field for name in columns]
    headings = (*columns, "state")
    rows = [(*(_plain_cell(entry, field) for field in fields), entry.state) for entry in report.entries]
    return to_csv(Table(headings, rows))


def _plain_cell(entry: Entry, field: str) -> str:
    if field == "name":
        return entry.name
    value: Any = entry.figure(field) if field in FIGURES else getattr(entry.row, field)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def notes_on(report: CatalogReport) -> Iterator[str]:
    """Yield what a reader of the table has to know."""
    hidden = report.found - len(report.entries)
    if hidden:
        yield f"{hidden:,} more fit; show them: --limit {report.found}"
    if report.unknown:
        unknown = _list_unknown(report.unknown)
        yield f"not known, so left out: {unknown}; without these options they are listed"
    for prefix, (measured, installed) in report.outdated.items():
        known = f"{OUTDATED} is for {prefix} {measured}, but {installed} is installed"
        yield f"{known}; measure it: nnkit list --refresh {prefix}/"
    for prefix, install in report.absent.items():
        yield f"{prefix}/ isn't installed; to build one of these: {install}"


def _list_unknown(unknown: Mapping[str, int]) -> str:
    headings = {column.field: column.heading for column in COLUMNS.values()}
    return ", ".join(f"{headings.get(name, name)} ({count:,})" for name, count in unknown.items())
