"""Compares summaries, two of them layer by layer. Torch-free."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any, Literal, TypeAlias

from nnkit.contract.spec import ModelSpec
from nnkit.verbs.summary.report import Memory, Row, Shape, SummaryReport, Totals


@dataclass(frozen=True)
class Layer:
    """A call as it is compared: only its own cost, without the calls beneath that have rows."""

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
    """A layer that only one model has, that differs between them, or that is elsewhere in the order.

    parameters, macs: how many more the right one has than the left.
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

    sides: the models. options, changes: the choices and the layers that differ. equal: whether all models
    have the same layers in the same order at the same cost and, if they share an architecture, the same
    choices.

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
                    "assumed": list(side.spec.architecture.assumed),
                    "totals": asdict(side.totals),
                    "memory": asdict(side.memory) if side.memory else None,
                    "calls": side.calls,
                }
                for side in self.sides
            ],
            "options": [asdict(option) for option in self.options],
            "changes": [asdict(change) for change in self.changes],
        }


def compare(reports: Sequence[SummaryReport]) -> CompareReport:
    """Return how two or more summaries differ."""
    first, *others = reports
    options = [tuple(_options(first.spec, other.spec)) for other in others]
    changes = [tuple(_changes(_layers(first), _layers(other))) for other in others]
    sides = tuple(Side(report.spec, report.totals, report.memory, len(report.rows) - 1) for report in reports)
    equal = not any(options) and not any(changes)
    if len(others) != 1:
        return CompareReport(sides, equal)
    return CompareReport(sides, equal, options[0], changes[0])


def _options(left: ModelSpec, right: ModelSpec) -> Iterator[OptionChange]:
    """Yield the choices that differ; of two architectures only dtype and sizes can be compared."""
    lefts, rights = left.to_dict(), right.to_dict()
    if left.name != right.name:
        lefts, rights = ({key: data[key] for key in ("dtype", "sizes")} for data in (lefts, rights))
    lefts, rights = _flatten(lefts), _flatten(rights)
    for name, value in lefts.items():
        if name in rights and value != rights[name]:
            yield OptionChange(name, value, rights[name])


def _flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in data.items():
        flat.update(
            _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat


Key: TypeAlias = tuple[str, int]


def _layers(report: SummaryReport) -> dict[Key, Layer]:
    """Return the layers in order, by path and the number of the call there.

    A call with rows beneath counts only what they don't; if nothing remains, it is no layer.
    """
    layers: dict[Key, Layer] = {}
    seen: Counter[str] = Counter()
    for row, children in zip(report.rows, _children(report.rows), strict=True):
        parameters = row.parameters - sum(child.parameters for child in children)
        macs = row.macs - sum(child.macs for child in children)
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
    for index, row in enumerate(rows):
        while above and rows[above[-1]].depth >= row.depth:
            above.pop()
        if above:
            children[above[-1]].append(row)
        above.append(index)
    return children


def _changes(left: dict[Key, Layer], right: dict[Key, Layer]) -> Iterator[Change]:
    """Yield the differences in the order of the left one's calls; an added layer after the one it follows."""
    moved = _moved([key for key in left if key in right], [key for key in right if key in left])
    added: dict[Key | None, list[Key]] = {None: []}
    before: Key | None = None
    for key in right:
        if key in left:
            before = key
        else:
            added.setdefault(before, []).append(key)
    yield from (_change("added", None, right[key]) for key in added[None])
    for key, layer in left.items():
        if key not in right:
            yield _change("removed", layer, None)
        elif layer != right[key]:
            yield _change("changed", layer, right[key])
        elif key in moved:
            yield _change("moved", layer, right[key])
        yield from (_change("added", None, right[after]) for after in added.get(key, ()))


def _moved(left: list[Key], right: list[Key]) -> set[Key]:
    """Return the keys, given in two orders, that change their position among the others."""
    if left == right:
        return set()
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    unmoved = {key for block in blocks for key in left[block.a : block.a + block.size]}
    return {*left} - unmoved


def _change(
    kind: Literal["added", "removed", "changed", "moved"], left: Layer | None, right: Layer | None
) -> Change:
    layer = right or left
    assert layer is not None
    parameters = (right.parameters if right else 0) - (left.parameters if left else 0)
    macs = (right.macs if right else 0) - (left.macs if left else 0)
    return Change(kind, layer.path, left, right, parameters, macs)
