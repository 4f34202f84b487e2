"""Entry points read from their files, without importlib.metadata. Torch-free.

Importing importlib.metadata takes longer than all that `nnkit list` does besides: it brings parsers of
mail, CSV and ZIP. A usual environment needs none of them. Here each folder of `sys.path` is listed, each
`entry_points.txt` split into lines, and `METADATA` read up to its first blank line.

What isn't usual isn't guessed at: `read_plain` then returns None, and the caller asks importlib.metadata.
That is so for archives and eggs on the path, other finders, files with anything but `[group]` and
`name = value`, and whatever can't be read. So all that could differ between versions of Python, or needs an
error message, comes from there.

    site-packages/
      nnkit-1.0.dist-info/entry_points.txt    [nnkit]               -> Point("vision", "nnkit_vision.plugin")
                                              vision = nnkit_vision.plugin
      nnkit-1.0.dist-info/METADATA            Name: nnkit           -> Owner("nnkit", "1.0")
                                              Version: 1.0
"""

import functools
import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

INFO = (".dist-info", ".egg-info")
GROUP_LINE = re.compile(r"\[([\w.:-]+)\]", re.ASCII)
# Python 3.10 reads INI files here, where `%` and lines that begin with a space or a semicolon are special.
POINT_LINE = re.compile(r"([^\s=\[#;%][^=%]*?)\s*=\s*([^\s%][^%]*)", re.ASCII)
UNUSUAL_CHARACTER = re.compile(r"[^\t\n -~]")
VALUE = re.compile(r"(?P<module>[\w.]+)\s*(:\s*(?P<attributes>[\w.]+)\s*)?(\[.*\]\s*)?", re.ASCII)
HEADER_LINE = re.compile(r"([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)", re.ASCII)
PLAIN_HEADER = re.compile(r"[\w.!+-]+", re.ASCII)


class Point(NamedTuple):
    """An entry point: what `importlib.metadata.EntryPoint` is, as far as nnkit uses it."""

    name: str
    value: str
    group: str

    def load(self) -> Any:
        """Import the module and return it, or the attribute of it that is named after the colon."""
        parts = VALUE.fullmatch(self.value)
        if parts is None:
            raise ValueError(f"{self.value!r} names no module")
        attributes = (parts["attributes"] or "").split(".")
        return functools.reduce(getattr, filter(None, attributes), import_module(parts["module"]))


class Owner(NamedTuple):
    """The distribution that an entry point comes from."""

    name: str
    version: str


class _UnusualError(Exception):
    """Something that importlib.metadata must read."""


def find_plain(distribution: str) -> tuple[str, Owner | None] | None:
    """Return the folder of metadata of a distribution, and what it says; None for an unusual layout.

    The folder is empty, and there is no owner, if it isn't installed.
    """
    if _has_other_finders():
        return None
    try:
        folder = _folders_by_name(tuple(sys.path), os.getcwd()).get(_normalized(distribution))  # noqa: PTH109
        return (folder, _owner_in(folder)) if folder else ("", None)
    except (_UnusualError, OSError, ValueError, TypeError):
        return None


@functools.lru_cache(1)
def _folders_by_name(path: tuple[str, ...], working_folder: str) -> dict[str, str]:
    """Return the folder of metadata of each distribution on this path, by its normalized name.

    working_folder: the path may begin with an empty entry, which means it.
    """
    return {_normalized(_name_in(os.path.basename(each))): each for each in _metadata_folders()}  # noqa: PTH119


def read_plain(group: str) -> list[tuple[Point, Owner]] | None:
    """Return the entry points of a group in all installed distributions, or None for an unusual layout."""
    if _has_other_finders():
        return None
    try:
        return [
            (point, owner)
            for folder in _metadata_folders()
            if (points := _points_in(folder, group))
            for owner in [_owner_in(folder)]
            for point in points
        ]
    except (_UnusualError, OSError, ValueError):  # a UnicodeDecodeError is a ValueError
        return None


def _has_other_finders() -> bool:
    """Whether something besides the folders of `sys.path` may hold distributions."""
    return any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path)


def _name_in(child: str) -> str:
    """Return the distribution whose metadata a folder of this name holds: `net-1.0.dist-info` -> `net`."""
    return child.rpartition(".")[0].partition("-")[0]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _metadata_folders() -> Iterator[str]:
    """Yield the folder of metadata of each distribution; the first of a name on the path hides others."""
    names: dict[str, str] = {}
    for entry in sys.path:
        if not isinstance(entry, str) or entry.lower().endswith(".egg"):
            raise _UnusualError
        try:
            children = os.listdir(entry or ".")  # noqa: PTH208 (without pathlib, which costs 5 modules)
        except FileNotFoundError:
            continue
        for child in children:
            if not child.lower().endswith(INFO):
                continue
            name = _name_in(child)
            if "-" not in child.rpartition(".")[0] or not child.endswith(INFO):
                raise _UnusualError
            normalized = _normalized(name)
            if normalized not in names:
                names[normalized] = name
                yield os.path.join(entry, child)  # noqa: PTH118
            elif names[normalized] != name:  # whether that hides it depends on the version of Python
                raise _UnusualError


def _points_in(folder: str, group: str) -> list[Point]:
    """Return the entry points of one distribution that are in a group."""
    try:
        text = _read(folder, "entry_points.txt")
    except (FileNotFoundError, NotADirectoryError):  # an old .egg-info may be a file
        return []
    if UNUSUAL_CHARACTER.search(text):
        raise _UnusualError
    points: list[Point] = []
    groups, names, current = set[str](), set[str](), ""
    for line in text.split("\n"):
        if not line or line.startswith("#"):
            continue
        if header := GROUP_LINE.fullmatch(line.rstrip()):
            current, names = header[1], set()
            if current in groups or current == "DEFAULT":
                raise _UnusualError
            groups.add(current)
            continue
        pair = POINT_LINE.fullmatch(line.rstrip())
        if pair is None or not current or pair[1] in names:
            raise _UnusualError
        names.add(pair[1])
        if current == group:
            if not VALUE.fullmatch(pair[2]):
                raise _UnusualError
            points.append(Point(pair[1], pair[2], group))
    return points


def _owner_in(folder: str) -> Owner:
    """Return the distribution that a folder of metadata is about."""
    head, _, _ = _read(folder, "METADATA").partition("\n\n")
    found: dict[str, str] = {}
    unfolded = re.sub(
        r"\n(?=[ \t])", " ", head.removesuffix("\n")
    )  # what begins with a space continues a line
    for line in unfolded.split("\n"):
        header = HEADER_LINE.fullmatch(line)
        if header is None:
            raise _UnusualError
        found.setdefault(header[1].lower(), header[2])
    name, version = found.get("name", ""), found.get("version", "")
    if not PLAIN_HEADER.fullmatch(name) or not PLAIN_HEADER.fullmatch(version):
        raise _UnusualError
    return Owner(name, version)


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="utf-8") as file:  # noqa: PTH118, PTH123
        return file.read()
