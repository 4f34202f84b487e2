"""Counts, shapes and lists as people read them. Torch-free."""

from collections.abc import Mapping, Sequence

LISTED = 3  # names of a long list that are shown


def plural(count: int, noun: str) -> str:
    """Return `1 step`, `2 steps`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_shape(axes: Sequence[int | str]) -> str:
    """Return `64×8×8`; a scalar is `1`."""
    return "×".join(map(str, axes)) or "1"


def format_sizes(sizes: Mapping[str, int]) -> str:
    """Return `batch=4 time=7`."""
    return " ".join(f"{name}={size}" for name, size in sizes.items()) or "no dims"


def shorten(names: Sequence[str]) -> str:
    """Return `a, b`, or of a long list `a, b, c and 2 others`."""
    others = len(names) - LISTED
    if others <= 0:
        return ", ".join(names)
    return f"{', '.join(names[:LISTED])} and {others} {'other' if others == 1 else 'others'}"
