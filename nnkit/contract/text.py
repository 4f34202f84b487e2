"""Counts, sizes, shapes and lists as people read them. Torch-free."""

from collections.abc import Mapping, Sequence

LISTED = 3  # names of a long list that are shown
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def plural(count: int, noun: str) -> str:
    """Return `1 step`, `2 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def name_output(name: str) -> str:
    """Return how a sentence names an output: `output logits`, and only `output` for one of that name."""
    return "output" if name == "output" else f"output {name}"


def format_count(number: int) -> str:
    """Return `11,689,512`."""
    return f"{number:,}"


def format_bytes(number: int) -> str:
    """Return `44.6 MiB`."""
    amount, unit = float(number), 0
    while amount >= 1024 and unit < len(BYTE_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{number} B" if unit == 0 else f"{amount:.1f} {BYTE_UNITS[unit]}"


def format_percent(share: float) -> str:
    """Return a share as `99.9 %`, rounded down, so that only all of it is 100 %."""
    return f"{int(share * 1000) / 10:g} %"


def format_shape(axes: Sequence[int | str]) -> str:
    """Return `64×8×8`; a scalar is `1`."""
    return "×".join(map(str, axes)) or "1"


def format_shapes(shapes: Sequence[Sequence[int]]) -> str:
    """Return `64×8×8, 10`."""
    return ", ".join(map(format_shape, shapes))


def format_sizes(sizes: Mapping[str, int]) -> str:
    """Return `batch=4 time=7`."""
    return " ".join(f"{name}={size}" for name, size in sizes.items()) or "no dims"


def shorten(names: Sequence[str], most: int = LISTED) -> str:
    """Return `a, b`, or of a long list `a, b, c and 2 others`."""
    others = len(names) - most
    if others <= 0:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {others} {'other' if others == 1 else 'others'}"


def truncate(text: str, longest: int) -> str:
    """Return the text, or as much of it as fits with an ellipsis in `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
