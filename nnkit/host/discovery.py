"""The entry points of the installed distributions, each read under its own guard. Torch-free.

A distribution with damaged metadata is reported, and the others are read.
"""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnkit.errors import first_line
from nnkit.host.entry_points import Point, read_plain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import Distribution, EntryPoint


@dataclass(frozen=True)
class Installed:
    """An entry point, with the name and the version of its distribution."""

    point: "EntryPoint | Point"
    distribution: str
    version: str


@dataclass(frozen=True)
class Damaged:
    """A distribution that can't be read: the folder of its metadata, its plugin if known, and the reason."""

    folder: str
    plugin: str
    message: str

    @property
    def hint(self) -> str:
        """What the user can do about it."""
        return f"reinstall it, or delete {self.folder}"


def installed_points(group: str, name: str = "") -> tuple[list[Installed], list[Damaged]]:
    """Return the entry points of a group, only those of `name` if it is given, and what can't be read."""
    plain = read_plain(group)
    if plain is not None:
        return [Installed(point, *owner) for point, owner in plain if name in ("", point.name)], []
    return _ask_importlib(group, name)


def _ask_importlib(group: str, name: str) -> tuple[list[Installed], list[Damaged]]:
    """Do the same for any layout, and with the reason where something can't be read."""
    from importlib.metadata import entry_points

    damaged: list[Damaged] = []
    points: Iterable[EntryPoint]
    try:
        points = entry_points(group=group)
    except Exception:  # one damaged file fails all of them: find out which
        points, damaged = _read_one_by_one()
    wanted = [point for point in points if point.group == group and name in ("", point.name)]
    installed, nameless = with_distributions(wanted)
    return installed, [*damaged, *nameless]


def _read_one_by_one() -> "tuple[list[EntryPoint], list[Damaged]]":
    """Return the entry points of every distribution that can be read, and those that can't."""
    from importlib.metadata import distributions

    points: list[EntryPoint] = []
    damaged = []
    names = set()
    for distribution in distributions():
        try:
            own = list(distribution.entry_points)
        except Exception as error:
            damaged.append(Damaged(_folder(distribution), "", f"entry_points.txt: {first_line(error)}"))
            continue
        try:
            name = distribution.name
        except Exception:  # reported later if it has an entry point of the group
            name = None
        if name is None or name not in names:  # the first on the path hides the others
            points += own
            names.add(name)
    return points, damaged


def with_distributions(points: "Iterable[EntryPoint]") -> tuple[list[Installed], list[Damaged]]:
    """Return entry points with their distributions, and those whose distribution can't be read."""
    installed, damaged = [], []
    identity = functools.cache(_identity)
    for point in points:
        try:
            name, version = identity(point.dist)
        except Exception as error:
            damaged.append(Damaged(_folder(point.dist), point.name, f"METADATA: {first_line(error)}"))
        else:
            installed.append(Installed(point, name, version))
    return installed, damaged


def _identity(distribution: "Distribution | None") -> tuple[str, str]:
    if distribution is None:
        return "unknown", ""
    metadata = distribution.metadata
    if not metadata["Name"]:
        raise ValueError("it has no Name")
    return metadata["Name"], metadata["Version"] or ""


def _folder(distribution: "Distribution | None") -> str:
    """Return where the metadata of a distribution is."""
    # importlib has no public name for it; pip uses the same.
    return str(getattr(distribution, "_path", "an unknown folder"))
