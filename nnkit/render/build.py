"""BuildReport -> text."""

from nnkit.building import BuildReport
from nnkit.render import words


def as_text(report: BuildReport) -> str:
    """Return the module tree, then the totals."""
    lines = [
        report.tree,
        "",
        f"parameters   {report.parameters:,} ({words.size(report.parameter_bytes)}), "
        f"{report.trainable:,} trainable",
        f"buffers      {report.buffers:,}",
        f"device       {report.device}, {words.dtypes(report.dtypes) or report.spec.dtype}",
    ]
    return "\n".join(lines)
