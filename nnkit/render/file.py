"""FileReport -> text, CSV, Markdown, LaTeX, HTML."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from nnkit.contract.text import format_bytes, format_count, format_shape
from nnkit.models import metadata
from nnkit.render import stamp
from nnkit.render.document import Document
from nnkit.render.table import Table, to_csv
from nnkit.verbs.summary.file_report import Block, FilePart, FileReport, FileTensor, Graph, Port

STATS = ("min", "max", "mean", "std", "NaN", "infinite")


def as_text(report: FileReport, terminal: bool = False, color: bool = False) -> str:
    """Return what the file is, its tensors, and the totals."""
    return _document(report).as_text(terminal, color)


def as_markdown(report: FileReport) -> str:
    """Return the same in Markdown."""
    return _document(report).as_markdown()


def as_latex(report: FileReport) -> str:
    """Return the same as a LaTeX `table`."""
    return _document(report).as_latex()


def as_html(report: FileReport) -> str:
    """Return the same as HTML."""
    return _document(report).as_html()


def as_csv(report: FileReport) -> str:
    """Return the tensors as CSV, with plain numbers."""
    columns = ("name", "dtype", "shape", "elements", "bytes", "file", *STATS)
    return to_csv(Table(columns, [_csv_row(tensor) for tensor in report.tensors]))


def _csv_row(tensor: FileTensor) -> tuple[str, ...]:
    sizes = format_shape(tensor.shape), str(tensor.elements), str(tensor.bytes)
    return (tensor.name, tensor.dtype, *sizes, tensor.file, *_stats(tensor, repr))


def _document(report: FileReport) -> Document:
    return Document(_title(report), _table(report), list(_about(report)))


def _title(report: FileReport) -> str:
    opset = report.graph.opsets.get("ai.onnx") if report.graph else None
    format = f"{report.format} opset {opset}" if opset else report.format
    return f"{report.file} · {format} · {format_bytes(report.bytes)}"


def _table(report: FileReport) -> Table:
    with_stats = any(tensor.stats for tensor in report.tensors)
    columns = ("tensor", "dtype", "shape", "elements", "bytes", *(STATS if with_stats else ()))
    rows = [_table_row(tensor, with_stats) for tensor in report.tensors]
    return Table(columns, rows, frozenset({"elements", "bytes", *STATS}))


def _table_row(tensor: FileTensor, with_stats: bool) -> tuple[str, ...]:
    sizes = format_shape(tensor.shape), format_count(tensor.elements), format_count(tensor.bytes)
    return (tensor.name, tensor.dtype, *sizes, *(_stats(tensor, "{:.4g}".format) if with_stats else ()))


def _stats(tensor: FileTensor, format: Callable[[float], str]) -> tuple[str, ...]:
    stats = tensor.stats
    if stats is None:
        return ("",) * len(STATS)
    numbers = (stats.min, stats.max, stats.mean, stats.std)
    texts = ("" if number is None else format(number) for number in numbers)
    return (*texts, str(stats.nans), str(stats.infinities))


def _about(report: FileReport) -> Iterator[tuple[str, str]]:
    elements: Counter[str] = Counter()
    for tensor in report.tensors:
        elements[tensor.dtype] += tensor.elements
    by_dtype = ", ".join(f"{number:,} {dtype}" for dtype, number in elements.items())
    yield "tensors", f"{len(report.tensors):,}"
    yield "elements", f"{report.elements:,} ({format_bytes(report.tensor_bytes)}): {by_dtype}"
    for part in report.parts:
        yield from _about_part(part)
    yield from _about_blocks(report)
    if report.graph:
        yield from _about_graph(report.graph)
    for name, size in report.files.items():
        yield "file", f"{name} ({format_bytes(size)})"
    for name, text in report.metadata.items():
        if name == metadata.KEY:
            yield from stamp.lines(json.loads(text))
        else:
            yield "metadata", f"{name}: {text}"


def _about_part(part: FilePart) -> Iterator[tuple[str, str]]:
    """Yield what a checkpoint holds under a key, and how to load it."""
    loads = " ".join(
        f"{flag} {value}"
        for flag, value in (("--key", part.key), ("--strip-prefix", part.prefix))
        if value and part.state_dict
    )
    if part.key or loads:
        size = f"{part.tensors:,} tensors, {part.elements:,} elements"
        yield "part", f"{part.key or 'all'}: {size}{loads and f' ({loads})'}"


def _about_blocks(report: FileReport) -> Iterator[tuple[str, str]]:
    """Show a line for each block, and one for all blocks that differ only in their number."""
    if report.blocks and report.elements:
        yield "bits", f"{report.tensor_bytes * 8 / report.elements:.2f} an element"
    alike: dict[tuple[str, ...], list[Block]] = {}
    for block in report.blocks:
        stem = block.name.rstrip("0123456789")
        key = (stem, str(block.elements)) if stem != block.name else (block.name,)
        alike.setdefault(key, []).append(block)
    for blocks in alike.values():
        total = sum(block.elements for block in blocks)
        share = f"{format_count(total)} ({format_bytes(sum(block.bytes for block in blocks))})"
        each = f", {format_count(blocks[0].elements)} each" if len(blocks) > 1 else ""
        yield "block", f"{_names(blocks)}: {share}{each}"


def _names(blocks: Sequence[Block]) -> str:
    """Return `blk.0 … blk.31 (32)`, or the one name."""
    names = sorted((block.name for block in blocks), key=lambda name: (len(name), name))
    return f"{names[0]} … {names[-1]} ({len(names)})" if len(names) > 1 else names[0]


def _about_graph(graph: Graph) -> Iterator[tuple[str, str]]:
    yield "inputs", ", ".join(map(_port, graph.inputs))
    yield "outputs", ", ".join(map(_port, graph.outputs))
    yield "operators", ", ".join(f"{name} ×{times}" for name, times in graph.operators.items())
    opsets = ", ".join(f"{domain} {version}" for domain, version in graph.opsets.items())
    yield "opset", f"{opsets}; IR {graph.ir_version}"
    if graph.producer:
        yield "producer", graph.producer


def _port(port: Port) -> str:
    return f"{port.name}: {port.dtype}[{', '.join(map(str, port.shape))}]"
