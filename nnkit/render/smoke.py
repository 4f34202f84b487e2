"""SmokeReport -> text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import click

from nnkit.contract.text import format_sizes
from nnkit.render.assumed import assumed_lines
from nnkit.render.dtypes import describe_dtypes
from nnkit.render.table import READABLE, wrapped
from nnkit.verbs.smoke.report import CheckResult, SmokeReport

NOT_RUN = "not run"
GRAY = "bright_black"
COLORS = {"passed": "green", "warned": "yellow", "failed": "red", "skipped": GRAY, NOT_RUN: GRAY}


def as_text(report: SmokeReport, color: bool = False, columns: int | None = None) -> str:
    """Return the checklist, one line per check; each failure is followed by the command that reruns it.

    columns: the width of the terminal that messages are wrapped for.
    """
    return "\n".join(
        [*heading(report, columns), *lines_from(report, 0, color, columns), *not_run(report, color, columns)]
    )


def heading(report: SmokeReport, columns: int | None = None) -> list[str]:
    """Return what is checked and what nnkit assumes of it, and an empty line."""
    how = "compiled" if report.compiled else ""
    sizes = format_sizes(report.spec.sizes)
    dtypes = describe_dtypes(report.spec, report.dtypes)
    title = " · ".join(filter(None, (f"{report.spec.name} on {report.device}", how, sizes, dtypes)))
    assumed = [f"assumed: {line}" for line in assumed_lines(report.spec)]
    return [*(line for text in (title, *assumed) for line in wrapped(text, columns, 2)), ""]


def lines_from(report: SmokeReport, start: int, color: bool = False, columns: int | None = None) -> list[str]:
    """Return the lines of the checks from this one on, aligned with those of all others."""
    names = [check.name for check in report.checks]
    return checklist(report.checks[start:], color, columns, width=max(map(len, (*names, *report.not_run))))


def not_run(report: SmokeReport, color: bool = False, columns: int | None = None) -> list[str]:
    """Return a line with the checks that an interrupt prevented."""
    if not report.not_run:
        return []
    shown = click.style(NOT_RUN, fg=COLORS[NOT_RUN]) if color else NOT_RUN
    first, *more = wrapped(f"{NOT_RUN}  {', '.join(report.not_run)}", columns, len(NOT_RUN) + 2)
    return [shown + first.removeprefix(NOT_RUN), *more]


def checklist(
    checks: Sequence[CheckResult], color: bool = False, columns: int | None = None, width: int = 0
) -> list[str]:
    """Return one line per check; each failure is followed by the command that reruns it.

    Checks that were skipped for the same reason share the line of the first. width: of the names, at least.
    """
    width = max(width, *(len(check.name) for check in checks), 0)
    return [line for check in _join_skipped(checks) for line in _lines(check, width, color, columns)]


def _lines(check: CheckResult, width: int, color: bool, columns: int | None) -> list[str]:
    status = f"{check.status:7}"
    shown = click.style(status, fg=COLORS[check.status]) if color else status
    room = columns and max(columns - len(f"{status}  {'':{width}}  "), READABLE)
    message, *more = [part for line in check.message.splitlines() or [""] for part in wrapped(line, room)]
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
