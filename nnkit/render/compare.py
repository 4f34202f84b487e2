"""CompareReport -> text, CSV, Markdown."""

from collections.abc import Iterator

from nnkit.contract.text import format_bytes, format_count, format_shape, format_shapes, plural
from nnkit.render.assumed import assumed_lines
from nnkit.render.table import Table, to_csv, to_markdown, to_plain, to_terminal
from nnkit.verbs.summary.comparison import Change, CompareReport, Layer, Side

LONGEST_PATH = 32  # characters of a path, which a narrow terminal doesn't cut
SIGNS = {"added": "+", "removed": "-", "changed": "~", "moved": "↕"}


def as_text(report: CompareReport, terminal: bool = False, color: bool = False) -> str:
    """Return the models side by side and, for two, what differs."""
    parts = [to_terminal(table, color) if terminal else to_plain(table) for table in _tables(report)]
    assumed = [f"assumed: {line}" for side in report.sides for line in assumed_lines(side.spec)]
    if assumed:
        parts.append("\n".join(dict.fromkeys(assumed)))
    return "\n\n".join([*parts, _verdict(report)])


def as_markdown(report: CompareReport) -> str:
    """Return the same in Markdown."""
    return "\n\n".join([*map(to_markdown, _tables(report)), _verdict(report)])


def as_csv(report: CompareReport) -> str:
    """Return the changes of two models, or the figures of several, as CSV."""
    if len(report.sides) != 2:
        columns = ("model", "parameters", "trainable", "buffers", "macs", "calls")
        rows = [
            (side.spec.name, *map(str, (side.totals.parameters, side.totals.trainable, side.totals.buffers,
                                        side.totals.macs, side.calls)))
            for side in report.sides
        ]  # fmt: skip
        return to_csv(Table(columns, rows))
    columns = ("change", "path", "left", "right", "parameters", "macs")
    changes = [
        (
            change.kind,
            change.path,
            _layer(change.left),
            _layer(change.right),
            str(change.parameters),
            str(change.macs),
        )
        for change in report.changes
    ]
    return to_csv(Table(columns, changes))


def _tables(report: CompareReport) -> Iterator[Table]:
    yield _side_by_side(report)
    if report.options:
        options = [(option.name, str(option.left), str(option.right)) for option in report.options]
        yield Table(("option", "left", "right"), options)
    if report.changes:
        rows = [_change(change) for change in report.changes]
        columns = ("", "step", "left", "right", "parameters", "MACs")
        longest = max(len(change.path) for change in report.changes)
        yield Table(columns, rows, frozenset({"parameters", "MACs"}), 1, min(longest, LONGEST_PATH))


def _side_by_side(report: CompareReport) -> Table:
    names = [side.spec.name for side in report.sides]
    if len(set(names)) < len(names):
        marks = ("left", "right") if len(names) == 2 else tuple(map(str, range(1, len(names) + 1)))
        names = [f"{name} ({mark})" for name, mark in zip(names, marks, strict=True)]
    figures = [_figures(side) for side in report.sides]
    rows: list[tuple[str, ...]] = []
    for label in figures[0]:
        numbers = [side.get(label, 0) for side in figures]
        cells = [format_bytes(n) if label in BYTES else format_count(n) for n in numbers]
        difference = (_difference(numbers[0], numbers[1], label in BYTES),) if len(numbers) == 2 else ()
        rows.append((label, *cells, *difference))
    columns = ("", *names, *(("difference",) if len(names) == 2 else ()))
    return Table(columns, rows, frozenset(columns[1:]))


BYTES = ("size", "training needs", "inference needs")


def _figures(side: Side) -> dict[str, int]:
    totals = side.totals
    figures = {
        "parameters": totals.parameters, "trainable": totals.trainable, "buffers": totals.buffers,
        "size": totals.parameter_bytes + totals.buffer_bytes, "MACs": totals.macs, "calls": side.calls,
    }  # fmt: skip
    if side.memory:
        figures["training needs"] = side.memory.training_peak
        figures["inference needs"] = side.memory.inference_peak
    return figures


def _difference(left: int, right: int, is_bytes: bool) -> str:
    if left == right:
        return "="
    amount = format_bytes(abs(right - left)) if is_bytes else format_count(abs(right - left))
    share = f" ({right / left - 1:+.1%})" if left else ""
    return f"{'+' if right > left else '-'}{amount}{share}"


def _change(change: Change) -> tuple[str, ...]:
    numbers = [f"{number:+,}" if number else "" for number in (change.parameters, change.macs)]
    return (SIGNS[change.kind], change.path, _layer(change.left), _layer(change.right), *numbers)


def _layer(layer: Layer | None) -> str:
    """Return `Linear 512 → 1000`."""
    if layer is None:
        return ""
    kernel = f" {format_shape(layer.kernel)}" if layer.kernel else ""
    dtypes = "" if set(layer.dtypes) <= {"float32", "int64"} else f" {', '.join(layer.dtypes)}"
    shapes = f"{format_shapes(layer.input_shapes)} → {format_shapes(layer.output_shapes)}"
    return f"{layer.type}{kernel} {shapes}{dtypes}"


def _verdict(report: CompareReport) -> str:
    if report.equal:
        return "equal"
    if len(report.sides) != 2:
        return "not equal"
    kinds = [change.kind for change in report.changes]
    counts = [f"{kinds.count(kind)} {kind}" for kind in SIGNS if kind in kinds]
    if report.options:
        counts.append(plural(len(report.options), "option"))
    return f"not equal: {', '.join(counts)}"
