"""A stranger's `.pt2` -> an archive that torch reads without unpickling, compiling or importing anything.

`torch.export.load` unpickles several members, falls back from `weights_only` to full unpickling, and loads
compiled libraries. So it never sees the file itself. It is given a second archive with only the members
that were checked, each once. That also defeats tricks with names that occur twice, or that two zip readers
see differently.
"""

import io
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from nnkit.errors import NnkitError
from nnkit.models import metadata
from nnkit.verbs.exporting.pt2_program import Unsafe, checked_program

ROOT = "archive"
PROGRAM = "models/model.json"
SAMPLES = "data/sample_inputs/model.pt"
CONFIGS = {
    "data/weights/model_weights_config.json": re.compile(r"weight_\d+"),
    "data/constants/model_constants_config.json": re.compile(r"tensor_\d+"),
}
"""The members that list the tensors of the program, and the names of the members with their bytes."""
VERSIONS = {
    "archive_format": re.compile(rb"pt2"),
    "archive_version": re.compile(rb"0"),
    ".data/version": re.compile(rb"\d{1,4}\n?"),
}
UNREAD = re.compile(r"extra/.*|\.data/serialization_id|byteorder")
"""Members that are not copied: torch doesn't need them."""
LARGEST_READ = 2**28  # bytes of a member that is read at once: the program, the list of its tensors
CHUNK = 2**22  # bytes copied at a time


class Source:
    """The members of a stranger's archive, by their names below its one folder.

    Raises Unsafe for anything that a different zip reader may see differently, or that unpacks to more than
    the size of the file.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive, self._members = archive, {}
        folders, seen = set(), set()
        for member in archive.infolist():
            folder, _, name = member.filename.partition("/")
            if name.lower() in seen:  # torch's reader doesn't distinguish upper from lower case
                raise Unsafe(f"it holds {name} twice")
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise Unsafe(f"its member {name} is compressed, which torch never does")
            folders.add(folder)
            seen.add(name.lower())
            self._members[name] = member
        if len(folders) != 1:
            raise Unsafe("its members are not in one folder, as those of torch are")
        if sum(member.file_size for member in self._members.values()) > size:
            raise Unsafe("its members overlap")
        self.names = frozenset(self._members)

    def size(self, name: str) -> int:
        """Return the size of a member in bytes."""
        return self._members[name].file_size

    def read(self, name: str) -> bytes:
        """Return the content of a small member."""
        if name not in self.names:
            raise Unsafe(
                f"it has no {name}, so it is not a program, or has an older format that needs unpickling"
            )
        if self.size(name) > LARGEST_READ:
            raise Unsafe(f"its {name} takes {self.size(name):,} bytes")
        return self._archive.read(self._members[name])

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON member."""
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise Unsafe(f"its {name} can't be read as JSON") from error

    def copy(self, name: str, target: IO[bytes]) -> None:
        """Copy a member of any size."""
        with self._archive.open(self._members[name]) as content:
            shutil.copyfileobj(content, target, CHUNK)


@contextmanager
def checked_archive(path: Path) -> Iterator[IO[bytes]]:
    """Yield an archive that is safe for `torch.export.load`: the members of `path`, checked and copied.

    The copy is a file without a name, so nothing is left behind however the process ends.

    Raises NnkitError for a damaged file, and for one whose code torch would run.
    """
    with tempfile.TemporaryFile() as copy:
        try:
            with zipfile.ZipFile(path) as archive:
                _copy_checked(Source(archive, path.stat().st_size), copy)
        except Unsafe as error:
            raise NnkitError(
                f"{path} was not opened: {error}",
                "only graphs of torch's operators and plain tensors are read; ask for a different format",
            ) from error
        except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError, RuntimeError) as error:
            raise metadata.damaged(path, error) from error
        copy.seek(0)
        yield copy


def _copy_checked(source: Source, copy: IO[bytes]) -> None:
    """Check every member, and write the ones that torch needs to `copy`."""
    payloads: set[str] = set()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as safe:
        for name, pattern_of_version in VERSIONS.items():
            version = source.read(name)
            if not pattern_of_version.fullmatch(version):
                raise Unsafe(f"its {name} is unknown")
            safe.writestr(f"{ROOT}/{name}", version)
        safe.writestr(f"{ROOT}/{PROGRAM}", json.dumps(checked_program(source.read_json(PROGRAM))))
        for name, pattern in CONFIGS.items():
            config = source.read_json(name)
            payloads |= _check_payloads(config, pattern, name.rpartition("/")[0], source)
            safe.writestr(f"{ROOT}/{name}", json.dumps(config))
        samples = io.BytesIO()
        torch.save(_samples(source.read(SAMPLES)), samples)
        safe.writestr(f"{ROOT}/{SAMPLES}", samples.getvalue())
        for name in sorted(payloads):
            with safe.open(f"{ROOT}/{name}", "w", force_zip64=True) as target:
                source.copy(name, target)
    for name in source.names - payloads - VERSIONS.keys() - CONFIGS.keys() - {PROGRAM, SAMPLES}:
        if not UNREAD.fullmatch(name):
            raise Unsafe(f"its member {name} is not part of a program of graphs and plain tensors")


def _check_payloads(config: Any, pattern: re.Pattern[str], folder: str, source: Source) -> set[str]:
    """Check that every tensor is bytes and a shape; return the members that hold the bytes."""
    payloads = set()
    try:
        for name, payload in config["config"].items():
            if payload.get("use_pickle") is not False:
                raise Unsafe(f"its tensor {name} is pickled")
            member = f"{folder}/{payload['path_name']}"
            if not pattern.fullmatch(payload["path_name"]) or member not in source.names:
                raise Unsafe(f"its tensor {name} is in {member}, which can't hold a tensor")
            sizes = [int(size["as_int"]) for size in payload["tensor_meta"]["sizes"]]
            # torch would make zeros of that shape, however large.
            if not source.size(member) and 0 not in sizes:
                raise Unsafe(f"its tensor {name} has no values")
            payloads.add(member)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Unsafe("the list of its tensors can't be read") from error
    return payloads


def _samples(content: bytes) -> object:
    """Return the inputs that the program was traced on: tensors and plain data, read by `weights_only`."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            sizes = [member.file_size for member in inner.infolist()]
        if sum(sizes) > len(content):
            raise Unsafe("its sample inputs unpack to more than their size")
        samples = torch.load(io.BytesIO(content), weights_only=True)
    except Unsafe:
        raise
    except Exception as error:  # whatever torch raises, nothing else is tried
        raise Unsafe("its sample inputs hold more than tensors and plain data") from error
    _check_names(samples)
    return samples


def _check_names(value: object, depth: int = 0) -> None:
    """Check that keys are identifiers: torch puts them into code that it runs."""
    if depth > 50:
        raise Unsafe("its sample inputs are nested too deeply")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, int) and not (isinstance(key, str) and key.isidentifier()):
                raise Unsafe(f"its sample inputs have the key {key!r}")
    if isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            _check_names(part, depth + 1)
