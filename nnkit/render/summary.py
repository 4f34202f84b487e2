"""SummaryReport -> text, CSV, Markdown, LaTeX, HTML. Every format has the same numbers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from nnkit.contract.text import format_bytes, format_count, format_shape, format_shapes
from nnkit.contract.visible import visible
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.render.dtypes import describe_dtypes
from nnkit.render.folding import Told, folded, unfolded
from nnkit.render.table import (
    Table,
    markdown,
    paragraph,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_plain,
    to_terminal,
)
from nnkit.verbs.summary.report import Memory, Row, Sharded, SummaryReport, Totals, Value, tensors_of

STANDARD = ("type", "shape", "params", "macs")
TRAINING = ("flops", "saved", "peak")
"""The columns that need a training step to be looked at."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, its cell for people, and its cell for machines."""

    title: str
    cell: Callable[[SummaryReport, Row], str]
    plain: Callable[[SummaryReport, Row], object]
    is_number: bool = False


def as_text(
    report: SummaryReport,
    columns: Sequence[str] = STANDARD,
    unfold: bool = False,
    terminal: bool = False,
    color: bool = False,
) -> str:
    """Return the table and the totals; on a terminal the table is drawn, and fits it."""
    table = _for_people(report, columns, unfold)
    drawn = to_terminal(table, color) if terminal else to_plain(table)
    totals = [paragraph(label, text, terminal) for label, text in _totals(report)]
    warnings = [paragraph(label, text, terminal) for label, text in _warnings(report)]
    return "\n".join([visible(_title(report)), *warnings, "", drawn, "", *totals])


def as_markdown(report: SummaryReport, columns: Sequence[str] = STANDARD, unfold: bool = False) -> str:
    """Return the table and the totals in Markdown."""
    totals = [f"- {label}: {markdown(text)}" for label, text in _totals(report)]
    warnings = [line for text in report.warnings for line in ("", f"> warning: {markdown(text)}")]
    table = to_markdown(_for_people(report, columns, unfold))
    return "\n".join([f"**{markdown(_title(report))}**", *warnings, "", table, "", *totals])


def as_latex(report: SummaryReport, columns: Sequence[str] = STANDARD, unfold: bool = False) -> str:
    """Return the table as a LaTeX `table`, which needs the package booktabs; totals are its caption."""
    lines = [*_warnings(report), *_totals(report)]
    caption = [_title(report), *(f"{label}: {text}" for label, text in lines)]
    return to_latex(_for_people(report, columns, unfold), caption)


def as_html(report: SummaryReport, columns: Sequence[str] = STANDARD, unfold: bool = False) -> str:
    """Return the table and the totals as HTML that stands on its own in a page or notebook."""
    lines = [*_warnings(report), *_totals(report)]
    return to_html(_for_people(report, columns, unfold), _title(report), lines)


def as_csv(report: SummaryReport, columns: Sequence[str] | None = None) -> str:
    """Return every row as CSV, with full shapes and plain numbers: all that it holds, or those columns."""
    if columns is None:
        cells = {**FIELDS, **{name: COLUMNS[name].plain for name in TRAINING if report.memory}}
    else:
        cells = {"path": FIELDS["path"], **{name: COLUMNS[name].plain for name in columns}}
    rows = [tuple(_machine(cell(report, row)) for cell in cells.values()) for row in report.rows]
    return to_csv(Table(tuple(cells), rows))


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


def _title(report: SummaryReport) -> str:
    spec = report.spec
    dtypes = describe_dtypes(spec, report.totals.dtypes)
    what = [spec.name, *(f"{name} {size:,}" for name, size in spec.sizes.items()), dtypes]
    return " · ".join(filter(None, what))


def _for_people(report: SummaryReport, columns: Sequence[str], unfold: bool) -> Table:
    chosen = [COLUMNS[name] for name in columns]
    rows = report.rows[1:] or report.rows
    told = unfolded(rows) if unfold else folded(rows)
    steps = [_line(report, each, chosen) for each in told]
    lines = [*_ends(report, columns, "input"), *steps, *_ends(report, columns, "output")]
    titles = ("step", *(column.title for column in chosen))
    return Table(titles, lines, frozenset(column.title for column in chosen if column.is_number))


