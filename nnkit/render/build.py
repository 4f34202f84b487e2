"""BuildReport -> text."""

from nnkit.models.building import BuildReport
from nnkit.render import words


def as_text(report: BuildReport) -> str:
    """Return the module tree, then the totals."""
    lines = [
        report.tree,
        "",
        f"parameters   {report.parameters:,} ({words.size(report.parameter_bytes)}), "
        f"{report.trainable:,} trainable",
        f"buffers      {report.buffers:,}",
        f"device       {', '.join(filter(None, (report.device, words.dtypes(report.spec, report.dtypes))))}",
    ]
    return "\n".join(lines)
