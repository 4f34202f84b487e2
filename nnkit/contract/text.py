"""Counts, sizes, shapes and lists as people read them. Torch-free."""

import re
from collections.abc import Hashable, Mapping, Sequence
from inspect import cleandoc
from typing import TypeVar

LISTED = 3  # names of a long list that are shown
INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")  # in a dotted name
COUNT_UNITS = ("K", "M", "G", "T", "P")
DRIVE = re.compile(r"^[A-Za-z]:(?=[\\/])")  # of Windows
BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

T = TypeVar("T", bound=Hashable)


def plural(count: int, noun: str) -> str:
    """Return `1 step`, `2 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def name_output(name: str) -> str:
    """Return how a sentence names an output: `output logits`, and only `output` for one of that name."""
    return "output" if name == "output" else f"output {name}"


def split_equations(equations: str) -> list[str]:
    """Return equations one by one; they are on lines, or set apart by `;` or `,` and two spaces."""
    return [line for text in cleandoc(equations).splitlines() for line in re.split(r"[;,] {2,}", text)]


def format_count(number: int) -> str:
    """Return `11,689,512`."""
    return f"{number:,}"


def format_amount(number: int) -> str:
    """Return a count in three digits: `11.7M`, `4.09G`, `850`."""
    amount, unit = float(number), 0
    while unit < len(COUNT_UNITS) and float(f"{amount:.3g}") >= 1000:
        amount, unit = amount / 1000, unit + 1
    return str(number) if unit == 0 else f"{amount:#.3g}".rstrip(".") + COUNT_UNITS[unit - 1]


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
    """Return `64×8×8`; a scalar is `1`. A sum beside other axes is in parentheses: `2×(nodes+edges)`."""
    if len(axes) == 1:
        return str(axes[0])
    return "×".join(f"({axis})" if _is_sum(axis) else str(axis) for axis in axes) or "1"


def _is_sum(axis: int | str) -> bool:
    return isinstance(axis, str) and ("+" in axis or "-" in axis.removeprefix("-") or "−" in axis)


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


def without_drive(reference: str) -> str:
    """Return a path without the drive of Windows, whose colon names nothing in a file: `C:\\net.py`."""
    return DRIVE.sub("", reference)


def truncate(text: str, longest: int) -> str:
    """Return the text, or as much of it as fits with an ellipsis in `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def fold_names(texts: Mapping[str, T]) -> dict[str, T]:
    """Return dotted names and their texts; three or more names that differ only in an index are one.

    cache.0.key 4×8, cache.1.key 4×8, cache.2.key 4×8   ->   cache.0.key … ×3 4×8
    """
    alike: dict[tuple[str, T], list[str]] = {}
    for name, text in texts.items():
        alike.setdefault((INDEX.sub("#", name), text), []).append(name)
    folded: dict[str, T] = {}
    for name, text in texts.items():
        first, *others = alike[INDEX.sub("#", name), text]
        if len(others) < 2:
            folded[name] = text
        elif name == first:
            folded[f"{name} … ×{1 + len(others)}"] = text
    return folded
