"""Where everything is: a scene, and what of it is open, in; rectangles, lines and labels, out.

All is reckoned in two directions, so that a picture can run down or to the right: `across` the flow, where the
lanes are, and `along` it, where the ranks are. In its own group a box has an anchor, the place across at which
its main line runs: the middle of a closed box, lane 0 of an open one. Inside out, for each group that is open:

1. Across. Lane 0 is at 0. A lane's boxes and rails that lie in neighboring ranks form a strip; outward from lane
   0, each strip comes as near as what already lies beside it allows.
2. Ports. A line that can run straight ends at the anchor of its box. The others end beside it, on the side that
   they come from. A line to an open box ends where it goes on inside, so no line breaks at a frame.
3. Tracks. Between two ranks, each tensor that has to change its place across gets one track for all that it
   does there. Tracks are in the order in which they cross least, and share a row where they don't overlap.
4. Along. A gap between two ranks is as long as its labels, tracks and arrows need; a rank is as long as its
   longest box. Labels lie before the tracks, beside the line that they belong to, in the room of its box. So no
   label is ever on a rail or on a box.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from nnkit.render.graph.layout import Layout, lay_out
from nnkit.render.graph.scene import ENTRY, Box, Wire
from nnkit.render.graph.text import width_of

Direction = Literal["down", "right"]
Point = tuple[float, float]

TITLE, SUBTITLE, LABEL = 12.0, 10.0, 9.5  # sizes of text
HEADER = 38.0  # above what is in an open group
PAD = 14.0  # inside the frame of an open group
SIDE = 12.0  # beside a box
RAIL = 6.0  # beside a rail
PORT = 10.0  # between the ends of two lines at one box
TRACK = 8.0  # between two tracks
TURN = 6.0  # how far a line runs before its first and after its last turn, and the radius of its corners
ARROW = 8.0
LABEL_ROW = 14.0
STACK = 4.0  # from a repeat to what shows behind it
NEAR = 48.0  # how far a rail moves to run straight
SYMBOLS = {"add": "+", "iadd": "+", "add_": "+", "mul": "×", "imul": "×", "mul_": "×", "sub": "−"}


@dataclass(frozen=True)
class PlacedBox:
    """A box at its place. depth: how many frames are around it. title_at: the left end of an open one's title."""

    box: Box
    x: float
    y: float
    width: float
    height: float
    is_open: bool
    depth: int
    title_at: float = 0.0


@dataclass(frozen=True)
class Line:
    """A part of a tensor's way, with a right angle at each inner point.

    has_head: whether it ends with an arrow. is_rail: whether it passes a rank.
    """

    points: tuple[Point, ...]
    has_head: bool
    is_rail: bool
    wire: Wire


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
    inside = placer.contents(root, header=0.0, is_labeled=True)
    collected = _Collected(direction)
    collected.add(inside, PAD + inside.before, PAD, 0)
    across, along = inside.before + inside.beyond + 2 * PAD, inside.length + 2 * PAD
    width, height = (across, along) if direction == "down" else (along, across)
    return Picture(width, height, tuple(collected.boxes), tuple(collected.lines), tuple(collected.labels))


@dataclass
class _Item:
    """A box as large as it will be. before, beyond: how far it reaches across from its anchor."""

    box: Box
    before: float
    beyond: float
    length: float
    contents: "_Contents | None" = None
    title_at: float = 0.0
    takes: dict[int, float] = field(default_factory=dict)  # ports of an open box, from its anchor
    gives: dict[int, float] = field(default_factory=dict)
    is_said: bool = False  # whether the shape of what it gives is on a label


@dataclass
class _Contents:
    """What is inside a group, from the anchor across and from its frame along."""

    items: list[_Item] = field(default_factory=list)
    at: list[Point] = field(default_factory=list)  # the anchor across, and where each begins along
    lines: list[Line] = field(default_factory=list)
    labels: list[tuple[Point, str]] = field(default_factory=list)
    before: float = 0.0
    beyond: float = 0.0
    length: float = 0.0
    takes: dict[int, float] = field(default_factory=dict)
    gives: dict[int, float] = field(default_factory=dict)


