"""BuildReport -> text."""

from nnkit.contract.text import format_bytes
from nnkit.models.building import BuildReport
from nnkit.render.dtypes import describe_dtypes


def as_text(report: BuildReport) -> str:
    """Return the module tree, then the totals."""
    where = filter(None, (report.device, describe_dtypes(report.spec, report.dtypes)))
    lines = [
        report.tree,
        "",
        f"parameters   {report.parameters:,} ({format_bytes(report.parameter_bytes)}), "
        f"{report.trainable:,} trainable",
        f"buffers      {report.buffers:,}",
        f"device       {', '.join(where)}",
    ]
    return "\n".join(lines)
