"""Query -> CatalogReport: the architectures whose figures are within bounds. Torch-free."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from nnkit.contract.catalog import CatalogRow
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.host.plugin_manager import PluginManager
from nnkit.host.zoo_index import package_folder
from nnkit.host.zoos import has_wildcard, matches

SIZE = re.compile(r"\d+(?:[xX×*, ]+\d+)*")
FIGURES = ("parameters", "macs", "activations", "training")
State = Literal["current", "outdated", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which architectures to show, and in which order.

    Attributes:
        pattern: Part of a name or family, or a pattern with `*`; `timm/` for all of a zoo.
        least, most: Bounds of figures, by the name of the figure.
        input: The size of the default input, such as `224` or `3x224x224`.
        family, task: Text that these contain.
        has_weights: Whether only those that have published weights are shown.
        sort: A field of CatalogRow.
        reverse: Whether the largest come first.
        limit: How many to show. None: all.
    """

    pattern: str = ""
    least: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    input: str = ""
    family: str = ""
    task: str = ""
    has_weights: bool = False
    sort: str = "name"
    reverse: bool = False
    limit: int | None = None


@dataclass(frozen=True)
class Entry:
    """An architecture and what is known of it.

    Attributes:
        name: Its qualified name.
        row: Its figures.
        state: `current` for figures of the installed version, `outdated` for those of another one, `unknown`
            where there is no row.
    """

    name: str
    row: CatalogRow
    state: State = "current"

    def figure(self, name: str) -> int | None:
        """Return one of its figures, None if that isn't known."""
        value: int | None = getattr(self.row, name)
        return value or None if name == "training" else value

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            **asdict(self.row),
            "name": self.name,
            "training": self.figure("training"),
            "state": self.state,
        }


@dataclass(frozen=True)
class CatalogReport:
    """The architectures that a query found.

    Attributes:
        entries: Those that are shown, in order.
        found: How many there are with those beyond the limit.
        unknown: How many were left out because a figure that has a bound isn't known, by figure.
        outdated: The prefixes with figures of another version: that version and the installed one.
        absent: The prefixes of zoos that aren't installed, with the command that installs each.

    Example:

        from nnkit.verbs.catalog.selection import Query, select

        report = select(manager, Query(pattern="lenet", most={"parameters": 61_000}))
        assert [entry.name for entry in report.entries] == ["vision/lenet-1998"]
    """

    SCHEMA = "nnkit.catalog/1"

    entries: tuple[Entry, ...]
    found: int
    unknown: Mapping[str, int]
    outdated: Mapping[str, tuple[str, str]]
    absent: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "found": self.found,
            "unknown": dict(self.unknown),
            "architectures": [entry.to_dict() for entry in self.entries],
        }


def prefixes_of(manager: PluginManager) -> list[str]:
    """Return what names begin with: the plugins that declare architectures, then the zoos."""
    declaring = [plugin.name for plugin in manager.plugins.values() if plugin.architectures]
    return list(dict.fromkeys([*declaring, *manager.namespaces()]))


def families_of(manager: PluginManager, prefix: str) -> dict[str, str]:
    """Return the family of each architecture of a plugin or zoo, by its name without the prefix.

    Of a zoo that isn't installed, those are the names in its catalog.
    """
    plugin = manager.plugins.get(prefix)
    declared = plugin.architectures.items() if plugin else ()
    families = {name: architecture.family for name, architecture in declared}
    namespace = manager.namespaces().get(prefix)
    if namespace is None:
        return families
    if package_folder(namespace) is None:
        return {**families, **{name: row.family for name, row in manager.catalog(prefix).items()}}
    return {**families, **manager.members(prefix)}


def matching_names(manager: PluginManager, pattern: str) -> dict[str, str]:
    """Return the qualified names that match a pattern, with their families."""
    start, slash, rest = pattern.partition("/")
    prefixes = prefixes_of(manager)
    if slash and start in prefixes:
        prefixes, pattern = [start], rest
    else:
        slash = ""
    found = {}
    for prefix in prefixes:
        for name, family in families_of(manager, prefix).items():
            full_name = f"{prefix}/{name}"
            in_short = slash or (has_wildcard(pattern) and "/" not in pattern)
            if matches(pattern, name if in_short else full_name, family):
                found[full_name] = family
    return found


