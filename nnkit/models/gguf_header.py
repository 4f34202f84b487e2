"""The header of a GGUF file: its metadata and tensors, checked against the file. Torch-free, without numpy.

The format: `GGUF`, the version, two counts, the metadata, the tensors, then padding and the values. Version 1
has counts of 4 bytes where later ones have 8; a version 3 may be big-endian.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

A header of 30 MB is mostly lists of tokens, so lists are skipped and only their lengths are kept.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnkit.contract.text import format_count
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, damaged_file
from nnkit.models.gguf_types import TYPES

MAGIC = b"GGUF"
VERSIONS = (1, 2, 3)
ALIGNMENT = "general.alignment"
DEFAULT_ALIGNMENT = 32
MOST_AXES = 8
MOST_LEVELS = 8  # of lists in lists
MOST_ITEMS = 2**24  # texts and lists that are skipped one by one; the largest vocabularies have 2**19
LONGEST_TEXT = 4096  # bytes of a text that are kept
LONGEST_LIST = 16  # numbers of a list that are kept

TEXT, LIST = 8, 9
SCALARS = {
    0: ("uint8", "B"),
    1: ("int8", "b"),
    2: ("uint16", "H"),
    3: ("int16", "h"),
    4: ("uint32", "I"),
    5: ("int32", "i"),
    6: ("float32", "f"),
    7: ("bool", "?"),
    10: ("uint64", "Q"),
    11: ("int64", "q"),
    12: ("float64", "d"),
}
"""For each type of a value in the metadata, its name and its sign in `struct`."""


@dataclass(frozen=True)
class Entry:
    """A tensor: its type, its shape in torch's order, and its range of bytes among the values."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a file says of itself; a long list in the metadata is only described: `32,000 texts`."""

    version: int
    big_endian: bool
    metadata: Mapping[str, Any]
    entries: tuple[Entry, ...]


def read_header(path: Path) -> Header:
    """Return the header of a file. Raises NnkitError where it contradicts the file or the format."""
    size = path.stat().st_size
    try:
        if size < 16:
            raise _Invalid(f"it has {size} bytes, and the shortest header 16")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _parse(_Reader(content, size), path)
    except _Invalid as error:
        raise damaged_file(path, str(error)) from error


class _Invalid(Exception):
    """A claim in a header that can't be true."""


class _Reader:
    """Reads one value after the other."""

    def __init__(self, content: mmap.mmap, size: int) -> None:
        self.content = content
        self.size = size
        self.at = 0
        self.order = "<"
        self.count_sign = "Q"
        self.items_left = MOST_ITEMS

    def number(self, sign: str) -> Any:
        """Return the next number, in the byte order of the file."""
        form = self.order + sign
        begin = self.skip(struct.calcsize(form))
        return struct.unpack_from(form, self.content, begin)[0]

    def skip(self, length: int) -> int:
        """Pass over bytes, and return where they begin."""
        begin = self.at
        if length > self.size - begin:
            raise _Invalid(f"its header needs {begin + length:,} bytes, but the file has {self.size:,}")
        self.at = begin + length
        return begin

    def count(self) -> int:
        """Return the next length or count."""
        return int(self.number(self.count_sign))

    def text(self) -> str:
        """Return the next text; what is too long to be shown is left out."""
        length = self.count()
        begin = self.skip(length)
        kept = self.content[begin : begin + min(length, LONGEST_TEXT)]
        return kept.decode("utf-8", errors="backslashreplace")

    def skip_texts(self, number: int) -> None:
        """Pass over texts. This is where the time goes, so the loop calls nothing of ours."""
        self.charge(number)
        form = struct.Struct(self.order + self.count_sign)
        read, width, content, at, last = form.unpack_from, form.size, self.content, self.at, self.size
        for _ in range(number):
            if at > last - width:
                raise _Invalid(f"a list of {number:,} texts goes beyond its end")
            at += read(content, at)[0] + width
        self.at = min(at, last)  # what comes next finds nothing left

    def charge(self, number: int) -> None:
        """Refuse a header that would take forever."""
        self.items_left -= number
        if self.items_left < 0:
            raise _Invalid(f"its lists claim more than {MOST_ITEMS:,} entries")