class _Placer:
    def __init__(self, root: Box, is_open: Callable[[Box], bool], direction: Direction) -> None:
        self.is_open, self.is_down = is_open, direction == "down"
        self.bundles = _bundles(root)

    def contents(self, group: Box, header: float, is_labeled: bool) -> _Contents:
        """Return what is inside a group. is_labeled: whether what leaves it has to be labeled here."""
        count = len(group.boxes)
        wires = [
            wire if is_labeled or wire.targets != (count,) else replace(wire, changes=False)
            for wire in self._bundled(group)
        ]
        given: list[list[Wire]] = [[] for _ in group.boxes]
        for wire in wires:
            if wire.source != ENTRY:
                given[wire.source].append(wire)
        items = [self._item(box, own) for box, own in zip(group.boxes, given, strict=True)]
        _even(items, self.is_down)
        return _Arranged(replace(group, wires=tuple(wires)), items, self.is_down, header).contents()

    def _bundled(self, group: Box) -> list[Wire]:
        """Return the wires of a group, with one for all that would run side by side because a repeat is folded."""
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

    def _item(self, box: Box, given: Sequence[Wire]) -> _Item:
        is_said = any(wire.changes for wire in given)
        item = None
        if box.boxes and self.is_open(box):
            first = body_of(box)
            item = self._open(box, first, is_said) if first.boxes else None
        if item is None:
            width, height = size_of(box)
            across, along = (width, height) if self.is_down else (height, width)
            stack = STACK if box.times > 1 else 0.0
            item = _Item(box, across / 2 + stack, across / 2 + stack, along + stack)
        item.is_said = is_said
        return item

    def _open(self, box: Box, first: Box, is_said: bool) -> _Item:
        inside = self.contents(first, HEADER if self.is_down else PAD, not is_said)
        item = _Item(box, inside.before + PAD, inside.beyond + PAD, inside.length, inside)
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
    """Return for each tensor that a block of a repeat gives the one that stands for it: that of another block."""
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


def size_of(box: Box) -> tuple[float, float]:
    """Return the width and height of a closed box."""
    if is_symbol(box):
        return 22.0, 22.0
    badge = width_of(f"×{box.times}", SUBTITLE) + 14 if box.times > 1 else 0.0
    title = width_of(box.title, TITLE, bold=bool(box.subtitle)) + badge
    width = max(title, width_of(box.subtitle, SUBTITLE)) + 24
    return max(width, 56.0), 40.0 if box.subtitle else 24.0


def is_symbol(box: Box) -> bool:
    """Whether a closed box is drawn as a circle with a sign, like `+`."""
    return box.kind == "function" and box.title in SYMBOLS


def header_width(box: Box) -> float:
    """Return the width of the title of an open box."""
    badge = width_of(f"×{box.times}", SUBTITLE) + 14 if box.times > 1 else 0.0
    return max(width_of(box.title, TITLE, bold=True) + badge, width_of(box.subtitle, SUBTITLE))


def _even(items: Iterable[_Item], is_down: bool) -> None:
    """Make the closed boxes of a group that are modules equally wide."""
    closed = [item for item in items if item.contents is None and item.box.subtitle and item.box.node >= 0]
    if is_down and closed:
        half = max(item.before for item in closed)
        for item in closed:
            item.before = item.beyond = half


@dataclass
class _Net:
    """What one tensor does between two ranks: where it comes in and goes out across, and its row of tracks."""

    wire: int
    tops: list[float] = field(default_factory=list)
    bottoms: list[float] = field(default_factory=list)
    row: int = -1

    @property
    def span(self) -> tuple[float, float]:
        every = [*self.tops, *self.bottoms]
        return min(every), max(every)

    @property
    def is_straight(self) -> bool:
        low, high = self.span
        return high - low < 0.5


