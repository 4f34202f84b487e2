"""SmokeReport -> text."""

import click

from nnkit.render import words
from nnkit.smoke.report import SmokeReport

COLORS = {"passed": "green", "warned": "yellow", "failed": "red", "skipped": "bright_black"}


def as_text(report: SmokeReport, color: bool = False) -> str:
    """Return the checklist, a line each, and below what failed the command that runs it alone."""
    width = max(len(check.name) for check in report.checks)
    how = "compiled · " if report.compiled else ""
    sizes = words.sizes(report.spec.sizes)
    lines = [f"{report.spec.name} on {report.device} · {how}{sizes} · {report.spec.dtype}", ""]
    for check in report.checks:
        status = f"{check.status:7}"
        shown = click.style(status, fg=COLORS[check.status]) if color else status
        lines.append(f"{shown}  {check.name:{width}}  {check.message}")
        if check.status in ("failed", "warned"):
            lines.append(f"{'':7}  {'':{width}}  again: {check.repeat}")
    return "\n".join(lines)
