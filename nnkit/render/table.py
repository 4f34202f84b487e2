"""A table of text, and its forms: plain, drawn on a terminal, CSV, Markdown."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

GAP = 3  # between the columns that rich draws
NARROWEST = 12  # a column of words is cut no further


@dataclass(frozen=True)
class Table:
    """Columns and rows of text. Columns named in `numbers` are aligned to the right."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: frozenset[str] = frozenset()


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
    """Return the table drawn by rich, cut to the width of the terminal; numbers are never cut."""
    import rich.box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(file=io.StringIO(), force_terminal=color, no_color=not color, highlight=False)
    drawn = RichTable(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in table.columns:
        drawn.add_column(name, justify="right" if name in table.numbers else "left", no_wrap=True)
    gaps = GAP * (len(table.columns) - 1)
    widths = _widths(table, console.width - gaps)
    console.width = max(console.width, sum(widths) + gaps)  # or rich would cut the numbers
    for row in table.rows:
        drawn.add_row(*(Text(cut(cell, width)) for cell, width in zip(row, widths, strict=True)))
    with console.capture() as capture:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _widths(table: Table, room: int) -> list[int]:
    """Return a width for each column; where there is no room for all, the first words give way first."""
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    for place, name in enumerate(table.columns):
        if name not in table.numbers:
            excess = sum(widths) - room
            widths[place] -= min(max(excess, 0), max(widths[place] - NARROWEST, 0))
    return widths


def cut(text: str, width: int) -> str:
    """Return the text, its middle left out where it is wider than `width`."""
    if len(text) <= width:
        return text
    kept = width - 1
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


def to_csv(table: Table) -> str:
    """Return the table as CSV with a header line."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([table.columns, *table.rows])
    return out.getvalue().rstrip("\n")


def to_markdown(table: Table) -> str:
    """Return the table in GitHub's Markdown."""
    rule = tuple("---:" if name in table.numbers else "---" for name in table.columns)
    lines = [table.columns, rule, *(tuple(cell.replace("|", r"\|") for cell in row) for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
