"""ReportCard -> text."""

from nnkit.authoring.conformance.report import ReportCard
from nnkit.render.smoke import checklist


def as_text(card: ReportCard, color: bool = False) -> str:
    """Return the card: a line for each check, and below each failure the command that repeats it."""
    where = f" · {card.distribution} {card.version}".rstrip() if "/" not in card.name else ""
    return "\n".join([f"{card.name}{where}", "", *checklist(card.checks, color), ""])
