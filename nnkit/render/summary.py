"""SummaryReport -> text, CSV, Markdown, LaTeX, HTML."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from nnkit.contract.json_text import json_pieces, json_text
from nnkit.contract.text import fold_names
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.render.document import Document
from nnkit.render.dtypes import describe_dtypes
from nnkit.render.folding import FoldedRow, fold, keep_all
from nnkit.render.summary_columns import COLUMNS, FIELDS, Column, format_value
from nnkit.render.summary_totals import total_lines
from nnkit.render.table import Table, to_csv
from nnkit.verbs.summary.report import Row, SummaryReport

STANDARD = ("type", "shape", "params", "macs")
TRAINING = ("flops", "saved", "peak")
"""The columns that need a training step to be estimated."""

KEPT_TEXTS = 1000  # of rows that may come again, as in a loop
LONGEST_NAME = 24  # characters of the name of an input or output, which a narrow terminal doesn't cut


def as_text(
    report: SummaryReport,
    columns: Sequence[str] = STANDARD,
    unfold: bool = False,
    terminal: bool = False,
    color: bool = False,
) -> str:
    """Return the table and the totals; on a terminal the table is drawn, and fits its width."""
    return _document(report, columns, unfold).as_text(terminal, color)


def as_markdown(report: SummaryReport, columns: Sequence[str] = STANDARD, unfold: bool = False) -> str:
    """Return the table and the totals in Markdown."""
    return _document(report, columns, unfold).as_markdown()


def as_latex(report: SummaryReport, columns: Sequence[str] = STANDARD, unfold: bool = False) -> str:
    """Return the table as a LaTeX `table`, which needs the package booktabs; totals are its caption."""
    return _document(report, columns, unfold).as_latex()


def as_html(report: SummaryReport, columns: Sequence[str] = STANDARD, unfold: bool = False) -> str:
    """Return the table and the totals as HTML that needs nothing else in a page or notebook."""
    return _document(report, columns, unfold).as_html()


def as_json(report: SummaryReport, ascii_only: bool = False) -> Iterator[str]:
    """Yield the report as JSON in pieces: that of a long loop is larger than its model."""
    texts: dict[int, str] = {}

    def text_of(row: Row) -> str:
        if id(row) not in texts:
            if len(texts) >= KEPT_TEXTS:
                texts.clear()
            texts[id(row)] = json_text(row.to_dict(), ascii_only=ascii_only)
        return texts[id(row)]

    without_rows = replace(report, rows=()).to_dict()
    return json_pieces(without_rows, map(text_of, report.rows), ascii_only=ascii_only)


def as_csv(report: SummaryReport, columns: Sequence[str] | None = None) -> str:
    """Return every row as CSV, with full shapes and plain numbers: in all fields, or in `columns`."""
    if columns is None:
        cells = {**FIELDS, **{name: COLUMNS[name].plain for name in TRAINING if report.memory}}
    else:
        cells = {"path": FIELDS["path"], **{name: COLUMNS[name].plain for name in columns}}
    distinct = {id(row): row for row in report.rows}  # a loop makes the same calls again and again
    lines = {
        key: tuple(_plain(cell(report, row)) for cell in cells.values()) for key, row in distinct.items()
    }
    return to_csv(Table(tuple(cells), [lines[id(row)] for row in report.rows]))


def check_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns in the order they are asked for. Raises UsageProblem for an unknown one."""
    chosen = list(COLUMNS) if list(names) == ["all"] else [name for name in names if name != "step"]
    for name in chosen:
        if name not in COLUMNS:
            offered = ", ".join(COLUMNS)
            raise UsageProblem(
                f"there is no column {name!r}", did_you_mean(name, COLUMNS) or f"the columns are: {offered}"
            )
    return tuple(chosen)


def _document(report: SummaryReport, columns: Sequence[str], unfold: bool) -> Document:
    return Document(_title(report), _table(report, columns, unfold), total_lines(report), report.warnings)


def _title(report: SummaryReport) -> str:
    spec = report.spec
    dtypes = describe_dtypes(spec, report.totals.dtypes)
    what = [spec.name, *(f"{name} {size:,}" for name, size in spec.sizes.items()), dtypes]
    return " · ".join(filter(None, what))


def _table(report: SummaryReport, columns: Sequence[str], unfold: bool) -> Table:
    chosen = [COLUMNS[name] for name in columns]
    rows = report.rows[1:] or report.rows
    folded = keep_all(rows) if unfold else fold(rows)
    cells: dict[int, tuple[str, ...]] = {}
    steps = [_cells(report, row, chosen, cells) for row in folded]
    ends = [list(_ends(report, columns, which, unfold)) for which in ("input", "output")]
    titles = ("step", *(column.title for column in chosen))
    numbers = frozenset(column.title for column in chosen if column.is_number)
    longest = max((len(name) for name, *_ in ends[0] + ends[1]), default=0)
    return Table(titles, [*ends[0], *steps, *ends[1]], numbers, least=min(longest, LONGEST_NAME))


def _ends(
    report: SummaryReport, columns: Sequence[str], which: Literal["input", "output"], unfold: bool
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each input, or for each output, of the model."""
    values = report.inputs if which == "input" else report.outputs
    texts = {name: format_value(report.batch, value) for name, value in values.items()}
    for name, text in (texts if unfold else fold_names(texts)).items():
        cells = {"type": which, **dict.fromkeys(("shape", which), text)}
        yield (name, *(cells.get(column, "") for column in columns))


def _cells(
    report: SummaryReport, folded: FoldedRow, columns: Sequence[Column], known: dict[int, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the cells of a row; those of a call that comes again, as in a loop, are `known` by its id."""
    row = folded.row
    if folded.steps:
        return _repetition_cells(f"the {folded.steps} steps above, {folded.times} times in all", columns)
    step = row.path or row.type
    if folded.times > 1:
        step += f" ×{folded.times}" if folded.is_one else f" … ×{folded.times}"
    if id(row) not in known:
        known[id(row)] = tuple(column.cell(report, row) for column in columns)
    return (step, *known[id(row)])


def _repetition_cells(note: str, columns: Sequence[Column]) -> tuple[str, ...]:
    """Return a row for steps that repeat, with the note in the widest column."""
    if not any(column.title == "shape" for column in columns):
        return (f"⋮ {note}", *("" for _ in columns))
    return ("⋮", *(note if column.title == "shape" else "" for column in columns))


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
