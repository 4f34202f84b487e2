"""ExportReport -> text."""

from nnkit.exporting.report import Check, ExportReport
from nnkit.render import words
from nnkit.render.table import Table, to_plain


def as_text(report: ExportReport) -> str:
    """Return the file and what proves it."""
    opset = f", opset {report.opset}" if report.opset else ""
    title = f"{report.file}  {words.size(report.bytes)}, {report.format}{opset}"
    if not report.verified:
        return f"{title}\nnot verified: nothing was proven"
    if report.format == "safetensors":
        return f"{title}\nverified: read back, {len(report.checks)} tensors equal bit for bit"
    table = Table(
        ("sizes", "output", "largest difference", "spread"),
        [_cells(check) for check in report.checks],
        frozenset({"largest difference", "spread"}),
    )
    return f"{title}\nverified against the module in ONNX Runtime:\n\n{to_plain(table)}"


def _cells(check: Check) -> tuple[str, ...]:
    return (words.sizes(check.sizes), check.output, f"{check.max_abs_diff:.2g}", f"{check.scale:.2g}")
