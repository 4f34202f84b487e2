"""What a picture shows, before anything has a place: a tree of boxes, and wires between those of one group.

Every form is drawn from a scene: HTML, SVG, Mermaid, DOT and the tree on a terminal. Here it is decided

- what a box is called (`layer1.0 BasicBlock`, never a bare `0`),
- that repeated blocks are one box `×80`,
- that chains of values that come from no input are one box, or none,
- which tensor enters and leaves a group, and where its shape has changed and is worth a label.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nnkit.contract.requests import HEATS
from nnkit.contract.text import format_shape
from nnkit.render.graph.costs import NONE, Costs, node_costs, sum_costs
from nnkit.render.graph.families import family_of
from nnkit.render.graph.steps import Kind, Step, shown_nodes, tree_of
from nnkit.verbs.graph.report import Axis, Edge, GraphReport

ENTRY = -1
"""The source of a wire that comes into its group from outside."""


@dataclass(frozen=True)
class Box:
    """A step, or a group of steps that can be opened.

    key: unique, the fragment of a deep link; that of the node. title, subtitle: `layer1.0` and `BasicBlock`.
    kind: `group` has boxes inside; `repeat` has the blocks that are alike, all of them, and is drawn as the
    first one with `×times` until it is unfolded. node: the index of the node in the report (a repeat's is
    the first of its blocks), -1 for what was folded from several.
    times: 80 for a repeat of 80 blocks, else 1. like: the key of an earlier block in the same repeat that
    has the same boxes and wires inside, by keys that begin with its own key; then `boxes` and `wires` are
    empty here. family: a color family of the type: conv, norm, activation, attention, linear, pool,
    embedding, recurrent, shape (views), math, other.
    takes, gives: the tensors that come in and those that go out, in the order of its wires that do so; the
    n-th of a repeat's block is the n-th of each that is like it.
    amounts: what it costs, in the order of HEATS. costs: its share of the whole model by each kind of heat
    that is known.
    """

    key: str
    title: str
    subtitle: str
    kind: Kind
    node: int
    boxes: tuple["Box", ...] = ()
    wires: tuple["Wire", ...] = ()
    times: int = 1
    like: str = ""
    family: str = "other"
    takes: tuple[int, ...] = ()
    gives: tuple[int, ...] = ()
    amounts: Costs = NONE
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wire:
    """One tensor inside one group: from a box, or from outside, to the boxes that take it, or out.

    source: the index of a box of the group, or ENTRY. targets: indices of its boxes, in order, each once;
    the number of boxes means that it leaves the group. tensor: the same number for one tensor in every
    group that it crosses. label: its shape, with named dims; every wire has it. changes: whether it differs
    from what went into the box that made it, and so deserves to be read.
    """

    source: int
    targets: tuple[int, ...]
    tensor: int
    label: str
    changes: bool


def scene_of(report: GraphReport, constants: bool = False) -> Box:
    """Return what a picture of a report shows: the model, with its inputs and outputs inside.

    constants: whether to show values that come from no input.
    """
    shown = shown_nodes(report, constants)
    edges = [edge for edge in report.edges if edge.source in shown and edge.target in shown]
    root = tree_of(report, shown, edges)
    return _Frozen(report, _wires(root, edges)).box(root)


@dataclass
class _Open:
    """A wire that is being made: the steps that take its tensor; None means that it leaves the group."""

    source: Step | None
    targets: dict[Step | None, None]
    tensor: int
    edge: Edge


def _wires(root: Step, edges: Sequence[Edge]) -> dict[Step, dict[tuple[int, int], _Open]]:
    """Return the wires of each group, by source node and tensor."""
    of_node = {leaf.node: leaf for leaf in root.leaves()}
    numbers: dict[tuple[int, int], int] = {}
    groups: dict[Step, dict[tuple[int, int], _Open]] = {}

    def run(group: Step, source: Step | None, target: Step | None, edge: Edge) -> None:
        tensor = (edge.source, edge.tensor)
        number = numbers.setdefault(tensor, len(numbers))
        wires = groups.setdefault(group, {})
        wires.setdefault(tensor, _Open(source, {}, number, edge)).targets[target] = None

    for edge in edges:
        below, above = of_node.get(edge.target), of_node.get(edge.source)
        if below is None or above is None:
            continue
        into = dict(_way_up(below))
        for group, source in _way_up(above):
            if group in into:
                break
            run(group, source, None, edge)
        run(group, source, into[group], edge)
        for inside, target in _way_up(below):
            if inside is group:
                break
            run(inside, None, target, edge)
    return groups


def _way_up(step: Step) -> list[tuple[Step, Step]]:
    """Return each group that a step is in, from the inside out, and the step in it that leads to it."""
    way = []
    while step.parent is not None:
        way.append((step.parent, step))
        step = step.parent
    return way


@dataclass
class _Frozen:
    """Makes boxes of steps."""

    report: GraphReport
    wires: Mapping[Step, Mapping[tuple[int, int], _Open]]

    def __post_init__(self) -> None:
        self.of_nodes = node_costs(self.report)
        nodes = zip(self.report.nodes, self.of_nodes, strict=True)
        self.whole = sum_costs(costs for node, costs in nodes if node.parent is None)

    def box(self, step: Step) -> Box:
        """Return the box of a step."""
        boxes = [self.box(inner) for inner in step.steps]
        wires = self._sorted(step)
        if step.kind == "repeat":
            boxes = _without_copies(boxes)
        outside = len(step.steps)
        amounts = self._amounts(step, boxes)
        return Box(
            step.key,
            step.title,
            step.subtitle,
            "group" if step.steps and step.kind != "repeat" else step.kind,
            step.node,
            tuple(boxes),
            tuple(wires),
            step.times,
            family=family_of(step.type),
            takes=tuple(wire.tensor for wire in wires if wire.source == ENTRY),
            gives=tuple(wire.tensor for wire in wires if outside in wire.targets),
            amounts=amounts,
            costs={
                name: amount / whole
                for name, amount, whole in zip(HEATS, amounts, self.whole, strict=True)
                if amount and whole
            },
        )

    def _sorted(self, step: Step) -> list[Wire]:
        """Return the wires of a group, those of blocks that are alike in the same order."""
        index = {inner: at for at, inner in enumerate(step.steps)}
        wires = []
        labels: dict[int, set[str]] = {}
        for opened in self.wires.get(step, {}).values():
            targets = tuple(
                sorted(len(index) if target is None else index[target] for target in opened.targets)
            )
            label = label_of(opened.edge.axes or opened.edge.shape)
            for target in targets:
                labels.setdefault(target, set()).add(label)
            source = ENTRY if opened.source is None else index[opened.source]
            wires.append(Wire(source, targets, opened.tensor, label, False))
        wires.sort(key=lambda wire: (wire.source, wire.targets, wire.tensor))
        return [
            replace(wire, changes=wire.source != ENTRY and wire.label not in labels.get(wire.source, ()))
            for wire in wires
        ]

    def _amounts(self, step: Step, boxes: Sequence[Box]) -> Costs:
        """Return what a step costs: its own call, or else all that is folded in it."""
        if step.node >= 0 and self.report.nodes[step.node].key == step.key:
            return self.of_nodes[step.node]
        return sum_costs(box.amounts for box in boxes)


def _without_copies(boxes: list[Box]) -> list[Box]:
    """Return the blocks of a repeat, empty where an earlier one is the same inside."""
    seen: dict[Hashable, str] = {}
    kept = []
    for box in boxes:
        key = seen.setdefault(_inside(replace(box, title=""), box.key), box.key)
        kept.append(box if key == box.key or not box.boxes else replace(box, boxes=(), wires=(), like=key))
    return kept


def _inside(box: Box, prefix: str) -> Hashable:
    """Return what is equal for two boxes that differ only in the beginning of their keys."""
    wires = tuple((wire.source, wire.targets, wire.label) for wire in box.wires)
    name = box.key.removeprefix(prefix) if box.key.startswith(prefix) else (box.key, prefix)
    like = box.like.removeprefix(prefix)
    return name, box.title, box.kind, like, tuple(_inside(inner, prefix) for inner in box.boxes), wires


def label_of(axes: Sequence[Axis]) -> str:
    """Return a shape as text: `1×64×56×56`, `batch×time`, or `scalar`."""
    return format_shape(axes) if axes else "scalar"
