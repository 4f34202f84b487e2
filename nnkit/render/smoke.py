"""SmokeReport -> text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import click

from nnkit.contract.text import format_sizes
from nnkit.render.assumed import assumed_lines
from nnkit.render.dtypes import describe_dtypes
from nnkit.verbs.smoke.report import CheckResult, SmokeReport

NOT_RUN = "not run"
GRAY = "bright_black"
COLORS = {"passed": "green", "warned": "yellow", "failed": "red", "skipped": GRAY, NOT_RUN: GRAY}


def as_text(report: SmokeReport, color: bool = False) -> str:
    """Return the checklist, one line per check; each failure is followed by the command that reruns it."""
    return "\n".join([*heading(report), "", *lines_from(report, 0, color), *not_run(report, color)])


def heading(report: SmokeReport) -> list[str]:
    """Return what is checked, and what nnkit assumes of it."""
    how = "compiled" if report.compiled else ""
    sizes = format_sizes(report.spec.sizes)
    dtypes = describe_dtypes(report.spec, report.dtypes)
    title = " · ".join(filter(None, (f"{report.spec.name} on {report.device}", how, sizes, dtypes)))
    assumed = [f"assumed: {line}" for line in assumed_lines(report.spec)]
    return [title, *assumed]


def lines_from(report: SmokeReport, start: int, color: bool = False) -> list[str]:
    """Return the lines of the checks from this one on, aligned with those of all others."""
    names = [check.name for check in report.checks]
    return checklist(report.checks[start:], color, width=max(map(len, (*names, *report.not_run))))


def not_run(report: SmokeReport, color: bool = False) -> list[str]:
    """Return a line with the checks that an interrupt prevented."""
    if not report.not_run:
        return []
    shown = click.style(NOT_RUN, fg=COLORS[NOT_RUN]) if color else NOT_RUN
    return [f"{shown}  {', '.join(report.not_run)}"]


def checklist(checks: Sequence[CheckResult], color: bool = False, width: int = 0) -> list[str]:
    """Return one line per check; each failure is followed by the command that reruns it.

    Checks that were skipped for the same reason share the line of the first. width: of the names, at least.
    """
    width = max(width, *(len(check.name) for check in checks), 0)
    return [line for check in _join_skipped(checks) for line in _lines(check, width, color)]


def _lines(check: CheckResult, width: int, color: bool) -> list[str]:
    status = f"{check.status:7}"
    shown = click.style(status, fg=COLORS[check.status]) if color else status
    message, *more = check.message.splitlines() or [""]
    if check.status in ("failed", "warned"):
        more.append(f"again: {check.repeat}")
    first = f"{shown}  {check.name:{width}}  {message}"
    return [first, *(f"{'':7}  {'':{width}}  {line}" for line in more)]


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
