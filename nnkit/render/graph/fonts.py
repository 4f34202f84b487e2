"""A font of this machine that has every letter of a picture. What draws pixels drops a letter in silence."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnkit.errors import NnkitError

FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts/Supplemental",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
)
# The first four have the widths that pictures are laid out with.
NAMES = (
    ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
    ("Arial.ttf", "Arial Bold.ttf"),
    ("arial.ttf", "arialbd.ttf"),
    ("Arimo-Regular.ttf", "Arimo-Bold.ttf"),
    ("FreeSans.ttf", "FreeSansBold.ttf"),
    ("NotoSans-Regular.ttf", "NotoSans-Bold.ttf"),
    ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    ("Arial Unicode.ttf", ""),
    ("arialuni.ttf", ""),
)
VARIABLE = "NNKIT_FONT"  # the path of a font that is taken first


@dataclass(frozen=True)
class Font:
    """Files of one family: the regular face, and the bold one if there is one."""

    family: str
    files: tuple[Path, ...]


def find_font(text: str) -> Font:
    """Return a font with a glyph for each letter of a text. Raises NnkitError if none is found."""
    lacking = ""
    for files in _candidates():
        family, letters = _read(files[0])
        missing = sorted(set(text) - letters.intersection(*(_read(path)[1] for path in files[1:])))
        if not missing:
            return Font(family, files)
        lacking = lacking or f"{files[0].name} has no glyph for {missing[0]!r}"
    name = "a font with it" if lacking else "a font"
    raise NnkitError(
        f"no font for the text of the picture: {lacking or 'none was found'}",
        f"name {name}: {VARIABLE}=path/to/font.ttf; or draw an SVG, which needs none",
    )


def _candidates() -> Iterator[tuple[Path, ...]]:
    if own := os.environ.get(VARIABLE):
        if not Path(own).is_file():
            raise NnkitError(f"{VARIABLE} is {own}, and there is no such file", "name a .ttf or .otf file")
        yield (Path(own),)
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted(Path(folder).expanduser().rglob("*.ttf")):
            found.setdefault(path.name, path)
    for regular, bold in NAMES:
        if regular in found:
            yield (found[regular], found[bold]) if bold in found else (found[regular],)


def _read(path: Path) -> tuple[str, set[str]]:
    """Return the family of a font file, and the letters that it has glyphs for."""
    try:
        data = path.read_bytes()
        start = struct.unpack_from(">I", data, 12)[0] if data[:4] == b"ttcf" else 0
        count = struct.unpack_from(">H", data, start + 4)[0]
        tables = {}
        for record in range(start + 12, start + 12 + 16 * count, 16):
            name, _, offset, _ = struct.unpack_from(">4sIII", data, record)
            tables[name] = offset
        return _family(data, tables[b"name"]), {chr(code) for code in _codes(data, tables[b"cmap"])}
    except (OSError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise NnkitError(f"{path} isn't a font that can be read", "name a .ttf or .otf file") from error


def _family(data: bytes, table: int) -> str:
    _, count, strings = struct.unpack_from(">3H", data, table)
    names = {}
    for record in range(table + 6, table + 6 + 12 * count, 12):
        platform, _, _, kind, length, offset = struct.unpack_from(">6H", data, record)
        raw = data[table + strings + offset : table + strings + offset + length]
        if kind == 1:
            names[platform] = raw.decode("latin-1" if platform == 1 else "utf-16-be")
    return names.get(3) or names.get(0) or names[1]


def _codes(data: bytes, table: int) -> Iterator[int]:
    """Yield the code points of the two forms of character map that fonts have for Unicode: 4 and 12."""
    count = struct.unpack_from(">H", data, table + 2)[0]
    for record in range(table + 4, table + 4 + 8 * count, 8):
        platform, _, offset = struct.unpack_from(">HHI", data, record)
        kind = struct.unpack_from(">H", data, table + offset)[0]
        if platform in (0, 3) and kind == 12:
            yield from _groups(data, table + offset)
        elif platform in (0, 3) and kind == 4:
            yield from _segments(data, table + offset)


def _groups(data: bytes, at: int) -> Iterator[int]:
    for group in range(struct.unpack_from(">I", data, at + 12)[0]):
        first, last, glyph = struct.unpack_from(">3I", data, at + 16 + 12 * group)
        yield from range(first + (glyph == 0), last + 1)


def _segments(data: bytes, at: int) -> Iterator[int]:
    doubled = struct.unpack_from(">H", data, at + 6)[0]
    count = doubled // 2
    ends = struct.unpack_from(f">{count}H", data, at + 14)
    starts = struct.unpack_from(f">{count}H", data, at + 16 + doubled)
    deltas = struct.unpack_from(f">{count}H", data, at + 16 + 2 * doubled)
    offsets_at = at + 16 + 3 * doubled
    for index, (start, end, delta) in enumerate(zip(starts, ends, deltas, strict=True)):
        offset = struct.unpack_from(">H", data, offsets_at + 2 * index)[0]
        for code in range(start, min(end, 0xFFFE) + 1):
            glyph = code + delta
            if offset:
                glyph = struct.unpack_from(">H", data, offsets_at + 2 * index + offset + 2 * (code - start))[
                    0
                ]
            if glyph & 0xFFFF:
                yield code
