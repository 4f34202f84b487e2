"""The columns of a summary: for each its heading, and how a cell shows its call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from nnkit.contract.text import format_bytes, format_count, format_shape, format_shapes
from nnkit.verbs.summary.report import Row, SummaryReport, Value, tensors_of


@dataclass(frozen=True)
class Column:
    """A column: its heading, and how it shows a row to people (`cell`) and to machines (`plain`)."""

    title: str
    cell: Callable[[SummaryReport, Row], str]
    plain: Callable[[SummaryReport, Row], object]
    is_number: bool = False


def format_step(report: SummaryReport, row: Row) -> str:
    """Return `64×8×8 → 4096`, or only one shape if the step keeps it."""
    before, after = format_inputs(report, row), format_outputs(report, row)
    if not after:
        return f"{before} → failed" if report.failure else before
    return after if before == after or not before else f"{before} → {after}"


def format_inputs(report: SummaryReport, row: Row) -> str:
    """Return `64×8×8, 10`; inputs that all have the shape of the output are shown once."""
    batch, tensors_only = _batch(report, row), row.kind == "function"
    inputs = [text for value in row.inputs for text in format_argument(batch, value, tensors_only)]
    return inputs[0] if inputs and set(inputs) == {format_outputs(report, row)} else collapse(inputs)


def format_outputs(report: SummaryReport, row: Row) -> str:
    """Return `64×8×8, 10`."""
    batch = _batch(report, row)
    return collapse([format_value(batch, result) for result in split_results(row.outputs)])


def _batch(report: SummaryReport, row: Row) -> int | None:
    """Return the batch if every tensor of the row leads with it: then shapes leave it out."""
    shapes = (*row.input_shapes, *row.output_shapes)
    return report.batch if all(shape[:1] == (report.batch,) for shape in shapes) else None


def format_argument(batch: int | None, value: Value, tensors_only: bool) -> list[str]:
    """Return an argument as text: `3×32×32`, or of keyword arguments each as `mask=4`."""
    if tensors_only:
        return [format_value(batch, tensor) for tensor in tensors_of(value)]
    if isinstance(value, dict):
        return [f"{name}={format_value(batch, argument)}" for name, argument in value.items()]
    return [format_value(batch, value)]


def format_value(batch: int | None, value: Value) -> str:
    """Return `3×32×32`, `(4, None)`, `{mask: 4}`, `'train'`."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        entries = [f"{name}: {format_value(batch, entry)}" for name, entry in value.items()]
        return f"{{{', '.join(entries)}}}"
    if isinstance(value, tuple):
        return f"({collapse([format_value(batch, element) for element in value])})"
    leads_with_batch = batch is not None and value.shape[:1] == (batch,)
    return format_shape(value.shape[1:] if leads_with_batch else value.shape)


def _parameters(report: SummaryReport, row: Row) -> str:
    if row.repeated:
        return "used above"
    if row.tied and not row.parameters:
        return f"tied to {row.tied}"
    return _number(row, row.parameters)


def _number(row: Row, number: int) -> str:
    """Return the number, in parentheses if it includes rows beneath."""
    if not number:
        return ""
    return format_count(number) if row.leaf else f"({format_count(number)})"


def _share(number: int, total: int) -> str:
    return f"{number / total:.1%}" if number and total else ""


def _trainable(row: Row) -> str:
    if not row.parameters:
        return ""
    return "yes" if row.trainable == row.parameters else "partly" if row.trainable else "no"


def _training_cost(row: Row, name: str) -> int | None:
    return getattr(row.training, name) if row.training else None


def _training_bytes(row: Row, name: str) -> str:
    number = _training_cost(row, name)
    return format_bytes(number) if number else ""


def _kernel(report: SummaryReport, row: Row) -> str:
    return format_shape(row.kernel) if row.kernel else ""


def _dtypes(report: SummaryReport, row: Row) -> str:
    return ", ".join(row.dtypes)


def _devices(report: SummaryReport, row: Row) -> str:
    return ", ".join(row.devices)


def _training_column(name: str) -> Column:
    return Column(
        name, lambda _, row: _training_bytes(row, name), lambda _, row: _training_cost(row, name), True
    )


COLUMNS: dict[str, Column] = {
    "type": Column("type", lambda _, row: row.type, lambda _, row: row.type),
    "shape": Column(
        "shape",
        format_step,
        lambda _, row: f"{format_shapes(row.input_shapes)} → {format_shapes(row.output_shapes)}",
    ),
    "input": Column("input", format_inputs, lambda _, row: format_shapes(row.input_shapes)),
    "output": Column("output", format_outputs, lambda _, row: format_shapes(row.output_shapes)),
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
        lambda _, row: _number(row, _training_cost(row, "flops") or 0),
        lambda _, row: _training_cost(row, "flops"),
        True,
    ),
    "saved": _training_column("saved"),
    "peak": _training_column("peak"),
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


def split_results(outputs: tuple[Value, ...]) -> tuple[Value, ...]:
    """Return the results one by one if a call returns a tuple of them."""
    return outputs[0] if len(outputs) == 1 and isinstance(outputs[0], tuple) else outputs


def collapse(texts: Sequence[str]) -> str:
    """Return `1×128, 28 of 1×64`: three or more in a row that read the same are shown once."""
    shown: list[str] = []
    for text, run in groupby(texts):
        times = len(list(run))
        shown += [f"{times} of {text}"] if times > 2 else [text] * times
    return ", ".join(shown)