class _Arranged:
    """Places the boxes and lines of one group."""

    def __init__(self, group: Box, items: list[_Item], is_down: bool, header: float) -> None:
        self.group, self.items, self.is_down, self.header = group, items, is_down, header
        self.wires: Sequence[Wire] = group.wires
        self.count = len(items)
        self.given_by: list[list[int]] = [[] for _ in items]
        for index, wire in enumerate(self.wires):
            if wire.source != ENTRY:
                self.given_by[wire.source].append(index)
        self.given = [[self.wires[index] for index in own] for own in self.given_by]
        self.layout: Layout = lay_out(group)
        self.ranks = max(self.layout.ranks, default=-1) + 1
        self.spans = [self._span(box) for box in range(self.count)]
        is_crossed = True
        while is_crossed:
            self._across()
            self._find_ports()
            self._find_nets()
            is_crossed = self._shorten_crossed()
        self._along()

    # across

    def _across(self) -> None:
        before, beyond = [0.0] * self.ranks, [0.0] * self.ranks
        cells: dict[int, dict[int, tuple[float, float, float]]] = {}
        for index, item in enumerate(self.items):
            lane, rank = self.layout.lanes[index], self.layout.ranks[index]
            room = item.beyond
            if self.is_down:
                room = max(room, self._room_of_labels(index))
            elif item.is_said:
                item.before = max(item.before, LABEL_ROW)
            for reached in range(rank, rank + self.spans[index]):
                cells.setdefault(lane, {})[reached] = (item.before, room, SIDE)
        for index, lane in enumerate(self.layout.rails):
            if lane is not None:
                for rank in range(self._source_rank(index) + 1, self._last_rank(index)):
                    cells.setdefault(lane, {}).setdefault(rank, (0.0, 0.0, RAIL))
        self.cells = cells
        self.filled = set(zip(self.layout.ranks, self.layout.lanes, strict=True))
        self.strip: dict[tuple[int, int], float] = {}
        for lane in sorted(cells, key=lambda lane: (abs(lane), lane)):
            for ranks in _runs(sorted(cells[lane])):
                own = [cells[lane][rank] for rank in ranks]
                if lane == 0:
                    at = 0.0
                elif lane > 0:
                    at = max(beyond[rank] + cell[0] + cell[2] for rank, cell in zip(ranks, own, strict=True))
                else:
                    at = -max(before[rank] + cell[1] + cell[2] for rank, cell in zip(ranks, own, strict=True))
                at = self._aligned(lane, ranks, at)
                for rank, (left, right, margin) in zip(ranks, own, strict=True):
                    self.strip[lane, rank] = at
                    if lane >= 0:
                        beyond[rank] = at + right + margin
                    if lane <= 0:
                        before[rank] = left - at + margin
        self.before, self.beyond = max(before, default=0.0), max(beyond, default=0.0)
        self.anchors = [
            self.strip[lane, rank] for lane, rank in zip(self.layout.lanes, self.layout.ranks, strict=True)
        ]

    def _aligned(self, lane: int, ranks: Sequence[int], at: float) -> float:
        """Move a rail a little outward where it can go on straight from or into an open box."""
        wires = [index for index, rail in enumerate(self.layout.rails) if rail == lane != 0]
        wires = [index for index in wires if ranks[0] <= self._source_rank(index) + 1 <= ranks[-1]]
        if len(wires) != 1 or any((rank, lane) in self.filled for rank in ranks):
            return at
        wire, wishes = self.wires[wires[0]], []
        for box in (wire.source, *wire.targets):
            if 0 <= box < self.count:
                item, cell = self.items[box], (self.layout.lanes[box], self.layout.ranks[box])
                port = item.gives if box == wire.source else item.takes
                if cell in self.strip and wire.tensor in port:
                    wishes.append(self.strip[cell] + port[wire.tensor])
        side = 1 if lane > 0 else -1
        wishes = [wish for wish in wishes if 0 <= (wish - at) * side <= NEAR]
        return min(wishes, key=abs, default=at)

    def _room_of_labels(self, box: int) -> float:
        """Return how far the labels below a box reach beyond its anchor at most."""
        item, given = self.items[box], self.given[box]
        ports = [item.gives.get(wire.tensor, PORT * (len(given) - 1)) for wire in given]
        widths = [width_of(wire.label, LABEL) + 8 for wire in given if wire.changes]
        if item.gives and len(given) > 1:
            return max(ports) + sum(widths)
        return max(ports, default=0.0) + sum(widths)

    def _labels(self, box: int) -> Iterator[tuple[Point, str]]:
        """Yield the labels of what a box gives: each beside its line, or several together if there is no room."""
        item = self.items[box]
        end = self.begins[box] + item.length
        given = sorted(
            ((self.starts[index], self.wires[index]) for index in self.given_by[box]),
            key=lambda pair: pair[0],
        )
        texts: dict[str, None] = {}
        for number, (at, wire) in enumerate(given):
            if wire.changes:
                texts[wire.label] = None
            text = ", ".join(texts)
            is_last = number + 1 == len(given)
            if text and (
                is_last or given[number + 1][0] - at > width_of(text, LABEL) + 10 or not self.is_down
            ):
                if self.is_down:
                    yield (at + 6, end + 12), text
                else:
                    yield (at - 5, end + 5), text
                texts = {}

    def _source_rank(self, wire: int) -> int:
        source = self.wires[wire].source
        return -1 if source == ENTRY else self.layout.ranks[source]

    def _rank(self, target: int) -> int:
        return self.ranks if target == self.count else self.layout.ranks[target]

    def _last_rank(self, wire: int) -> int:
        return max(self._rank(target) for target in self.wires[wire].targets)

    def _is_near(self, wire: int, target: int) -> bool:
        return self._rank(target) == self._source_rank(wire) + 1

    def _rail(self, wire: int) -> float:
        lane = self.layout.rails[wire]
        assert lane is not None
        return self.strip[lane, self._source_rank(wire) + 1]

    # ports

    def _find_ports(self) -> None:
        self.ends: dict[tuple[int, int], float] = {}  # of a wire and a target
        self.starts: dict[int, float] = {}  # of a wire
        coming: list[list[tuple[int, float]]] = [[] for _ in self.items]
        going: list[list[tuple[int, float]]] = [[] for _ in self.items]
        for index, wire in enumerate(self.wires):
            wishes = []
            for target in wire.targets:
                is_near = self._is_near(index, target)
                if target < self.count:
                    anchor = self.anchors[target]
                    straight = anchor if wire.source == ENTRY else self.anchors[wire.source]
                    coming[target].append((index, straight if is_near else self._rail(index)))
                    wishes.append(anchor if is_near else self._rail(index))
                else:
                    wishes.append(self._rail(index) if not is_near else self.anchors[wire.source])
            if wire.source != ENTRY:
                anchor = self.anchors[wire.source]
                going[wire.source].append((index, min(wishes, key=lambda wish: abs(wish - anchor))))
        self.at_side: set[tuple[int, int]] = set()  # wires and targets that they reach from the side
        for box, (item, anchor) in enumerate(zip(self.items, self.anchors, strict=True)):
            if item.contents is None and is_symbol(item.box):
                coming[box] = self._from_the_side(box, coming[box])
            half = min(item.before, item.beyond)
            ends, starts = (
                _spread(anchor, coming[box], half, self.wires),
                _spread(anchor, going[box], half, self.wires),
            )
            for index, _ in coming[box]:
                inside = item.takes.get(self.wires[index].tensor)
                self.ends[index, box] = ends[index] if inside is None else anchor + inside
            for index, _ in going[box]:
                inside = item.gives.get(self.wires[index].tensor)
                self.starts[index] = starts[index] if inside is None else anchor + inside
        self.takes: dict[int, float] = {}
        self.gives: dict[int, float] = {}
        for index, wire in enumerate(self.wires):
            if wire.source == ENTRY:
                self.starts[index] = self._entry(index, wire)
                self.takes[wire.tensor] = self.starts[index]
            if wire.targets[-1] == self.count:
                is_near = self._is_near(index, self.count)
                self.ends[index, self.count] = self.starts[index] if is_near else self._rail(index)
                self.gives[wire.tensor] = self.ends[index, self.count]

    def _from_the_side(self, box: int, coming: list[tuple[int, float]]) -> list[tuple[int, float]]:
        """Let a circle's line from the left and from the right end at its side; return what comes from above."""
        anchor, rank, lane = self.anchors[box], self.layout.ranks[box], self.layout.lanes[box]
        half = self.items[box].before
        above = list(coming)
        for side in (-1, 1):
            beside = [(index, at) for index, at in coming if (at - anchor) * side > half + TURN]
            if len(beside) != 1 or len(above) == 1:
                continue
            index, at = beside[0]
            own = None if self._is_near(index, box) else self.layout.rails[index]
            between = [
                other for other, ranks in self.cells.items() if rank in ranks and (other - lane) * side > 0
            ]
            if all(other == own and (rank, own) not in self.filled for other in between):
                self.at_side.add((index, box))
                self.ends[index, box] = at
                above.remove(beside[0])
        return above

    def _entry(self, index: int, wire: Wire) -> float:
        """Return where a wire from outside comes in: straight above a target, the main line's if that is one."""
        near = [target for target in wire.targets if target < self.count and self._is_near(index, target)]
        if near:
            return min((self.ends[index, target] for target in near), key=abs)
        return self._rail(index) if self.layout.rails[index] is not None else 0.0

    # tracks

    def _find_nets(self) -> None:
        gaps: list[dict[int, _Net]] = [{} for _ in range(self.ranks + 1)]
        for index, wire in enumerate(self.wires):
            first, last = self._source_rank(index) + 1, self._last_rank(index)
            net = gaps[first].setdefault(index, _Net(index, [self.starts[index]]))
            if last > first:
                net.bottoms.append(self._rail(index))
            for target in wire.targets:
                rank = self._rank(target)
                if rank > first and index not in gaps[rank]:
                    gaps[rank][index] = _Net(index, [self._rail(index)])
                    if rank < last:
                        gaps[rank][index].bottoms.append(self._rail(index))
                gaps[rank][index].bottoms.append(self.ends[index, target])
        self.nets = gaps
        self.rows = [_assign_rows([net for net in gap.values() if not net.is_straight]) for gap in gaps]

    # along

    def _along(self) -> None:
        lengths, labels = [0.0] * self.ranks, [0.0] * (self.ranks + 1)
        for box, (item, rank) in enumerate(zip(self.items, self.layout.ranks, strict=True)):
            if self.spans[box] == 1:
                lengths[rank] = max(lengths[rank], item.length)
        for wire in self.wires:
            if wire.source != ENTRY and wire.changes:
                rank = self.layout.ranks[wire.source]
                room = LABEL_ROW if self.is_down else width_of(wire.label, LABEL) + 8
                labels[rank + 1] = max(labels[rank + 1], room)
        at = self.header
        self.tracks: list[float] = []
        begins: list[float] = []
        for gap in range(self.ranks + 1):
            is_end = gap in (0, self.ranks)
            rows = self.rows[gap]
            self.tracks.append(at + labels[gap] + TURN)
            needed = labels[gap] + (TURN + (rows - 1) * TRACK + TURN if rows else 2.0) + ARROW
            is_empty = not self.nets[gap]
            at += 0.0 if is_empty and is_end else max(needed, 14.0 if is_end else 24.0)
            if gap < self.ranks:
                begins.append(at)
                lengths[gap] = max([lengths[gap], *(end - at for end in self._ends_of_spans(gap, begins))])
                at += lengths[gap]
        self.length = at + (0.0 if self.header == 0 else PAD if not self.nets[self.ranks] else 4.0)
        self.begins = [
            begins[rank] + (lengths[rank] - item.length) / 2 if self.spans[box] == 1 else begins[rank]
            for box, (item, rank) in enumerate(zip(self.items, self.layout.ranks, strict=True))
        ]

    def _ends_of_spans(self, rank: int, begins: Sequence[float]) -> Iterator[float]:
        """Yield where the boxes end that may reach from an earlier rank into this one, and no farther."""
        for box, item in enumerate(self.items):
            first = self.layout.ranks[box]
            if self.spans[box] > 1 and first + self.spans[box] - 1 == rank:
                yield begins[first] + item.length + (LABEL_ROW if item.is_said else 0.0)

    def _shorten_crossed(self) -> bool:
        """Keep boxes that a track would cross in their own rank, and return whether there were any."""
        crossed = [box for box in range(self.count) if self.spans[box] > 1 and self._is_crossed(box)]
        for box in crossed:
            self.spans[box] = 1
        return bool(crossed)

    def _is_crossed(self, box: int) -> bool:
        item, rank = self.items[box], self.layout.ranks[box]
        left, right = self.anchors[box] - item.before - SIDE, self.anchors[box] + item.beyond + SIDE
        return any(
            net.span[0] < right and net.span[1] > left
            for gap in range(rank + 1, rank + self.spans[box])
            for net in self.nets[gap].values()
            if net.wire not in self.given_by[box]
        )

    def _span(self, box: int) -> int:
        """Return how many ranks a box may reach over: an open one whose only line goes on in its own lane."""
        given = self.given_by[box]
        if self.items[box].contents is None or len(given) != 1:
            return 1
        index, lane = given[0], self.layout.lanes[box]
        targets = self.wires[index].targets
        first = min(self._rank(target) for target in targets)
        runs_straight = self.layout.rails[index] == lane != 0 and not self.items[box].gives[self.wires[index].tensor]
        return first - self.layout.ranks[box] if runs_straight else 1

    # lines

    def contents(self) -> _Contents:
        """Return what was placed."""
        lines = [line for index in range(len(self.wires)) for line in self._lines(index)]
        labels = [label for box in range(self.count) for label in self._labels(box)]
        at_places = list(zip(self.anchors, self.begins, strict=True))
        return _Contents(
            self.items,
            at_places,
            lines,
            labels,
            self.before,
            self.beyond,
            self.length,
            self.takes,
            self.gives,
        )

    def _lines(self, index: int) -> Iterable[Line]:
        """Return the trunk of a wire to its farthest target, then a branch to each of the others."""
        wire = self.wires[index]
        first, last = self._source_rank(index) + 1, self._last_rank(index)
        start = self.starts[index]
        begin = 0.0 if wire.source == ENTRY else self.begins[wire.source] + self.items[wire.source].length
        targets = sorted(
            wire.targets, key=lambda target: (-self._rank(target), abs(self.ends[index, target] - start))
        )
        for number, target in enumerate(targets):
            rank, end = self._rank(target), self.ends[index, target]
            points: list[Point] = []
            at = start
            if number == 0 or rank == first:
                points.append(
                    (start, begin if number == 0 or abs(end - start) < 0.5 else self._track(first, index))
                )
                if last > first and rank > first:
                    self._turn(points, first, index, start, self._rail(index))
                    at = self._rail(index)
            else:
                at = self._rail(index)
                points.append((at, self._track(rank, index) - TURN))
            self._turn(points, rank, index, at, end)
            is_out = target == self.count
            stop = self.length if is_out else self.begins[target]
            if (index, target) in self.at_side:
                item, anchor = self.items[target], self.anchors[target]
                middle = stop + item.length / 2
                if number and rank > first:
                    points[-1] = (at, middle - TURN)
                points += [(end, middle), (anchor + (item.before if end > anchor else -item.before), middle)]
            else:
                points.append((end, stop))
            has_head = not is_out and self.items[target].contents is None
            yield Line(tuple(points), has_head, rank > first, wire)

    def _turn(self, points: list[Point], gap: int, index: int, start: float, end: float) -> None:
        if abs(end - start) >= 0.5:
            track = self._track(gap, index)
            points += [(start, track), (end, track)]

    def _track(self, gap: int, index: int) -> float:
        return self.tracks[gap] + max(self.nets[gap][index].row, 0) * TRACK