def select(manager: PluginManager, query: Query) -> CatalogReport:
    """Return what is known of the architectures that match, without building any."""
    names = matching_names(manager, query.pattern)
    namespaces = manager.namespaces()
    absent = {
        prefix: namespaces[prefix].install
        for prefix in {name.partition("/")[0] for name in names} & namespaces.keys()
        if package_folder(namespaces[prefix]) is None
    }
    entries = list(_entries(manager, names, absent))
    _check_texts(query, entries)
    kept, unknown = [], Counter[str]()
    for entry in entries:
        lacking = list(_unknown(entry, query))
        if not _may_match(entry, query):
            continue
        if lacking:
            unknown[lacking[0]] += 1
        else:
            kept.append(entry)
    ordered = _in_order(kept, query)
    shown = tuple(ordered[: query.limit])
    prefixes = {entry.name.partition("/")[0] for entry in shown}
    return CatalogReport(
        shown,
        len(ordered),
        unknown,
        {
            entry.name.partition("/")[0]: (
                entry.row.version,
                manager.version_of(entry.name.partition("/")[0]),
            )
            for entry in shown
            if entry.state == "outdated"
        },
        {prefix: install for prefix, install in absent.items() if prefix in prefixes},
    )


def _check_texts(query: Query, entries: Collection[Entry]) -> None:
    """Raise UsageProblem for an input that is no size, and a family or task that no architecture here has."""
    if query.input and not SIZE.fullmatch(query.input):
        raise UsageProblem(
            f"can't read --input {query.input!r}", "for example: --input 224 or --input 3x224x224"
        )
    families = {entry.row.family.lower() for entry in entries} - {""}
    tasks = {entry.row.task.lower() for entry in entries} - {""}
    for option, text, known in (("family", query.family, families), ("task", query.task, tasks)):
        if known and not any(text.lower() in each for each in known):
            among = f" of those that match {query.pattern!r}" if query.pattern else ""
            raise UsageProblem(
                f"no architecture{among} has a {option} like {text!r}",
                did_you_mean(text.lower(), known) or f"show the column: --columns name,{option}",
            )


def _entries(manager: PluginManager, names: Mapping[str, str], absent: Collection[str]) -> Iterator[Entry]:
    for full_name, family in names.items():
        prefix, _, name = full_name.partition("/")
        row = manager.catalog(prefix).get(name)
        if row is None:
            yield Entry(full_name, CatalogRow(name=name, family=family), "unknown")
            continue
        # The figures of a zoo that isn't installed are as current as any.
        is_current = prefix in absent or row.version == manager.version_of(prefix)
        if family not in ("", row.family):
            row = replace(row, family=family)
        yield Entry(full_name, row, "current" if is_current else "outdated")


def _unknown(entry: Entry, query: Query) -> Iterator[str]:
    """Yield what the query asks for and isn't known of an architecture."""
    row = entry.row
    yield from (name for name in FIGURES if _bounded(query, name) and entry.figure(name) is None)
    if query.input and not row.input:
        yield "input"
    if query.task and not row.task:
        yield "task"
    if query.has_weights and row.pretrained is None:
        yield "weights"


def _may_match(entry: Entry, query: Query) -> bool:
    """Whether an architecture is as the query has it, in all that is known of it."""
    row = entry.row
    return (
        query.family.lower() in row.family.lower()
        and (not row.task or query.task.lower() in row.task.lower())
        and not (query.has_weights and row.pretrained is False)
        and (not row.input or not query.input or _has_size(row.input, query.input))
        and all(_is_within(entry, name, query) for name in FIGURES)
    )


def _bounded(query: Query, name: str) -> bool:
    return name in query.least or name in query.most


def _is_within(entry: Entry, name: str, query: Query) -> bool:
    """Whether a figure is within its bounds, as far as it is known."""
    value = entry.figure(name)
    if value is None:
        return True
    return query.least.get(name, value) <= value <= query.most.get(name, value)


def _has_size(shown: str, size: str) -> bool:
    """Whether one of the inputs `ids 16, image 3×224×224` ends in `16`, `224`, `224x224` or `3x224x224`.

    A single number means both sides of an image.
    """
    wanted = re.findall(r"\d+", size)
    for tensor in shown.split(", "):
        axes = tensor.rpartition(" ")[2].split("×")
        sides = wanted * 2 if len(wanted) == 1 and len(axes) > 2 else wanted
        if axes[-len(sides) :] == sides:
            return True
    return False


def _in_order(entries: Collection[Entry], query: Query) -> list[Entry]:
    """Return the entries sorted; those without the figure that they are sorted by come last."""

    def key(entry: Entry) -> Any:
        if query.sort == "name":
            return entry.name
        return entry.figure(query.sort) if query.sort in FIGURES else getattr(entry.row, query.sort)

    by_name = sorted(entries, key=lambda entry: entry.name)
    known = [entry for entry in by_name if key(entry) not in (None, "")]
    known.sort(key=key, reverse=query.reverse)
    return [*known, *(entry for entry in by_name if key(entry) in (None, ""))]
