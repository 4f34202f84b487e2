"""RefreshRequest -> RefreshReport: measure what the catalogs don't know about the installed versions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from nnkit import __version__
from nnkit.contract.catalog import CatalogRow
from nnkit.errors import NnkitError, UsageProblem
from nnkit.host.cache import write_whole
from nnkit.host.catalog import as_line, as_text, measured_file, read_catalog
from nnkit.host.distributions import find_distribution
from nnkit.host.plugin_manager import PluginManager
from nnkit.verbs.catalog.measuring import measure_all

TIME_LIMIT = 300.0  # seconds for a name; the largest take a tenth of it on two busy cores

Finished = Callable[[str, CatalogRow, int, int], None]


@dataclass(frozen=True, kw_only=True)
class RefreshRequest:
    """Measure what isn't known.

    Attributes:
        manager: The plugins.
        names: The architectures, by qualified name.
        output: A catalog to complete or make. None: the user's own, in the cache folder.
        quick: Whether parameters, multiply-adds and activations are enough. The rest takes most of the time:
            what a training step needs, and what an adapter can only find by trying.
        time_limit: Seconds for each name.
        jobs: How many processes measure at once.
        finished: Called with each name, its row, its number, and how many are planned.
    """

    manager: PluginManager
    names: Sequence[str]
    output: Path | None = None
    quick: bool = False
    time_limit: float = TIME_LIMIT
    jobs: int = 1
    finished: Finished | None = None


@dataclass(frozen=True)
class RefreshReport:
    """What came of it.

    Attributes:
        measured: How many names have figures now that had none.
        failed: Why the others have none, by name.
        known: How many names had figures already.
    """

    measured: int
    failed: Mapping[str, str]
    known: int


def refresh(request: RefreshRequest) -> RefreshReport:
    """Measure the names without a row of the installed version, smallest first as far as sizes are known.

    Each row is kept as soon as it is measured, so a rerun continues where an earlier one was interrupted.
    """
    prefixes = list(dict.fromkeys(name.partition("/")[0] for name in request.names))
    if request.output and len(prefixes) > 1:
        raise UsageProblem(
            f"--output is for one zoo, and the names are of {', '.join(prefixes)}",
            f"choose one: nnkit list --refresh {prefixes[0]}/ --output {request.output}",
        )
    files = {prefix: _CatalogFile(request, prefix) for prefix in prefixes}
    waiting = [name for prefix in prefixes for name in files[prefix].missing()]
    failed: dict[str, str] = {}
    number = 0
    try:
        measuring = measure_all(waiting, request.quick, request.time_limit, request.jobs)
        with closing(measuring):
            for name, measured in measuring:
                number += 1
                row = files[name.partition("/")[0]].add(measured)
                if row.macs is None:
                    failed[name] = row.method
                if request.finished:
                    request.finished(name, row, number, len(waiting))
    except KeyboardInterrupt:
        message = f"interrupted; {number} of {len(waiting)} measured"
        raise NnkitError(message, "repeat the command to continue") from None
    finally:
        for file in files.values():
            file.close()
    return RefreshReport(number - len(failed), failed, len(request.names) - len(waiting))


class _CatalogFile:
    """The file that the rows of a zoo go to: they are added at its end, and sorted when it is closed."""

    def __init__(self, request: RefreshRequest, prefix: str) -> None:
        manager = request.manager
        path = request.output or measured_file(manager.cache, prefix)
        if path is None:
            raise UsageProblem("there is no cache folder to keep rows in", "name a file: --output FILE")
        self._path, self._prefix, self._quick = path, prefix, request.quick
        namespace = manager.namespaces().get(prefix)
        self._is_probed = namespace is not None and bool(namespace.probe)
        self._names = [name.partition("/")[2] for name in request.names if name.partition("/")[0] == prefix]
        self._version = manager.version_of(prefix)
        self._known = manager.catalog(prefix)
        self._versions = versions_for(manager, prefix)
        catalog = read_catalog(path)
        # A release is measured with one nnkit and one torch; a user's rows may have grown over some.
        outdated = request.output is not None and catalog.versions != self._versions
        self._rows = {} if outdated else dict(catalog.rows)
        # What nnkit ships is known to the user's own catalog, not to one that is made to be shipped.
        self._counted = self._rows if request.output else {**self._known, **self._rows}
        self._write()
        self._lines = path.open("a", encoding="utf-8", newline="\n")

    def missing(self) -> Iterator[str]:
        """Yield the names that have to be measured."""
        for name in sorted(self._names, key=self._size):
            row = self._counted.get(name)
            if row is None or not self._is_complete(row):
                yield f"{self._prefix}/{name}"

    def _size(self, name: str) -> tuple[float, str]:
        row = self._known.get(name)
        return (float("inf") if row is None or row.parameters is None else row.parameters), name

    def _is_complete(self, row: CatalogRow) -> bool:
        if row.version != self._version or row.macs is None or row.activations is None:
            return False
        is_probed = not self._is_probed or bool(row.sizes or row.detail)
        return self._quick or (row.training is not None and is_probed)

    def add(self, row: CatalogRow) -> CatalogRow:
        """Keep a row, and return it with its version; figures that are known stay where measuring fails."""
        known = self._rows.get(row.name)
        if row.macs is None and known and known.macs is not None and known.version == self._version:
            return replace(row, version=self._version)
        row = self._rows[row.name] = replace(row, version=self._version)
        self._lines.write(f"{as_line(row)}\n")
        self._lines.flush()
        return row

    def close(self) -> None:
        """Sort the rows."""
        self._lines.close()
        self._write()

    def _write(self) -> None:
        if not write_whole(self._path, as_text(self._versions, self._rows.values())):
            raise NnkitError(f"can't write {self._path}", "choose a file in a folder that you can write to")


def versions_for(manager: PluginManager, prefix: str) -> dict[str, str]:
    """Return the versions that the figures of a zoo depend on, by distribution."""
    namespace = manager.namespaces().get(prefix)
    distribution = namespace.distribution if namespace else manager.plugins[prefix].distribution
    torch = find_distribution("torch")
    return {
        distribution: manager.version_of(prefix),
        "nnkit": __version__,
        "torch": torch.version.partition("+")[0] if torch else "",
    }