def _runs(ranks: Sequence[int]) -> list[list[int]]:
    """Return runs of ranks that follow one another."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and runs[-1][-1] == rank - 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return runs


def _spread(
    anchor: float, wishes: Sequence[tuple[int, float]], half: float, wires: Sequence[Wire]
) -> dict[int, float]:
    """Return where lines end at a box, one at its anchor if it can run straight, the others on their side."""
    ordered = sorted(wishes, key=lambda wish: (wish[1], wish[0]))
    straight = [number for number, (_, wish) in enumerate(ordered) if abs(wish - anchor) < 0.5]
    # The one that most boxes take is the main line.
    straight.sort(key=lambda number: -len(wires[ordered[number][0]].targets))
    middle = straight[0] if straight else (len(ordered) - 1) / 2
    most = max(middle, len(ordered) - 1 - middle, 1)
    step = min(PORT, max(half - 6, 1) / most)
    return {index: anchor + (number - middle) * step for number, (index, _) in enumerate(ordered)}


def _assign_rows(nets: list[_Net]) -> int:
    """Give nets their rows so that few cross, and return how many rows there are."""
    order: list[_Net] = []
    for net in sorted(nets, key=lambda net: (net.span[1] - net.span[0], net.wire)):
        costs = [0.0]
        for other in order:  # the cost of each place, from before all others on
            costs.append(costs[-1] + _crossings(other, net) - _crossings(net, other))
        order.insert(min(range(len(costs)), key=costs.__getitem__), net)
    rows = 0
    for number, net in enumerate(order):
        low, high = net.span
        beside = [
            other.row
            for other in order[:number]
            if other.span[0] < high + PORT and other.span[1] > low - PORT
        ]
        net.row = max(beside, default=-1) + 1
        rows = max(rows, net.row + 1)
    return rows


def _crossings(upper: _Net, lower: _Net) -> float:
    """Return how often two nets cross if one has the row above the other's; to lie on another costs much more."""
    low, high = upper.span
    crossed = sum(low < top < high for top in lower.tops)
    low, high = lower.span
    crossed += sum(low < bottom < high for bottom in upper.bottoms)
    return crossed + 100 * sum(abs(top - bottom) < 2 for top in lower.tops for bottom in upper.bottoms)


class _Collected:
    """Everything at its place in the whole picture."""

    def __init__(self, direction: Direction) -> None:
        self.is_down = direction == "down"
        self.boxes: list[PlacedBox] = []
        self.lines: list[Line] = []
        self.labels: list[Label] = []

    def add(self, inside: _Contents, across: float, along: float, depth: int) -> None:
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
