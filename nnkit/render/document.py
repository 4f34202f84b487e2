"""A titled table with labeled lines beneath it, in every format. Each format has the same numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from nnkit.contract.visible import visible
from nnkit.render.table import (
    Table,
    markdown,
    paragraph,
    to_html,
    to_latex,
    to_markdown,
    to_plain,
    to_terminal,
)

Line = tuple[str, str]
"""A label and a text."""


@dataclass(frozen=True)
class Document:
    """What a report shows: `warnings` above the `table`, `lines` beneath it."""

    title: str
    table: Table
    lines: Sequence[Line]
    warnings: Sequence[str] = ()

    def as_text(self, terminal: bool, color: bool) -> str:
        """Return plain text; on a terminal the table is drawn, and fits its width."""
        table = to_terminal(self.table, color) if terminal else to_plain(self.table)
        warnings = [paragraph("warning", text, terminal) for text in self.warnings]
        lines = [paragraph(label, text, terminal) for label, text in self.lines]
        return "\n".join([visible(self.title), *warnings, "", table, "", *lines])

    def as_markdown(self) -> str:
        """Return Markdown."""
        warnings = [line for text in self.warnings for line in ("", f"> warning: {markdown(text)}")]
        lines = [f"- {label}: {markdown(text)}" for label, text in self.lines]
        return "\n".join([f"**{markdown(self.title)}**", *warnings, "", to_markdown(self.table), "", *lines])

    def as_latex(self) -> str:
        """Return a LaTeX `table` with the lines as its caption; it needs the package booktabs."""
        caption = [self.title, *(f"{label}: {text}" for label, text in self._all_lines)]
        return to_latex(self.table, caption)

    def as_html(self) -> str:
        """Return HTML that needs nothing else in a page or notebook."""
        return to_html(self.table, self.title, self._all_lines)

    @property
    def _all_lines(self) -> list[Line]:
        return [*(("warning", text) for text in self.warnings), *self.lines]
