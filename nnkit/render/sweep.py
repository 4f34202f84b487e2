"""SweepReport -> text."""

import click

from nnkit.contract.text import format_bytes, plural
from nnkit.render.table import Table, to_plain, to_terminal
from nnkit.verbs.sweep.report import STATUSES, ModelResult, SweepReport

COLORS = {"failed": "red", "warned": "yellow", "passed": "green", "skipped": "bright_black"}
WIDTH = max(map(len, STATUSES))


def as_line(result: ModelResult, number: int, planned: int) -> str:
    """Return a line for a model that has just ended."""
    position = f"[{number:{len(str(planned))}}/{planned}]"
    return f"{position} {result.status:{WIDTH}}  {result.name}  {result.seconds:.1f} s  {result.message}"


def as_text(report: SweepReport, terminal: bool = False, color: bool = False) -> str:
    """Return the table of models, worst first, and how many there are of each."""
    table = Table(
        ("status", "model", "seconds", "peak memory", "found"),
        [_cells(model) for model in report.models],
        frozenset({"seconds", "peak memory"}),
    )
    drawn = to_terminal(table, color) if terminal else to_plain(table)
    if color:
        drawn = "\n".join(map(_colored, drawn.splitlines()))
    return f"{drawn}\n\n{_totals(report)}"


def _cells(model: ModelResult) -> tuple[str, ...]:
    ran = model.seconds > 0
    seconds, peak = (f"{model.seconds:.1f}", format_bytes(model.peak_memory)) if ran else ("", "")
    return model.status, model.name, seconds, peak, " ".join(model.message.split())


def _colored(line: str) -> str:
    status = next((status for status in STATUSES if line.startswith(status)), "")
    return click.style(status, fg=COLORS.get(status, "red")) + line[len(status) :] if status else line


def _totals(report: SweepReport) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in report.counts.items() if count)
    models = f"{plural(report.planned, 'model')} on {report.device}"
    missing = report.planned - len(report.models)
    more = [f"{missing} not run"] if missing else []
    if report.resumed:
        more.append(f"{report.resumed} from an earlier run")
    return "; ".join([f"{models}: {counts}" if counts else models, *more])
