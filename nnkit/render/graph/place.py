"""Where everything is: a scene, and what of it is open, in; rectangles, lines and labels, out.

A picture runs down or to the right. So places are counted `across` the flow, where the lanes are, and
`along` it, where the ranks are. Each box has an anchor, the place across at which its main line runs: the
middle of a closed box, lane 0 of an open one. For each open group, from the inside out:

1. Across (`across.py`). Lane 0 is at 0. What lies in one lane and in neighboring ranks is a strip. Outward
   from lane 0, each strip comes as near as what lies beside it allows.
2. Ports (`ports.py`). A line that can run straight ends at the anchor of its box; the others end beside it,
   on the side that they come from. A line to an open box ends where it goes on inside, so none breaks at a
   frame.
3. Tracks (`tracks.py`). Between two ranks, each tensor that changes its place across turns in one row. Rows
   are in the order in which they cross least; tensors that don't overlap share one.
4. Along (`arrange.py`). A gap between two ranks is as long as its labels, rows and arrows need; a rank is as
   long as its longest box. A label lies before the rows, beside its line and within the room of its box, so
   it is never on a rail or a box.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nnkit.render.graph.arrange import arrange
from nnkit.render.graph.grid import Contents, Item, Line, Point
from nnkit.render.graph.scene import ENTRY, Box, Wire
from nnkit.render.graph.sizes import HEADER, PAD, STACK, header_width, size_of

Direction = Literal["down", "right"]


@dataclass(frozen=True)
class PlacedBox:
    """A box at its place. depth: the frames around it. title_at: where the title of an open one begins."""

    box: Box
    x: float
    y: float
    width: float
    height: float
    is_open: bool
    depth: int
    title_at: float = 0.0


@dataclass(frozen=True)
class Label:
    """A text beside a line: its left end and its baseline."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Picture:
    """Everything at its place; boxes come before those in them."""

    width: float
    height: float
    boxes: tuple[PlacedBox, ...]
    lines: tuple[Line, ...]
    labels: tuple[Label, ...]


def place(root: Box, is_open: Callable[[Box], bool], direction: Direction = "down") -> Picture:
    """Return a picture of what is inside the model. A repeat that is open shows its first block."""
    placer = _Placer(root, is_open, direction)
    inside = placer.contents(root, header=0.0, labels_exits=True, is_framed=False)
    collected = _Collected(direction)
    collected.add(inside, PAD + inside.before, PAD, 0)
    across, along = inside.before + inside.beyond + 2 * PAD, inside.length + 2 * PAD
    width, height = (across, along) if direction == "down" else (along, across)
    return Picture(width, height, tuple(collected.boxes), tuple(collected.lines), tuple(collected.labels))


