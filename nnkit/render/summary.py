"""SummaryReport -> text, CSV, Markdown."""

from nnkit.render import words
from nnkit.render.table import Table, to_csv, to_markdown, to_plain, to_terminal
from nnkit.summary.report import Row, Shape, SummaryReport

LONGEST_LOOP = 32  # steps of a loop's body


def as_text(report: SummaryReport, terminal: bool = False, color: bool = False) -> str:
    """Return the table and the totals; on a terminal the table is drawn."""
    table = _for_people(report)
    drawn = to_terminal(table, color) if terminal else to_plain(table)
    return "\n".join([_title(report), "", drawn, "", *_totals(report)])


def as_markdown(report: SummaryReport) -> str:
    """Return the table and the totals in Markdown."""
    totals = [f"- {line}" for line in _totals(report)]
    return "\n".join([f"**{_title(report)}**", "", to_markdown(_for_people(report)), "", *totals])


def as_csv(report: SummaryReport) -> str:
    """Return the rows as CSV, with full shapes and plain numbers."""
    columns = (
        "path", "kind", "type", "depth", "input_shapes", "output_shapes", "parameters", "macs", "repeated",
    )  # fmt: skip
    rows = [
        (
            row.path, row.kind, row.type, str(row.depth), words.shapes(row.input_shapes),
            words.shapes(row.output_shapes), str(row.parameters), str(row.macs), str(row.repeated).lower(),
        )
        for row in report.rows
    ]  # fmt: skip
    return to_csv(Table(columns, rows))


def _title(report: SummaryReport) -> str:
    spec = report.spec
    what = [spec.name, *(f"{name} {size:,}" for name, size in spec.sizes.items()), spec.dtype]
    return " · ".join(what)


def _for_people(report: SummaryReport) -> Table:
    inputs = [
        (tensor.name, "input", _one(report.batch, shape), "", "")
        for tensor, shape in zip(report.spec.inputs, report.rows[0].input_shapes, strict=False)
    ]
    rows = [*inputs, *_folded([_cells(row, report.batch) for row in report.rows[1:] or report.rows])]
    return Table(("step", "type", "shape", "parameters", "MACs"), rows, frozenset({"parameters", "MACs"}))


def _folded(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Tell the steps of an unrolled loop once, and how often they come; CSV and JSON tell them all."""
    told, place = [], 0
    while place < len(rows):
        period, times = _repetition(rows, place)
        told += rows[place : place + period]
        if times > 1:
            what = "the step" if period == 1 else f"the {period} steps"
            told.append(("⋮", "", f"{what} above, {times} times in all", "", ""))
        place += period * times
    return told


def _repetition(rows: list[tuple[str, ...]], start: int) -> tuple[int, int]:
    """Return how many rows from `start` on repeat, and how often; (1, 1) where none do three times."""
    for period in range(1, LONGEST_LOOP + 1):
        block, times = rows[start : start + period], 1
        while rows[start + times * period : start + (times + 1) * period] == block:
            times += 1
        if times > 2:
            return period, times
    return 1, 1


def _cells(row: Row, batch: int | None) -> tuple[str, ...]:
    numbers = [words.count(number) if number else "" for number in (row.parameters, row.macs)]
    if not row.leaf:
        numbers = [number and f"({number})" for number in numbers]
    if row.repeated:
        numbers[0] = "used above"
    return (row.path or row.type, row.type, _step(row, batch), *numbers)


def _step(row: Row, batch: int | None) -> str:
    """Return `64×8×8 → 4096`, or one shape alone where the step keeps it."""
    together = (*row.input_shapes, *row.output_shapes)
    if any(shape[:1] != (batch,) for shape in together):
        batch = None
    before = [_one(batch, shape) for shape in row.input_shapes]
    after = words.gathered([_one(batch, shape) for shape in row.output_shapes])
    return after if set(before) == {after} else f"{words.gathered(before)} → {after}"


def _one(batch: int | None, shape: Shape) -> str:
    return words.shape(shape[1:] if batch is not None and shape[:1] == (batch,) else shape)


def _totals(report: SummaryReport) -> list[str]:
    totals = report.totals
    lines = [
        f"parameters   {totals.parameters:,} ({words.size(totals.parameter_bytes)}), "
        f"{totals.trainable:,} trainable, {totals.frozen:,} frozen",
        f"buffers      {totals.buffers:,} ({words.size(totals.buffer_bytes)})",
        f"MACs         {totals.macs:,} ({totals.flops:,} FLOPs)",
    ]
    if totals.uncounted:
        seen = (f"{name.removeprefix('aten.')} ×{times}" for name, times in totals.uncounted.items())
        lines.append(f"not counted  {', '.join(seen)}")
    how = "a run without weights or data" if report.method == "meta" else "a run on the CPU"
    lines.append(f"counted in   {how}{f' ({report.reason})' if report.reason else ''}")
    notes = []
    if report.batch is not None:
        notes.append(f"shapes are of one sample, without the batch of {report.batch}")
    if any(not row.leaf for row in report.rows[1:]):
        notes.append("(n) sums the rows beneath")
    return [*lines, *(f"note         {note}" for note in notes)]
