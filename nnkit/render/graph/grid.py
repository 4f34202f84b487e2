"""One group of a picture: its boxes as large as they will be, and where its wires run."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nnkit.render.graph.layout import lay_out
from nnkit.render.graph.scene import ENTRY, Box, Wire

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A part of a tensor's way, with right angles; only a step too short for two is slanted.

    has_head: whether it ends with an arrow. is_rail: whether it passes a rank beside its boxes.
    """

    points: tuple[Point, ...]
    has_head: bool
    is_rail: bool
    wire: Wire


@dataclass
class Item:
    """A box as large as it will be. before, beyond: how far it reaches across from its anchor.

    takes, gives: where the lines of an open box go on inside, by tensor, from its anchor. is_labeled: whether
    a label shows the shape of what it gives.
    """

    box: Box
    before: float
    beyond: float
    length: float
    contents: "Contents | None" = None
    title_at: float = 0.0
    takes: dict[int, float] = field(default_factory=dict)
    gives: dict[int, float] = field(default_factory=dict)
    is_labeled: bool = False


@dataclass
class Contents:
    """What is inside a group, across from its anchor and along from its frame.

    at: for each item its anchor across, and where it begins along. takes, gives: where lines cross the frame.
    """

    items: list[Item]
    at: list[Point]
    lines: list[Line]
    labels: list[tuple[Point, str]]
    before: float
    beyond: float
    length: float
    takes: dict[int, float]
    gives: dict[int, float]

    def texts(self) -> set[str]:
        """Return the texts of all labels inside."""
        inner = (item.contents.texts() for item in self.items if item.contents)
        return {text for _, text in self.labels}.union(*inner)


class Grid:
    """The ranks of a group's boxes and wires. The way out is the rank after the last; the way in is -1."""

    def __init__(self, group: Box, items: Sequence[Item]) -> None:
        self.items, self.wires, self.count = items, group.wires, len(items)
        self.layout = lay_out(group)
        self.ranks = max(self.layout.ranks, default=-1) + 1
        self.cells = list(zip(self.layout.lanes, self.layout.ranks, strict=True))
        self.filled = set(self.cells)
        self.given_by: list[list[int]] = [[] for _ in items]  # the wires of each box
        for index, wire in enumerate(self.wires):
            if wire.source != ENTRY:
                self.given_by[wire.source].append(index)
        self.spans = [self._span(box) for box in range(self.count)]

    def rank(self, target: int) -> int:
        """Return the rank of a target."""
        return self.ranks if target == self.count else self.layout.ranks[target]

    def first_rank(self, wire: int) -> int:
        """Return the rank after a wire's source."""
        source = self.wires[wire].source
        return 0 if source == ENTRY else self.layout.ranks[source] + 1

    def last_rank(self, wire: int) -> int:
        """Return the rank of a wire's last target."""
        return max(self.rank(target) for target in self.wires[wire].targets)

    def is_near(self, wire: int, target: int) -> bool:
        """Whether a target is in the rank after the wire's source, so that no rail leads to it."""
        return self.rank(target) == self.first_rank(wire)

    def given(self, box: int) -> list[Wire]:
        """Return what a box gives."""
        return [self.wires[index] for index in self.given_by[box]]

    def _span(self, box: int) -> int:
        """Return how many ranks a box may reach over: an open one whose only line runs straight on."""
        item, given = self.items[box], self.given_by[box]
        if item.contents is None or len(given) != 1:
            return 1
        wire, lane = self.wires[given[0]], self.layout.lanes[box]
        runs_straight = self.layout.rails[given[0]] == lane != 0 and not item.gives[wire.tensor]
        first = min(self.rank(target) for target in wire.targets)
        return first - self.layout.ranks[box] if runs_straight else 1
