"""ExportReport -> text."""

from collections.abc import Iterator

from nnkit.contract.text import format_bytes, format_percent, format_sizes, plural, shorten
from nnkit.render.table import Table, to_plain
from nnkit.verbs.exporting.report import (
    Coverage,
    ExportReport,
    ExportsReport,
    OutputProof,
    Proof,
    VerifyReport,
)


def as_text(report: ExportReport) -> str:
    """Return the file and what proves it."""
    opset = f", opset {report.opset}" if report.opset else ""
    title = f"{report.file}  {format_bytes(report.bytes)}, {report.format}{opset}"
    others = [f"{name}  {format_bytes(size)}" for name, size in report.files.items() if len(report.files) > 1]
    return "\n".join([title, *(f"  {line}" for line in others), *_proof(report)])


def all_as_text(report: ExportsReport) -> str:
    """Return every file and what proves it, and why the others weren't written."""
    failed = [f"{name}: not written: {error.message}" for name, error in report.failures.items()]
    return "\n\n".join([*(as_text(exported) for exported in report.reports), *failed])


def _proof(report: ExportReport) -> Iterator[str]:
    proof = report.proof
    if proof is None:
        yield "not verified: nothing was proven"
    elif report.format == "safetensors":
        against = "equal to the model" if isinstance(report, VerifyReport) else "read back"
        yield f"verified: {against}, {len(proof.checks)} tensors equal bit for bit"
    else:
        times = plural(len(proof.assignments), "assignment")
        yield f"verified against the module in {proof.runner} at {times} of sizes:"
        yield ""
        yield to_plain(_table(proof))
        yield ""
        yield from _weights(proof)


def _table(proof: Proof) -> Table:
    numbers = frozenset({"largest difference", "allowed", "spread"})
    columns = ("output", "spread", "largest difference", "allowed", "at", "element")
    return Table(columns, [_cells(output) for output in proof.outputs], numbers)


def _cells(output: OutputProof) -> tuple[str, ...]:
    element = ",".join(map(str, output.where))
    return (
        output.output, f"{output.scale:.2g}", f"{output.max_abs_diff:.2g}", f"{output.tolerance:.2g}",
        format_sizes(output.sizes), f"[{element}]" if element else "",
    )  # fmt: skip


def _weights(proof: Proof) -> Iterator[str]:
    yield f"sizes       {'; '.join(format_sizes(assignment) for assignment in proof.assignments)}"
    if proof.reach:
        limits = f"{proof.reach.seconds:g} s and {format_bytes(proof.reach.bytes)}"
        more = plural(len(proof.reach.assignments), "larger assignment")
        yield f"further     {more}, up to {format_sizes(proof.reach.largest)}, as many as {limits} allow"
    for sentence in proof.assumed:
        yield f"assumed     {sentence}"
    if proof.unread:
        yield f"unread      {shorten(proof.unread)}: forward doesn't read it, nor does the file"
    if proof.equal:
        equal, of = proof.equal
        yield f"weights     {equal} of {of} tensors in the file are the module's, bit for bit"
    if proof.coverage:
        yield f"parameters  {_coverage(proof.coverage)}"
    yield f"proof took  {proof.seconds:.1f} s"


def _coverage(coverage: Coverage) -> str:
    if coverage.own is None or coverage.share is None:
        return f"{coverage.parameters:,}; no output has a gradient to show which parameters it depends on"
    text = f"{format_percent(coverage.share)} of {coverage.parameters:,} proven"
    if coverage.proven != coverage.own:
        own = coverage.own / coverage.parameters if coverage.parameters else 1.0
        text += f", {format_percent(own)} by the model's own weights, the others by perturbed ones"
    if coverage.unproven:
        text += f"; not proven: {shorten(coverage.unproven)}"
    if coverage.unused:
        text += f"; never read: {shorten(coverage.unused)}"
    return text
