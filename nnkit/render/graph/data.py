"""GraphReport -> what the page of a picture needs, as compact data: columns, and each text once.

The boxes are stored in columns, a group before what is in it, so that a list of counts is enough for the
tree. A text is its index in `strings`. Blocks that are like an earlier one have no boxes here: the page makes
them from that one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nnkit.contract.requests import HEATS
from nnkit.contract.text import format_shape
from nnkit.contract.visible import visible
from nnkit.render.graph.costs import Costs
from nnkit.render.graph.layout import lay_out
from nnkit.render.graph.scene import Box
from nnkit.verbs.graph.report import GraphReport, Node
from nnkit.verbs.summary.report import Value, tensors_of

KINDS = ("input", "output", "module", "function", "constant", "group", "repeat")
FAMILIES = (
    "conv", "linear", "norm", "activation", "attention", "pool", "embedding", "recurrent", "shape", "math",
    "other",
)  # fmt: skip
PREFIXES = ("a:", "b:")  # of the keys of two models
TOTALS = ("parameters", "trainable", "macs")


@dataclass
class Data:
    """Fills the columns, box by box.

    prefix: what the keys of this report begin with, where a page shows two.
    """

    report: GraphReport
    prefix: str = ""
    strings: dict[str, int] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    amounts: dict[str, list[float]] = field(default_factory=dict)
    groups: dict[int, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ("key", "title", "subtitle", "kind", "family", "times", "like", "count", "takes", "gives")
        self.columns = {name: [] for name in (*names, "reads", "line")}
        self.amounts = {name: [] for name in HEATS}
        self.look_at(self.report, self.prefix)

    def look_at(self, report: GraphReport, prefix: str) -> None:
        """Go on with the boxes of another report."""
        self.report, self.prefix = report, prefix
        self.rows: dict[str, int] = {}  # the row of each key
        self.ends = _shapes_at_ends(report)

    def add(self, box: Box, above: str | None) -> None:
        """Add a box and what is in it."""
        node = self.report.nodes[box.node] if box.node >= 0 else None
        self.rows[box.key] = row = self._add_row(self._cells(box, node, above), box.amounts)
        if box.boxes:
            self.groups[row] = self._group(box)
        for inner in box.boxes:
            self.add(inner, box.key)

    def add_pair(self, other: GraphReport, roots: tuple[Box, Box]) -> None:
        """Add two models beside each other."""
        title = self.text(f"{self.report.title} and {other.title}")
        empty = dict.fromkeys(self.columns, self.text("")) | {"like": -1, "times": 1}
        own = {"key": self.text("="), "title": title, "kind": KINDS.index("group"), "count": 2}
        largest = tuple(map(max, *(root.amounts for root in roots)))
        row = self._add_row((empty | own).items(), largest)
        self.groups[row] = [[], (0, 0), (0, 1)]
        for report, prefix, root in zip((self.report, other), PREFIXES, roots, strict=True):
            self.look_at(report, prefix)
            self.add(root, None)

    def _add_row(self, cells: Iterable[tuple[str, Any]], amounts: Costs) -> int:
        row = len(self.columns["key"])
        for name, value in cells:
            self.columns[name].append(value)
        for name, amount in zip(HEATS, amounts, strict=True):
            self.amounts[name].append(amount)
        return row

    def _cells(self, box: Box, node: Node | None, above: str | None) -> Iterator[tuple[str, Any]]:
        is_beneath = bool(above) and box.key.startswith(f"{above}.")
        whole = f"={self.prefix}{box.key}"
        yield "key", self.text(box.key.removeprefix(above or "") if is_beneath else whole)
        yield "title", self.text(box.title)
        yield "subtitle", self.text(box.subtitle)
        yield "kind", KINDS.index(box.kind)
        yield "family", FAMILIES.index(box.family)
        yield "times", box.times
        yield "like", self.rows[box.like] if box.like else -1
        yield "count", len(box.boxes)
        yield "takes", self.text(_shapes(node.row.inputs) if node and node.row else "")
        yield "gives", self.text(self._gives(node))
        yield "reads", self.text(", ".join(node.reads) if node else "")
        yield "line", self.text(node.line if node else "")

    def _gives(self, node: Node | None) -> str:
        if node is None:
            return ""
        if node.row is not None:
            return _shapes(node.row.outputs)
        return ", ".join(map(format_shape, self.ends.get(node.key, node.axes)))

    def _group(self, box: Box) -> list[Any]:
        layout = lay_out(box)
        wires = [
            [wire.source, wire.tensor, 2 * self.text(wire.label) + wire.changes, rail, *wire.targets]
            for wire, rail in zip(box.wires, layout.rails, strict=True)
        ]
        is_chain = list(layout.ranks) == list(range(len(box.boxes))) and not any(layout.lanes)
        return [wires] if is_chain else [wires, layout.ranks, layout.lanes]

    def text(self, words: str) -> int:
        """Return the index of a text; control characters in it are escaped."""
        return self.strings.setdefault(visible(words), len(self.strings))

    def packed(self) -> dict[str, Any]:
        """Return the columns; an amount that no step has is left out."""
        known = [name for name in HEATS if any(self.amounts[name])]
        columns = {**self.columns, **{name: self.amounts[name] for name in known}}
        return {
            "strings": list(self.strings),
            "heats": known,
            "families": ["views" if name == "shape" else name for name in FAMILIES],
            "size": len(self.columns["key"]),
            "boxes": {name: _sparse(column) for name, column in columns.items()},
            "groups": self.groups,
        }


def _shapes_at_ends(report: GraphReport) -> dict[str, tuple[Sequence[int | str], ...]]:
    """Return the shapes of inputs and outputs by their keys, in numbers, as those of steps are."""
    shapes: dict[str, tuple[Sequence[int | str], ...]] = {}
    for edge in report.edges:
        for index in (edge.source, edge.target):
            if report.nodes[index].kind in ("input", "output"):
                shapes[report.nodes[index].key] = (edge.shape,)
    return shapes


def _sparse(column: list[Any]) -> list[Any] | dict[str, Any]:
    """Return a column, or, if most of it is one value, this value and the others by their rows."""
    usual, times = Counter(column).most_common(1)[0]
    if times * 4 < len(column) * 3:
        return column
    return {"": usual} | {str(row): value for row, value in enumerate(column) if value != usual}


def page_data(report: GraphReport, root: Box, opened: Iterable[str]) -> dict[str, Any]:
    """Return what the page of a model shows. opened: the keys of the groups that are open at first."""
    data = Data(report)
    data.add(root, None)
    return {**_model(report), "open": sorted(opened), **data.packed()}


def pair_data(
    reports: tuple[GraphReport, GraphReport],
    roots: tuple[Box, Box],
    opened: tuple[Iterable[str], Iterable[str]],
) -> dict[str, Any]:
    """Return what the page of two models shows, one beside the other."""
    report, other = reports
    data = Data(report)
    data.add_pair(other, roots)
    keys = [
        f"{prefix}{key}" for prefix, each in zip(PREFIXES, opened, strict=True) for key in ("", *sorted(each))
    ]
    return {
        **_model(report),
        "title": visible(f"{report.title} and {other.title}"),
        "pair": [_model(each) for each in reports],
        "open": keys,
        **data.packed(),
    }


def _model(report: GraphReport) -> dict[str, Any]:
    """Return what the page shows of a whole model."""
    totals = report.totals
    return {
        "title": visible(report.title),
        "warnings": [visible(warning) for warning in report.warnings],
        "totals": {name: getattr(totals, name) for name in TOTALS} if totals else None,
        "memory": asdict(report.memory) if report.memory else None,
    }


def _shapes(value: Value) -> str:
    return ", ".join(format_shape(tensor.shape) for tensor in tensors_of(value))
