"""SmokeReport -> text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import click

from nnkit.contract.text import format_sizes
from nnkit.render.assumed import assumed_lines
from nnkit.render.dtypes import describe_dtypes
from nnkit.verbs.smoke.report import CheckResult, SmokeReport

COLORS = {"passed": "green", "warned": "yellow", "failed": "red", "skipped": "bright_black"}


def as_text(report: SmokeReport, color: bool = False) -> str:
    """Return the checklist, one line per check; each failure is followed by the command that reruns it."""
    how = "compiled" if report.compiled else ""
    sizes = format_sizes(report.spec.sizes)
    dtypes = describe_dtypes(report.spec, report.dtypes)
    title = " · ".join(filter(None, (f"{report.spec.name} on {report.device}", how, sizes, dtypes)))
    assumed = [f"assumed: {line}" for line in assumed_lines(report.spec)]
    return "\n".join([title, *assumed, "", *checklist(report.checks, color)])


def checklist(checks: Sequence[CheckResult], color: bool = False) -> list[str]:
    """Return one line per check; each failure is followed by the command that reruns it.

    Checks that were skipped for the same reason share the line of the first.
    """
    width = max(len(check.name) for check in checks)
    lines = []
    for check in _join_skipped(checks):
        status = f"{check.status:7}"
        shown = click.style(status, fg=COLORS[check.status]) if color else status
        message, *more = check.message.splitlines() or [""]
        if check.status in ("failed", "warned"):
            more.append(f"again: {check.repeat}")
        lines.append(f"{shown}  {check.name:{width}}  {message}")
        lines += [f"{'':7}  {'':{width}}  {line}" for line in more]
    return lines


def _join_skipped(checks: Sequence[CheckResult]) -> Iterator[CheckResult]:
    """Yield the checks, and in place of several skipped for one reason a single result with their names."""
    names: dict[str, list[str]] = {}
    for check in checks:
        if check.status == "skipped":
            names.setdefault(check.message, []).append(check.name)
    for check in checks:
        alike = names.get(check.message, []) if check.status == "skipped" else []
        if len(alike) < 2:
            yield check
        elif check.name == alike[0]:
            yield replace(check, message=f"{check.message}; the same for {_list(alike[1:])}")


def _list(names: Sequence[str]) -> str:
    """Return `a`, or `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
