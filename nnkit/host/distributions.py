"""Which version of a distribution is installed, and a fingerprint of its files. Torch-free.

Read from the files of the distribution, as `entry_points.py` does; what isn't usual is left to
importlib.metadata.
"""

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from nnkit.host.entry_points import find_plain


class Distribution(NamedTuple):
    """An installed distribution: its version, and the folder of its metadata, `""` if that isn't known."""

    version: str
    folder: str


def find_distribution(name: str) -> Distribution | None:
    """Return a distribution by its name, or None if it isn't installed."""
    return _find(name, tuple(filter(_is_text, sys.path)))


def fingerprint(distribution: Distribution | None, package: Path) -> str:
    """Return a digest that is another one as soon as another version of the package is installed.

    That is the digest of RECORD, the list of its files with a digest of each. Where RECORD isn't about the
    files of this folder, as in an editable install, it is a digest of their names, sizes and dates.
    """
    if distribution is not None and Path(distribution.folder).parent == package.parent:
        try:
            return digest(Path(distribution.folder, "RECORD").read_bytes())
        except OSError:
            pass
    return digest("\n".join(sorted(_described(str(package)))).encode())


def digest(data: bytes) -> str:
    """Return the SHA-256 of data; if possible without hashlib, which loads OpenSSL, as `random` does it."""
    for name in ("_sha2", "_sha256", "hashlib"):
        with suppress(ImportError):
            hexadecimal: str = import_module(name).sha256(data).hexdigest()
            return hexadecimal
    raise ImportError("this Python has no SHA-256")


def _described(folder: str) -> Iterator[str]:
    """Yield a line for each Python file of a folder; what can't be read is left out."""
    for place, _, files in os.walk(folder):
        for file in files:
            if file.endswith(".py"):
                path = f"{place}{os.sep}{file}"
                try:
                    status = os.stat(path)  # noqa: PTH116 - for thousands of files, Path takes twice as long
                except OSError:
                    continue
                yield f"{path[len(folder) :]}\t{status.st_size}\t{status.st_mtime_ns}"


@functools.cache
def _find(name: str, path: tuple[str, ...]) -> Distribution | None:
    """Return the distribution; the answer is kept for this search path."""
    plain = find_plain(name)
    if plain is not None:
        folder, owner = plain
        return Distribution(owner.version, folder) if owner else None
    return _ask_importlib(name)


def _ask_importlib(name: str) -> Distribution | None:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution(name)
        return Distribution(found.version or "", str(getattr(found, "_path", "")))
    except PackageNotFoundError:
        return None
    except Exception:  # damaged metadata: `nnkit plugins` and pip report it
        return Distribution("", "")


def _is_text(entry: object) -> bool:
    return isinstance(entry, str)