def _ends(
    report: SummaryReport, columns: Sequence[str], which: Literal["input", "output"]
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each argument, or for each result, of the model."""
    values = _arguments(report) if which == "input" else _results(report)
    for name, value in values.items():
        cells = {"type": which, **dict.fromkeys(("shape", which), _value(report.batch, value))}
        yield (name, *(cells.get(column, "") for column in columns))


def _arguments(report: SummaryReport) -> dict[str, Value]:
    given = report.rows[0].inputs
    return given[-1] if given and isinstance(given[-1], dict) else {}


def _results(report: SummaryReport) -> dict[str, Value]:
    """Return what the model gives, by the names that are declared or that a dict has."""
    results = _several(report.rows[0].outputs)
    if len(results) == 1 and isinstance(results[0], dict):
        return results[0]
    names = [tensor.name for tensor in report.spec.outputs]
    if len(names) != len(results):
        names = ["output"] if len(results) == 1 else [f"output {place}" for place in range(len(results))]
    return dict(zip(names, results, strict=True))


def _several(outputs: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the results one by one, where a call gives a tuple of them."""
    return outputs[0] if len(outputs) == 1 and isinstance(outputs[0], tuple) else outputs


def _line(report: SummaryReport, told: Told, columns: list[Column]) -> tuple[str, ...]:
    row = told.row
    if told.steps:
        words_for = f"the {told.steps} steps above, {told.times} times in all"
        if not any(column.title == "shape" for column in columns):
            return (f"⋮ {words_for}", *("" for _ in columns))
        return ("⋮", *(words_for if column.title == "shape" else "" for column in columns))
    step = row.path or row.type
    if told.times > 1:
        step += f" ×{told.times}" if told.is_one else f" … ×{told.times}"
    return (step, *(column.cell(report, row) for column in columns))


def _step(report: SummaryReport, row: Row) -> str:
    """Return `64×8×8 → 4096`, or one shape alone where the step keeps it."""
    before, after = _inputs_of(report, row), _outputs_of(report, row)
    if not after:
        return f"{before} → failed" if report.failure else before
    return after if before == after or not before else f"{before} → {after}"


def _inputs_of(report: SummaryReport, row: Row) -> str:
    batch = _batch(report, row)
    told = [text for value in row.inputs for text in _argument(batch, value, row.kind == "module")]
    return told[0] if told and set(told) == {_outputs_of(report, row)} else _collapse(told)


def _outputs_of(report: SummaryReport, row: Row) -> str:
    batch = _batch(report, row)
    return _collapse([_value(batch, each) for each in _several(row.outputs)])


def _batch(report: SummaryReport, row: Row) -> int | None:
    """Return the batch where every tensor of the row leads with it: then it is left out of shapes."""
    shapes = (*row.input_shapes, *row.output_shapes)
    return report.batch if all(shape[:1] == (report.batch,) for shape in shapes) else None


def _argument(batch: int | None, value: Value, everything: bool) -> list[str]:
    """Return the words for an argument; of a function the tensors alone."""
    if not everything:
        return [_value(batch, tensor) for tensor in tensors_of(value)]
    if isinstance(value, dict):
        return [f"{name}={_value(batch, each)}" for name, each in value.items()]
    return [_value(batch, value)]


def _value(batch: int | None, value: Value) -> str:
    """Return `3×32×32`, `(4, None)`, `{mask: 4}`, `'train'`."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_value(batch, each)}' for name, each in value.items())}}}"
    if isinstance(value, tuple):
        return f"({_collapse([_value(batch, each) for each in value])})"
    return format_shape(value.shape[1:] if batch is not None and value.shape[:1] == (batch,) else value.shape)


def _parameters(report: SummaryReport, row: Row) -> str:
    if row.repeated:
        return "used above"
    if row.tied and not row.parameters:
        return f"is {row.tied}"
    return _number(row, row.parameters)


def _number(row: Row, number: int) -> str:
    """Return the number; in brackets where rows beneath have a share in it."""
    if not number:
        return ""
    return format_count(number) if row.leaf else f"({format_count(number)})"


def _share(number: int, whole: int) -> str:
    return f"{number / whole:.1%}" if number and whole else ""


def _trainable(row: Row) -> str:
    if not row.parameters:
        return ""
    return "yes" if row.trainable == row.parameters else "partly" if row.trainable else "no"


def _cost(row: Row, what: str) -> int | None:
    return getattr(row.training, what) if row.training else None


def _bytes(row: Row, what: str) -> str:
    number = _cost(row, what)
    return format_bytes(number) if number else ""


def _machine(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _kernel(report: SummaryReport, row: Row) -> str:
    return format_shape(row.kernel) if row.kernel else ""


def _dtypes(report: SummaryReport, row: Row) -> str:
    return ", ".join(row.dtypes)


def _devices(report: SummaryReport, row: Row) -> str:
    return ", ".join(row.devices)


COLUMNS: dict[str, Column] = {
    "type": Column("type", lambda _, row: row.type, lambda _, row: row.type),
    "shape": Column(
        "shape",
        _step,
        lambda _, row: f"{format_shapes(row.input_shapes)} → {format_shapes(row.output_shapes)}",
    ),
    "input": Column("input", _inputs_of, lambda _, row: format_shapes(row.input_shapes)),
    "output": Column("output", _outputs_of, lambda _, row: format_shapes(row.output_shapes)),
    "kernel": Column("kernel", _kernel, _kernel),
    "params": Column("parameters", _parameters, lambda _, row: row.parameters, True),
    "params%": Column(
        "params %",
        lambda report, row: _share(row.parameters, report.totals.parameters),
        lambda report, row: row.parameters / max(report.totals.parameters, 1),
        True,
    ),
    "trainable": Column("trainable", lambda _, row: _trainable(row), lambda _, row: row.trainable),
    "macs": Column("MACs", lambda _, row: _number(row, row.macs), lambda _, row: row.macs, True),
    "macs%": Column(
        "MACs %",
        lambda report, row: _share(row.macs, report.totals.macs),
        lambda report, row: row.macs / max(report.totals.macs, 1),
        True,
    ),
    "flops": Column(
        "training FLOPs",
        lambda _, row: _number(row, _cost(row, "flops") or 0),
        lambda _, row: _cost(row, "flops"),
        True,
    ),
    "saved": Column("saved", lambda _, row: _bytes(row, "saved"), lambda _, row: _cost(row, "saved"), True),
    "peak": Column("peak", lambda _, row: _bytes(row, "peak"), lambda _, row: _cost(row, "peak"), True),
    "dtype": Column("dtype", _dtypes, _dtypes),
    "device": Column("device", _devices, _devices),
}


# What a row of CSV holds, under the names of the JSON form.
FIELDS: dict[str, Callable[[SummaryReport, Row], object]] = {
    "path": lambda report, row: row.path,
    "kind": lambda report, row: row.kind,
    "type": lambda report, row: row.type,
    "depth": lambda report, row: row.depth,
    "input_shapes": COLUMNS["input"].plain,
    "output_shapes": COLUMNS["output"].plain,
    "kernel": COLUMNS["kernel"].plain,
    "parameters": lambda report, row: row.parameters,
    "trainable": lambda report, row: row.trainable,
    "macs": lambda report, row: row.macs,
    "repeated": lambda report, row: row.repeated,
    "tied": lambda report, row: row.tied,
    "dtype": COLUMNS["dtype"].plain,
    "device": COLUMNS["device"].plain,
}


def _totals(report: SummaryReport) -> list[tuple[str, str]]:
    totals = report.totals
    lines = []
    if report.failure:
        given = ", ".join(text for value in report.failure.inputs for text in _argument(None, value, True))
        place = f"{report.failure.path or 'the model'} ({report.failure.type})"
        lines.append(("failed", f"in {place}, given {given}: {report.failure.error}"))
    lines += [
        (
            "parameters",
            f"{totals.parameters:,} ({format_bytes(totals.parameter_bytes)}), "
            f"{totals.trainable:,} trainable, {totals.frozen:,} frozen",
        ),
        ("buffers", f"{totals.buffers:,} ({format_bytes(totals.buffer_bytes)})"),
        ("MACs", _multiply_adds(totals)),
    ]
    if totals.training_flops:
        lines.append(("training", f"{totals.training_flops:,} FLOPs, forward and backward"))
    if report.memory:
        lines += _memory(report.memory)
    if report.sharded:
        lines += _sharded(report.sharded)
    if report.fit:
        fit = report.fit
        lines.append(
            ("fits", f"into {format_count(fit.limit)} bytes: training with {fit.dim} {fit.training:,}, "
                     f"inference with {fit.dim} {fit.inference:,}")
        )  # fmt: skip
    if totals.uncounted:
        seen = (f"{name.removeprefix('aten.')} ×{times}" for name, times in totals.uncounted.items())
        lines.append(("not counted", ", ".join(seen)))
    if totals.unused:
        lines.append(("not used", ", ".join(totals.unused)))
    how = "a run without weights or data" if report.method == "meta" else f"a run on {_place(report)}"
    lines.append(("counted in", f"{how}{f' ({report.reason})' if report.reason else ''}"))
    return [*lines, *(("note", note) for note in _notes(report))]


def _warnings(report: SummaryReport) -> Iterator[tuple[str, str]]:
    yield from (("warning", text) for text in report.warnings)


def _multiply_adds(totals: Totals) -> str:
    if totals.missed and not totals.macs:
        return "unknown"
    figures = f"{totals.macs:,} ({totals.flops:,} FLOPs)"
    return f"at least {figures}" if totals.missed else figures


def _place(report: SummaryReport) -> str:
    """Return where the model ran, by what it took."""
    devices = dict.fromkeys(tensor.device for tensor in tensors_of(report.rows[0].inputs))
    return " and ".join(device.replace("cpu", "the CPU") for device in devices) or "the CPU"


def _memory(memory: Memory) -> list[tuple[str, str]]:
    size = format_bytes
    lines = [("inference", f"needs {size(memory.inference_peak)} on {memory.device}")]
    if memory.training_peak:
        lines.append(("training", f"needs {size(memory.training_peak)}: {_parts(memory)}, and the rest"))
    return [*lines, *([("memory", memory.note)] if memory.note else [])]


def _parts(memory: Memory) -> str:
    size = format_bytes
    return (
        f"parameters {size(memory.parameters)}, gradients {size(memory.gradients)}, "
        f"state of {memory.optimizer} {size(memory.optimizer_state)}, "
        f"saved for backward {size(memory.saved)}"
    )


def _sharded(sharded: Sharded) -> Iterator[tuple[str, str]]:
    memory, size = sharded.memory, format_bytes
    blocks = [*sharded.blocks[:2], "…", sharded.blocks[-1]] if len(sharded.blocks) > 3 else sharded.blocks
    shards = f"{len(sharded.blocks)} blocks ({', '.join(blocks)}) and the rest" if blocks else "one piece"
    yield "sharded", f"by fully_shard over {sharded.ranks:,} ranks, in {shards}"
    yield "per rank", f"inference needs {size(memory.inference_peak)} on {memory.device}"
    if memory.training_peak:
        whole = f"gathered at once {size(sharded.gathered)}"
        told = f"{_parts(memory)}, {whole}, and the rest"
        yield "per rank", f"training needs {size(memory.training_peak)}: {told}"
    if memory.note:
        yield "per rank", memory.note


def _notes(report: SummaryReport) -> Iterator[str]:
    if report.batch is not None:
        yield f"shapes are of one sample, without the batch of {report.batch}"
    if any(not row.leaf for row in report.rows[1:]):
        yield "(n) sums the rows beneath"


def _collapse(texts: Sequence[str]) -> str:
    """Return `1×128, 28 of 1×64`: three or more in a row that read the same are shown once."""
    shown: list[str] = []
    for text, run in groupby(texts):
        times = len(list(run))
        shown += [f"{times} of {text}"] if times > 2 else [text] * times
    return ", ".join(shown)
