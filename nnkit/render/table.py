"""A table of text, and its forms: plain, drawn on a terminal, CSV, Markdown."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass


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
    """Return the table drawn by rich for the width of the terminal."""
    import rich.box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=rich.box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in table.columns:
        drawn.add_column(
            name,
            justify="right" if name in table.numbers else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), force_terminal=color, no_color=not color, highlight=False)
    with console.capture() as capture:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


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