class _Placer:
    def __init__(self, root: Box, is_open: Callable[[Box], bool], direction: Direction) -> None:
        self.is_open, self.is_down = is_open, direction == "down"
        self.bundles = _bundles(root)

    def contents(self, group: Box, header: float, labels_exits: bool, is_framed: bool = True) -> Contents:
        """Return what is inside a group. labels_exits: whether what leaves it is labeled here."""
        count = len(group.boxes)
        wires = [
            wire if labels_exits or wire.targets != (count,) else replace(wire, changes=False)
            for wire in self._bundled(group)
        ]
        given: list[list[Wire]] = [[] for _ in group.boxes]
        for wire in wires:
            if wire.source != ENTRY:
                given[wire.source].append(wire)
        items = [self._item(box, own) for box, own in zip(group.boxes, given, strict=True)]
        _even(items, self.is_down)
        wires = [self._labeled_once(wire, items) for wire in wires]
        for box, item in enumerate(items):
            item.is_labeled = any(wire.changes for wire in wires if wire.source == box)
        return arrange(
            replace(group, wires=tuple(wires)), items, self.is_down, header, PAD if is_framed else 0.0
        )

    def _labeled_once(self, wire: Wire, items: Sequence[Item]) -> Wire:
        """Return a wire without its label if that is on a line inside the open box that it comes from."""
        inside = items[wire.source].contents if wire.source != ENTRY else None
        is_labeled = inside is not None and wire.label in inside.texts()
        return replace(wire, changes=False) if is_labeled else wire

    def _bundled(self, group: Box) -> list[Wire]:
        """Return the wires of a group; those that run side by side as a repeat is folded are one."""
        bundled: dict[Hashable, Wire] = {}
        for wire in group.wires:
            tensor = self.bundles.get(wire.tensor, wire.tensor)
            places = [
                _place_in(group.boxes[at], wire.tensor) if at < len(group.boxes) else None
                for at in wire.targets
            ]
            same = (wire.source, tensor) if None in places else (wire.source, wire.targets, *places)
            before = bundled.get(same)
            targets = tuple(sorted({*wire.targets, *before.targets})) if before else wire.targets
            changes = wire.changes or bool(before and before.changes)
            tensor = before.tensor if before else tensor
            bundled[same] = replace(wire, tensor=tensor, targets=targets, changes=changes)
        return list(bundled.values())

    def _item(self, box: Box, given: Sequence[Wire]) -> Item:
        is_labeled = any(wire.changes for wire in given)
        item = None
        if box.boxes and self.is_open(box):
            first = body_of(box)
            item = self._open(box, first, is_labeled) if first.boxes else None
        if item is None:
            width, height = size_of(box)
            across, along = (width, height) if self.is_down else (height, width)
            stack = STACK if box.times > 1 else 0.0
            item = Item(box, across / 2 + stack, across / 2 + stack, along + stack)
        return item

    def _open(self, box: Box, first: Box, is_labeled: bool) -> Item:
        inside = self.contents(first, HEADER if self.is_down else PAD, not is_labeled)
        item = Item(box, inside.before + PAD, inside.beyond + PAD, inside.length, inside)
        item.takes, item.gives = inside.takes, inside.gives
        if first is not box:
            item.takes = self._ports(box, first, inside.takes, lambda block: block.takes)
            item.gives = self._ports(box, first, inside.gives, lambda block: block.gives)
        width = header_width(box)
        if self.is_down:
            ports = [*inside.takes.values(), 0.0]
            on_left = max(0.0, width + PAD + 8 - min(ports) - item.before)
            on_right = max(0.0, width + PAD + 8 + max(ports) - item.beyond)
            if on_left <= on_right + 40:
                item.before += on_left
                item.title_at = -item.before + PAD
            else:
                item.beyond += on_right
                item.title_at = item.beyond - PAD - width
        else:
            item.before += HEADER - PAD / 2
            item.length = max(item.length, width + 2 * PAD)
        return item

    def _ports(
        self, repeat: Box, first: Box, ports: dict[int, float], tensors: Callable[[Box], Sequence[int]]
    ) -> dict[int, float]:
        """Return where the tensors of each block would be on the first one."""
        found: dict[int, float] = {}
        for block in repeat.boxes:
            for own, tensor in zip(tensors(first), tensors(body_of(block)), strict=False):
                found.setdefault(self.bundles.get(tensor, tensor), ports[self.bundles.get(own, own)])
        return found


def body_of(box: Box) -> Box:
    """Return the box whose inside is drawn: the first block of a repeat, otherwise the box."""
    while box.kind == "repeat" and box.boxes:
        box = box.boxes[0]
    return box


def _bundles(root: Box) -> dict[int, int]:
    """Return for each tensor that a repeated block gives the one of another block that is drawn for it."""
    bundles: dict[int, int] = {}

    def visit(box: Box) -> None:
        for inner in box.boxes:
            visit(inner)
        if box.kind == "repeat":
            first, *others = box.boxes
            for block in others:
                for own, tensor in zip(first.gives, block.gives, strict=False):
                    bundles.setdefault(tensor, bundles.get(own, own))

    visit(root)
    return bundles


def _place_in(box: Box, tensor: int) -> int | None:
    """Return which of the tensors that a block of a repeat takes it is; None if the box is no repeat."""
    if box.kind != "repeat":
        return None
    return next((block.takes.index(tensor) for block in box.boxes if tensor in block.takes), None)


def _even(items: Iterable[Item], is_down: bool) -> None:
    """Make the closed boxes of a group that are modules equally wide."""
    closed = [item for item in items if item.contents is None and item.box.subtitle and item.box.node >= 0]
    if is_down and closed:
        half = max(item.before for item in closed)
        for item in closed:
            item.before = item.beyond = half


class _Collected:
    """Everything at its place in the whole picture."""

    def __init__(self, direction: Direction) -> None:
        self.is_down = direction == "down"
        self.boxes: list[PlacedBox] = []
        self.lines: list[Line] = []
        self.labels: list[Label] = []

    def add(self, inside: Contents, across: float, along: float, depth: int) -> None:
        """Add what is inside a group whose anchor and frame are at a place."""
        for item, (u, v) in zip(inside.items, inside.at, strict=True):
            left, top = self._point(across + u - item.before, along + v)
            width, height = item.before + item.beyond, item.length
            if not self.is_down:
                width, height = height, width
            is_open = item.contents is not None
            title_at = across + u + item.title_at if self.is_down else left + PAD
            self.boxes.append(PlacedBox(item.box, left, top, width, height, is_open, depth, title_at))
            if item.contents is not None:
                self.add(item.contents, across + u, along + v, depth + 1)
        for line in inside.lines:
            points = tuple(self._point(across + u, along + v) for u, v in line.points)
            self.lines.append(Line(points, line.has_head, line.is_rail, line.wire))
        for (u, v), text in inside.labels:
            x, y = self._point(across + u, along + v)
            self.labels.append(Label(x, y, text))

    def _point(self, across: float, along: float) -> Point:
        return (across, along) if self.is_down else (along, across)
