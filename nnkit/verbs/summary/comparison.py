"""Summaries side by side, and what differs between two of them, layer by layer. Torch-free."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any, Literal, TypeAlias

from nnkit.contract.spec import ModelSpec
from nnkit.verbs.summary.report import Memory, Row, Shape, SummaryReport, Totals


@dataclass(frozen=True)
class Layer:
    """A call as it is compared: what is its own alone, without the calls beneath that have rows."""

    path: str
    type: str
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    kernel: Shape | None
    parameters: int
    macs: int


@dataclass(frozen=True)
class Change:
    """A layer that one model has and the other hasn't, or that differs, or stands in another place.

    parameters, macs: what the right one has more than the left.
    """

    kind: Literal["added", "removed", "changed", "moved"]
    path: str
    left: Layer | None
    right: Layer | None
    parameters: int
    macs: int


@dataclass(frozen=True)
class OptionChange:
    """A choice that differs between two specs: `config.num_classes`, `sizes.batch`, `dtype`."""

    name: str
    left: Any
    right: Any


@dataclass(frozen=True)
class Side:
    """One of the models that are compared."""

    spec: ModelSpec
    totals: Totals
    memory: Memory | None
    calls: int


@dataclass(frozen=True)
class CompareReport:
    """The models side by side, and, for two, every difference from the first to the second.

    sides: the models. options, changes: the choices and the layers that differ. equal: whether all of
    them have the same layers in the same order at the same cost, and, where they are of one architecture,
    the same choices.

    Example:

        report = compare("simple-cnn", resolve("simple-cnn", num_classes=100))
        assert not report.equal and report.options[0].name == "config.num_classes"
    """

    SCHEMA = "nnkit.compare/1"

    sides: tuple[Side, ...]
    equal: bool
    options: tuple[OptionChange, ...] = ()
    changes: tuple[Change, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "equal": self.equal,
            "models": [
                {
                    "spec": side.spec.to_dict(),
                    "totals": asdict(side.totals),
                    "memory": asdict(side.memory) if side.memory else None,
                    "calls": side.calls,
                }
                for side in self.sides
            ],
            "options": [asdict(each) for each in self.options],
            "changes": [asdict(each) for each in self.changes],
        }


def compare(reports: Sequence[SummaryReport]) -> CompareReport:
    """Return how two or more summaries differ."""
    first, *others = reports
    options = [tuple(_options(first.spec, each.spec)) for each in others]
    changes = [tuple(_changes(_layers(first), _layers(each))) for each in others]
    sides = tuple(Side(each.spec, each.totals, each.memory, len(each.rows) - 1) for each in reports)
    equal = not any(options) and not any(changes)
    if len(others) != 1:
        return CompareReport(sides, equal)
    return CompareReport(sides, equal, options[0], changes[0])


def _options(left: ModelSpec, right: ModelSpec) -> Iterator[OptionChange]:
    """Yield the choices that differ; those of two architectures can't be held against each other."""
    one, other = left.to_dict(), right.to_dict()
    if left.name != right.name:
        one, other = ({"dtype": each["dtype"], "sizes": each["sizes"]} for each in (one, other))
    one, other = _flat(one), _flat(other)
    for name in {**one, **other}:
        if name in one and name in other and one[name] != other[name]:
            yield OptionChange(name, one[name], other[name])


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


Key: TypeAlias = tuple[str, int]


def _layers(report: SummaryReport) -> dict[Key, Layer]:
    """Return the layers by path and by which of the calls there it is, in order.

    Of a call with rows beneath it counts what is not theirs; where that is nothing, they stand for it.
    """
    layers: dict[Key, Layer] = {}
    seen: Counter[str] = Counter()
    children = _children(report.rows)
    for row, of_row in zip(report.rows, children, strict=True):
        parameters = row.parameters - sum(each.parameters for each in of_row)
        macs = row.macs - sum(each.macs for each in of_row)
        if row.leaf or parameters or macs:
            layers[row.path, seen[row.path]] = Layer(
                row.path,
                row.type,
                row.input_shapes,
                row.output_shapes,
                row.dtypes,
                row.kernel,
                parameters,
                macs,
            )
            seen[row.path] += 1
    return layers


def _children(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows right beneath each row."""
    children: list[list[Row]] = [[] for _ in rows]
    above: list[int] = []
    for place, row in enumerate(rows):
        while above and rows[above[-1]].depth >= row.depth:
            above.pop()
        if above:
            children[above[-1]].append(row)
        above.append(place)
    return children


def _changes(left: dict[Key, Layer], right: dict[Key, Layer]) -> Iterator[Change]:
    """Yield the differences in the order of the left one's calls; what was added, after what it follows."""
    moved = _moved([key for key in left if key in right], [key for key in right if key in left])
    added: dict[Key | None, list[Key]] = {None: []}
    before: Key | None = None
    for key in right:
        if key in left:
            before = key
        else:
            added.setdefault(before, []).append(key)
    yield from (_change("added", None, right[key]) for key in added[None])
    for each, layer in left.items():
        if each not in right:
            yield _change("removed", layer, None)
        elif layer != right[each]:
            yield _change("changed", layer, right[each])
        elif each in moved:
            yield _change("moved", layer, right[each])
        yield from (_change("added", None, right[key]) for key in added.get(each, ()))


def _moved(one: list[Key], other: list[Key]) -> set[Key]:
    """Return the keys, of two orders of the same ones, that don't keep their place among the others."""
    if one == other:
        return set()
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    stay = {key for block in blocks for key in one[block.a : block.a + block.size]}
    return {*one} - stay


def _change(
    kind: Literal["added", "removed", "changed", "moved"], left: Layer | None, right: Layer | None
) -> Change:
    layer = right or left
    assert layer is not None
    return Change(
        kind, layer.path, left, right,
        parameters=(right.parameters if right else 0) - (left.parameters if left else 0),
        macs=(right.macs if right else 0) - (left.macs if left else 0),
    )  # fmt: skip
