"""How counts, lists of names and shapes are written in messages."""

from collections.abc import Sequence


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 output`, `2 outputs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shorten(names: Sequence[str], limit: int) -> str:
    """Return the first names of a list, and how many more there are: `a, b and 3 more`."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def format_shape(shape: Sequence[int | str]) -> str:
    """Return a shape as in `2×3×8`; that of a scalar is `1`."""
    return "×".join(map(str, shape)) or "1"