def _parse(reader: _Reader, path: Path) -> Header:
    version = _parse_version(reader, path)
    tensors, fields = reader.count(), reader.count()
    reader.charge(tensors)
    reader.charge(fields)
    metadata: dict[str, Any] = {}
    for _ in range(fields):
        key = reader.text()
        if key in metadata:
            raise _Invalid(f"its header has {brief(key)} twice")
        metadata[key] = _parse_value(reader, reader.number("I"))
    alignment = metadata.get(ALIGNMENT, DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise _Invalid(f"its alignment is {brief(alignment)}, which is no power of 2")
    entries = tuple(_parse_entry(reader, path) for _ in range(tensors))
    _check_offsets(entries, alignment, reader.size - -(-reader.at // alignment) * alignment)
    return Header(version, reader.order == ">", metadata, entries)


def _parse_version(reader: _Reader, path: Path) -> int:
    if reader.content[: reader.skip(4) + 4] != MAGIC:
        raise _Invalid("it doesn't begin with GGUF")
    version = reader.number("I")
    if version & 0xFFFF == 0:  # then these are its last bytes
        reader.order, reader.at = ">", len(MAGIC)
        version = reader.number("I")
    if version not in VERSIONS:
        raise NnkitError(
            f"{path} is of version {version} of GGUF, and nnkit reads 1 to {VERSIONS[-1]}",
            "update nnkit, or convert the file with llama.cpp",
        )
    if version == 1:
        reader.count_sign = "I"
    return int(version)


def _parse_value(reader: _Reader, kind: int, level: int = 0) -> Any:
    if kind == TEXT:
        return reader.text()
    if kind == LIST:
        return _parse_list(reader, level + 1)
    return reader.number(_scalar(kind)[1])


def _scalar(kind: int) -> tuple[str, str]:
    if kind not in SCALARS:
        raise _Invalid(f"its metadata has a value of the unknown type {kind}")
    return SCALARS[kind]


def _parse_list(reader: _Reader, level: int) -> Any:
    """Return the numbers of a short list; of any other what it holds."""
    if level > MOST_LEVELS:
        raise _Invalid("its lists are nested too deeply")
    kind, number = reader.number("I"), reader.count()
    if kind == TEXT:
        reader.skip_texts(number)
        return f"{format_count(number)} texts"
    if kind == LIST:
        reader.charge(number)
        for _ in range(number):
            _parse_list(reader, level + 1)
        return f"{format_count(number)} lists"
    name, sign = _scalar(kind)
    if number > LONGEST_LIST:
        reader.skip(number * struct.calcsize(reader.order + sign))
        return f"{format_count(number)} of {name}"
    return [reader.number(sign) for _ in range(number)]


def _parse_entry(reader: _Reader, path: Path) -> Entry:
    name = reader.text()
    axes = reader.number("I")
    if axes > MOST_AXES:
        raise _Invalid(f"{brief(name)} has {axes:,} axes")
    sizes = [reader.count() for _ in range(axes)]  # the innermost first
    if any(size >= 2**63 for size in sizes):
        raise _Invalid(f"{brief(name)} has the shape {brief(sizes)}")
    kind, begin = reader.number("I"), reader.number("Q")
    if kind not in TYPES:
        raise NnkitError(
            f"{path} has {brief(name)} in type {kind}, which nnkit doesn't know",
            "update nnkit; if the file is older than it, download it again",
        )
    dtype, block, block_bytes = TYPES[kind]
    if (sizes[0] if sizes else 1) % block:
        raise _Invalid(f"{brief(name)} has rows of {sizes[:1]} elements, and {dtype} has blocks of {block}")
    return Entry(name, dtype, tuple(reversed(sizes)), begin, begin + math.prod(sizes) // block * block_bytes)


def _check_offsets(entries: tuple[Entry, ...], alignment: int, space: int) -> None:
    """Check that the tensors have names of their own, and don't overlap or go beyond the file."""
    names: set[str] = set()
    reached, before = 0, ""
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.name in names:
            raise _Invalid(f"its header has {brief(entry.name)} twice")
        names.add(entry.name)
        if entry.begin % alignment:
            raise _Invalid(f"{brief(entry.name)} begins at {entry.begin:,}, no multiple of {alignment}")
        if entry.begin < reached:
            raise _Invalid(f"{brief(entry.name)} begins before {brief(before)} ends")
        if entry.end > space:
            raise _Invalid(
                f"{brief(entry.name)} ends at byte {entry.end:,} of its values, but it has {max(space, 0):,}"
            )
        reached, before = entry.end, entry.name
