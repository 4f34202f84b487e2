"""A table of text, and its forms: plain, drawn on a terminal, CSV, Markdown, LaTeX, HTML."""

import io
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnkit.contract.visible import visible

GAP = 3  # between the columns that rich draws
NARROWEST = 12  # a column of text is cut no further
FALLBACK = 80  # columns, if stdout is not a terminal
NO_BREAK = "\xa0"
TOGETHER = re.compile(r"(?<!\S)\[[^\]]{,30}\]|--[a-z][\w-]* [\w.]\S*")
READABLE = 24  # characters of a column of sentences, at least
LABEL = 12  # width of the labels beneath a table


@dataclass(frozen=True)
class Table:
    """Columns and rows of text, every character visible. Columns in `numbers` are aligned to the right.

    subject: the column that says which row this is; it is never left out. least: characters that it keeps
        on a narrow terminal, as long as each column fits.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: frozenset[str] = frozenset()
    subject: int = 0
    least: int = NARROWEST

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(map(visible, self.columns)))
        object.__setattr__(self, "rows", [tuple(map(visible, row)) for row in self.rows])

    def without(self, index: int) -> "Table":
        """Return the table without one of its columns."""
        columns, *rows = ((*line[:index], *line[index + 1 :]) for line in (self.columns, *self.rows))
        subject = self.subject - (index < self.subject)
        return Table(columns, rows, self.numbers, subject, self.least)


def to_plain(table: Table) -> str:
    """Return the table in aligned columns, two spaces apart."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in table.numbers else cell.ljust(width)
            for cell, width, name in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in lines
    )


