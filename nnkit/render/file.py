"""FileReport -> text, CSV, Markdown, LaTeX, HTML."""

import json
from collections.abc import Iterator

from nnkit.contract.text import format_bytes, format_count, format_shape
from nnkit.contract.visible import visible
from nnkit.models import metadata
from nnkit.render import stamp
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
from nnkit.verbs.summary.file_report import FileReport, FileTensor, Port

STATS = ("min", "max", "mean", "std", "NaN", "infinite")


def as_text(report: FileReport, terminal: bool = False, color: bool = False) -> str:
    """Return what the file is, its tensors, and the totals."""
    table = _table(report)
    drawn = to_terminal(table, color) if terminal else to_plain(table)
    lines = [paragraph(label, text, terminal) for label, text in _about(report)]
    return "\n".join([visible(_title(report)), "", drawn, "", *lines])


def as_markdown(report: FileReport) -> str:
    """Return the same in Markdown."""
    lines = [f"- {label}: {markdown(text)}" for label, text in _about(report)]
    return "\n".join([f"**{markdown(_title(report))}**", "", to_markdown(_table(report)), "", *lines])


def as_latex(report: FileReport) -> str:
    """Return the same as a LaTeX `table`."""
    return to_latex(_table(report), [_title(report), *(f"{name}: {text}" for name, text in _about(report))])


def as_html(report: FileReport) -> str:
    """Return the same as HTML."""
    return to_html(_table(report), _title(report), list(_about(report)))


def as_csv(report: FileReport) -> str:
    """Return the tensors as CSV, with plain numbers."""
    columns = ("name", "dtype", "shape", "elements", "bytes", "file", *STATS)
    rows = [
        (
            each.name, each.dtype, format_shape(each.shape), str(each.elements), str(each.bytes), each.file,
            *_stats(each, "r"),
        )
        for each in report.tensors
    ]  # fmt: skip
    return to_csv(Table(columns, rows))


def _title(report: FileReport) -> str:
    opset = report.graph.opsets.get("ai.onnx") if report.graph else None
    return (
        f"{report.file} · {report.format}{f' opset {opset}' if opset else ''} · {format_bytes(report.bytes)}"
    )


def _table(report: FileReport) -> Table:
    with_stats = any(each.stats for each in report.tensors)
    columns = ("tensor", "dtype", "shape", "elements", "bytes", *(STATS if with_stats else ()))
    rows = [
        (
            each.name, each.dtype, format_shape(each.shape), format_count(each.elements),
            format_count(each.bytes), *(_stats(each, ".4g") if with_stats else ()),
        )
        for each in report.tensors
    ]  # fmt: skip
    return Table(columns, rows, frozenset({"elements", "bytes", *STATS}))


def _stats(tensor: FileTensor, form: str) -> tuple[str, ...]:
    stats = tensor.stats
    if stats is None:
        return ("",) * len(STATS)
    numbers = (stats.min, stats.max, stats.mean, stats.std)
    told = ("" if each is None else repr(each) if form == "r" else f"{each:{form}}" for each in numbers)
    return (*told, str(stats.nans), str(stats.infinities))


def _about(report: FileReport) -> Iterator[tuple[str, str]]:
    kinds = dict.fromkeys(each.dtype for each in report.tensors)
    by_dtype = [
        f"{sum(each.elements for each in report.tensors if each.dtype == kind):,} {kind}" for kind in kinds
    ]
    yield "tensors", f"{len(report.tensors):,}"
    yield "elements", f"{report.elements:,} ({format_bytes(report.tensor_bytes)}): {', '.join(by_dtype)}"
    if report.graph:
        graph = report.graph
        yield "inputs", ", ".join(map(_port, graph.inputs))
        yield "outputs", ", ".join(map(_port, graph.outputs))
        yield "operators", ", ".join(f"{name} ×{times}" for name, times in graph.operators.items())
        opsets = ", ".join(f"{domain} {version}" for domain, version in graph.opsets.items())
        yield "opset", f"{opsets}; IR {graph.ir_version}"
        if graph.producer:
            yield "producer", graph.producer
    for name, size in report.files.items():
        yield "file", f"{name} ({format_bytes(size)})"
    for name, text in report.metadata.items():
        if name == metadata.KEY:
            yield from stamp.lines(json.loads(text))
        else:
            yield "metadata", f"{name}: {text}"


def _port(port: Port) -> str:
    return f"{port.name}: {port.dtype}[{', '.join(map(str, port.shape))}]"
