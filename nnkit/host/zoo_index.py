"""The names of a zoo: read from its files once, then from the user's cache folder. Torch-free.

Nothing of the zoo is imported. What is kept holds for the version of the zoo and of its adapter that it was
made with, so nothing has to be cleared by hand:

    ~/.cache/nnkit/zoos/timm-1.0.31-5b0c6a1f22e3.tsv      nnkit names 1<tab>1371<tab>2774389036
                                                          bat_resnext26ts<tab>byoanet
                                                          …
"""

import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from nnkit import __version__
from nnkit.contract.architecture import bounded
from nnkit.contract.loading import load
from nnkit.contract.namespace import MEMBER, Namespace
from nnkit.contract.text import plural
from nnkit.contract.visible import brief
from nnkit.host.cache import keep_newest, write_whole
from nnkit.host.distributions import digest, find_distribution, fingerprint
from nnkit.host.isolation import Guard, heavy_modules, shared_members, time_limit

PATIENCE = 60  # seconds that an adapter may take to read the names
MOST_KEPT = 8  # lists of a zoo: some versions in some environments
HEADER = "nnkit names 1"


class Names(NamedTuple):
    """The names of a zoo.

    families: the family of each architecture, by name. faults: what its adapter did wrong on the way.
    """

    families: dict[str, str]
    faults: tuple[str, ...] = ()


def package_folder(namespace: Namespace) -> Path | None:
    """Return the folder of a zoo's package, or None if it isn't installed."""
    if namespace.package in sys.modules and getattr(sys.modules[namespace.package], "__path__", None):
        return Path(next(iter(sys.modules[namespace.package].__path__)))
    try:
        spec = find_spec(namespace.package)
    except (ImportError, ValueError):  # a parent package is missing, or a module has lost its spec
        return None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) if folders else None


def installed_version(namespace: Namespace) -> str:
    """Return the version of the distribution of a zoo; empty if there is none, as for a mere folder."""
    found = find_distribution(namespace.distribution)
    return found.version if found else ""


def read_names(namespace: Namespace, folder: Path, cache: Path | None = None) -> Names:
    """Return the names of a zoo: those in the cache, or else those that its adapter reads, which are kept.

    folder: of the package. cache: the user's cache folder. Whatever the adapter raises comes through.
    """
    if cache is None:
        return _ask_adapter(namespace, folder)
    file = cache / "zoos" / f"{_stem(namespace)}-{_key(namespace, folder)}.tsv"
    families = _load(file)
    if families is not None:
        return Names(families)
    names = _ask_adapter(namespace, folder)
    if write_whole(file, _as_text(names.families)):
        keep_newest(file.parent, f"{namespace.prefix}-*.tsv", MOST_KEPT)
    return names


def _stem(namespace: Namespace) -> str:
    return re.sub(r"[^\w.+-]", "_", f"{namespace.prefix}-{installed_version(namespace)}", flags=re.ASCII)


def _key(namespace: Namespace, folder: Path) -> str:
    """Return a digest of all that the names follow from: the files of the zoo, and those of its adapter."""
    adapter = find_spec(namespace.names.partition(":")[0])
    origin = Path(adapter.origin) if adapter and adapter.origin else None
    try:
        status = origin.stat() if origin else None
    except OSError:
        status = None
    parts = (
        fingerprint(find_distribution(namespace.distribution), folder),
        str(folder),
        namespace.names,
        __version__,
        f"{status.st_size} {status.st_mtime_ns}" if status else "",
    )
    return digest("\n".join(parts).encode())[:12]


def _load(file: Path) -> dict[str, str] | None:
    """Return the names in a file of the cache, or None if it has none, or isn't whole."""
    try:
        header, _, body = file.read_bytes().partition(b"\n")
        title, count, checksum = header.decode().split("\t")
        if title != HEADER or int(checksum) != zlib.crc32(body):
            return None
        families = dict(line.split("\t") for line in body.decode().splitlines())
        is_ours = all(MEMBER.fullmatch(name) and family.isprintable() for name, family in families.items())
        return families if is_ours and len(families) == int(count) else None
    except (OSError, ValueError):  # a UnicodeDecodeError is a ValueError
        return None


def _as_text(families: dict[str, str]) -> str:
    body = "".join(f"{name}\t{family}\n" for name, family in families.items())
    return f"{HEADER}\t{len(families)}\t{zlib.crc32(body.encode())}\n{body}"


def _ask_adapter(namespace: Namespace, folder: Path) -> Names:
    """Return what the adapter reads; what it prints or replaces is undone, and is among the faults."""
    before, guard = heavy_modules(), Guard(shared_members())
    with guard, time_limit(PATIENCE):
        given = bounded(load(namespace.names)(folder), namespace.names)
    families, refused = _sort_out(given)
    return Names(families, tuple(_faults(guard, sorted(heavy_modules() - before), refused)))


def _sort_out(given: Iterable[object]) -> tuple[dict[str, str], list[object]]:
    """Return the family of each name, and what can't be a name."""
    families: dict[str, str] = {}
    refused: list[object] = []
    for each in given:
        match each:
            case (str(name), str(family)) if MEMBER.fullmatch(name):
                families[name] = "".join(filter(str.isprintable, " ".join(family.split())))
            case _:
                refused.append(each)
    return families, refused


def _faults(guard: Guard, heavy: list[str], refused: list[object]) -> Iterator[str]:
    yield from guard.faults()
    if heavy:
        yield f"it imports {', '.join(heavy)}, which takes long"
    if refused:
        yield f"{plural(len(refused), 'name')} can't be typed, such as {brief(refused[0])}"