def to_terminal(table: Table, color: bool) -> str:
    """Return the table drawn by rich in the width of the terminal.

    Text is cut in the middle, numbers never are. If that isn't enough, columns are left out, text before
    numbers, and the last line lists them.
    """
    import rich.box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(
        file=io.StringIO(), force_terminal=color, no_color=not color, highlight=False, width=terminal_width()
    )
    table, widths, left_out = _fitted(table, console.width)
    drawn = RichTable(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in table.columns:
        drawn.add_column(name, justify="right" if name in table.numbers else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(Text(cut(cell, width)) for cell, width in zip(row, widths, strict=True)))
    with console.capture() as capture:
        console.print(drawn)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    if left_out:
        lines += ["", cut(f"no room for: {', '.join(left_out)}", console.width)]
    return "\n".join(lines)


def _fitted(table: Table, width: int) -> tuple[Table, list[int], list[str]]:
    """Return the columns that fit, how wide each is, and the names of the others."""
    left_out: list[str] = []
    while True:
        widths = _widths(table, width - GAP * (len(table.columns) - 1))
        if sum(widths) + GAP * (len(widths) - 1) <= width or len(widths) == 1:
            return table, widths, left_out
        subject = table.columns[table.subject]
        texts = [name for name in table.columns if name not in table.numbers and name not in ("", subject)]
        dropped = texts[0] if texts else table.columns[-1]
        left_out.append(dropped)
        table = table.without(table.columns.index(dropped))


def _widths(table: Table, room: int) -> list[int]:
    """Return a width for each column; if they don't all fit, the first columns of text shrink first."""
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    texts = [index for index, name in enumerate(table.columns) if name not in table.numbers]
    kept = {table.subject: max(table.least, NARROWEST)}
    limits = [(index, kept.get(index, NARROWEST)) for index in texts]
    for index, least in (*limits, (table.subject, NARROWEST)):
        excess = sum(widths) - room
        widths[index] -= min(max(excess, 0), max(widths[index] - least, 0))
    return widths


def cut(text: str, width: int) -> str:
    """Return the text, without its middle if it is wider than `width`."""
    if len(text) <= width:
        return text
    kept = width - 1
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


def terminal_width() -> int:
    """Return the width of the terminal; the variable `COLUMNS` overrides it."""
    if os.environ.get("COLUMNS", "").isdecimal():
        return int(os.environ["COLUMNS"]) or FALLBACK
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or FALLBACK
    except (OSError, ValueError):
        return FALLBACK


def paragraph(label: str, text: str, terminal: bool) -> str:
    """Return a labeled line; on a terminal it is wrapped between words."""
    line = visible(f"{label:{LABEL}} {text}")
    if not terminal:
        return line
    width = max(terminal_width(), LABEL + NARROWEST)
    return textwrap.fill(line, width, subsequent_indent=" " * (LABEL + 1), break_on_hyphens=False)


def wrapped(text: str, width: int | None, indent: int = 0) -> list[str]:
    """Return text in lines of this width, wrapped only between words; all but the first are indented.

    An option stays beside its value, and what is in brackets together. width: None leaves the text in one
    line, as for a pipe.
    """
    text = visible(text)
    if width is None or len(text) <= width:
        return [text]
    width = max(width, indent + NARROWEST)

    def glue(match: re.Match[str]) -> str:
        return match[0].replace(" ", NO_BREAK) if len(match[0]) <= width - indent else match[0]

    lines = textwrap.wrap(
        TOGETHER.sub(glue, text),
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(NO_BREAK, " ") for line in lines]


def beside(left: str, text: str, indent: int, width: int | None) -> list[str]:
    """Return text in a column that begins at `indent`, to the right of `left`.

    It begins on a line of its own beneath a longer `left`; and beneath any, a little indented, where the
    column would be too narrow to read. Nothing on the left is ever cut.
    """
    left, text = visible(left), visible(text)
    if width is not None and width - indent < READABLE:
        indent = min(4 + len(left) - len(left.lstrip()), indent)
    if not text:
        return [left.rstrip()]
    if len(left) + 2 <= indent:
        return wrapped(f"{left:{indent}}{text}", width, indent)
    margin = " " * indent
    return [*wrapped(left, width, 4), *(margin + line for line in wrapped(text, width and width - indent))]


def to_csv(table: Table) -> str:
    """Return the table as CSV with a header line; no cell of it is a formula to a spreadsheet."""
    import csv  # not for what is printed as text

    out = io.StringIO()
    lines = (map(_not_a_formula, line) for line in (table.columns, *table.rows))
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue().rstrip("\n")


def _not_a_formula(cell: str) -> str:
    """Return the cell, after an apostrophe if a spreadsheet would compute it; numbers stay as they are."""
    if not cell.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def markdown(text: str) -> str:
    """Return text as Markdown that shows it: one visible line without markup or HTML."""
    return MARKUP.sub(r"\\\g<0>", _escape(visible(text), quote=False))


def to_markdown(table: Table, escape: Callable[[str], str] = markdown) -> str:
    """Return the table in GitHub's Markdown; `escape` makes a cell of a text."""
    rule = tuple("---:" if name in table.numbers else "---" for name in table.columns)
    heading, *rows = (tuple(map(escape, line)) for line in (table.columns, *table.rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rule, *rows))


MARKUP = re.compile(r"[\\`*|$]|~(?=\S)|(?<=\])\(|(?<!\w)_|_(?!\w)")
"""What Markdown would take for code, emphasis, cells, mathematics or a link."""


def to_latex(table: Table, caption: Sequence[str]) -> str:
    """Return a LaTeX `table` with the lines of its caption; it needs the package booktabs."""
    alignment = "".join("r" if name in table.numbers else "l" for name in table.columns)
    heading, *rows = (" & ".join(map(_latex, line)) + r" \\" for line in (table.columns, *table.rows))
    caption_text = " ".join(f"{_latex(visible(line))}." for line in caption)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        heading,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{caption_text}}}",
        r"\end{table}",
    ]
    return "\n".join(lines)


LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "×": r"$\times$",
    "→": r"$\rightarrow$", "…": r"\ldots{}", "⋮": r"$\vdots$", "·": r"$\cdot$",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)


def _escape(text: str, quote: bool = True) -> str:
    from html import escape  # a table of all entities, which a terminal has no use for

    return escape(text, quote=quote)


def to_html(table: Table, title: str, notes: Sequence[tuple[str, str]]) -> str:
    """Return an HTML table with a caption, and labeled lines beneath it."""
    lines = [
        "<table>",
        f"<caption>{_escape(visible(title))}</caption>",
        f"<thead>{_html_row(table, table.columns, 'th')}</thead>",
        "<tbody>",
        *(_html_row(table, row, "td") for row in table.rows),
        "</tbody>",
        "</table>",
    ]
    if notes:
        described = (f"<dt>{_escape(label)}</dt><dd>{_escape(visible(text))}</dd>" for label, text in notes)
        lines += ["<dl>", *described, "</dl>"]
    return "\n".join(lines)


def _html_row(table: Table, cells: Sequence[str], tag: str) -> str:
    def cell(name: str, text: str) -> str:
        align = "right" if name in table.numbers else "left"
        return f'<{tag} style="text-align: {align}">{_escape(text)}</{tag}>'

    return f"<tr>{''.join(map(cell, table.columns, cells))}</tr>"
