"""Where the boxes of one group are relative to each other: ranks, lanes and rails, but no sizes.

The calls of a group are in an order that topology allows, and whatever is folded is an interval of it. So no
edge ever runs backward, and no cycle has to be broken.

1. A box's rank is the longest way to it. What comes from no input moves down to where it is taken.
2. The main line is the longest way from the first input; its lane is 0. Other boxes form chains of boxes that
   follow one another. A chain gets the nearest lane that is free from its first box to where its last wire
   ends: to the left if it was called before the main line's box beside it, else to the right.
3. A wire that passes a rank runs in a rail: its source's lane if that is free, or its target's, else the
   nearest free lane on the side where it crosses fewer chains. Short ones come first, so rails are nested.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nnkit.render.graph.scene import ENTRY, Box, Wire


@dataclass(frozen=True)
class Layout:
    """The cells of a group's boxes, and the rails of its wires.

    ranks: for each box its row; a wire always runs to a later one. lanes: for each box its column: 0 is the
    main line, negative ones are to its left. No two boxes share a cell.
    rails: for each wire the lane of its trunk, a free column in which it runs past the ranks between its
    source and the last of its targets; None if all its targets are in the next rank. No rail runs through a
    box, and no two wires run in one rail at one rank.
    """

    ranks: tuple[int, ...]
    lanes: tuple[int, ...]
    rails: tuple[int | None, ...]


def lay_out(group: Box) -> Layout:
    """Return the cells of the boxes of a group, and the rails of its wires."""
    links = _Links(group.boxes, group.wires)
    ranks = _ranks(links)
    lanes, rails = _Lanes(links, ranks).find()
    return Layout(tuple(ranks), tuple(lanes), tuple(rails))


class _Links:
    """What follows what in a group."""

    def __init__(self, boxes: Sequence[Box], wires: Sequence[Wire]) -> None:
        self.wires = wires
        self.count = len(boxes)
        self.after: list[list[int]] = [[] for _ in boxes]
        self.before: list[list[int]] = [[] for _ in boxes]
        self.given: list[list[int]] = [[] for _ in boxes]  # the wires of each box
        self.is_input = [box.kind == "input" for box in boxes]
        self.enters = list(self.is_input)
        for index, wire in enumerate(wires):
            inside = [target for target in wire.targets if target < self.count]
            if wire.source == ENTRY:
                for target in inside:
                    self.enters[target] = True
            else:
                self.given[wire.source].append(index)
                self.after[wire.source] += inside
                for target in inside:
                    self.before[target].append(wire.source)


def _ranks(links: _Links) -> list[int]:
    ranks: list[int] = []
    is_fed = list(links.enters)
    for box, before in enumerate(links.before):
        ranks.append(max((ranks[source] + 1 for source in before), default=0))
        is_fed[box] = is_fed[box] or any(is_fed[source] for source in before)
    for box in reversed(range(links.count)):
        if not is_fed[box] and links.after[box]:
            ranks[box] = min(ranks[after] for after in links.after[box]) - 1
    return ranks


class _Lanes:
    """Gives boxes and rails their lanes. `taken` has the ranks that are taken in each lane, as bits."""

    def __init__(self, links: _Links, ranks: Sequence[int]) -> None:
        self.links, self.ranks = links, ranks
        self.way_out = max(ranks, default=-1) + 1
        self.below = [0] * links.count  # the boxes on the longest way on
        for box in reversed(range(links.count)):
            self.below[box] = max((self.below[after] + 1 for after in links.after[box]), default=0)
        self.lanes = [0] * links.count
        self.rails: list[int | None] = [None] * len(links.wires)
        self.taken: dict[int, int] = {}
        self.boxed: dict[int, int] = {}  # of these, the ranks of boxes

    def find(self) -> tuple[list[int], list[int | None]]:
        """Return the lane of each box, and of each wire that needs a rail."""
        main = self._main_line()
        beside = {self.ranks[box]: box for box in main}
        chained = set(main)
        left: list[list[int]] = []
        right: list[list[int]] = []
        for box in range(self.links.count):
            if box not in chained:
                chain = self._chain(box, chained)
                (left if box < beside.get(self.ranks[box], -1) else right).append(chain)
        self._place(main, 0)
        for chain in right:
            self._place(chain, self._nearest(chain, 1))
        for chain in reversed(left):
            self._place(chain, self._nearest(chain, -1))
        self._place_rails()
        return self.lanes, self.rails

    def _main_line(self) -> list[int]:
        heads = [box for box, before in enumerate(self.links.before) if not before]
        heads = [box for box in heads if self.links.enters[box]] or heads
        inputs = [box for box in heads if self.links.is_input[box] and self.links.after[box]]
        heads = inputs[:1] or heads
        line: list[int] = []
        while heads:
            line.append(self._longest(heads))
            heads = sorted(set(self.links.after[line[-1]]))
        return line

    def _longest(self, ways: Sequence[int]) -> int:
        """Return the box with the longest way on; of several the one nearest to the middle.

        So there are branches on both sides.
        """
        most, middle = max(self.below[box] for box in ways), (len(ways) - 1) / 2
        longest = [(abs(number - middle), box) for number, box in enumerate(ways) if self.below[box] == most]
        return min(longest)[1]

    def _chain(self, box: int, chained: set[int]) -> list[int]:
        """Return the boxes that follow one another from `box` on, and are in no chain yet."""
        chain: list[int] = []
        while True:
            chain.append(box)
            chained.add(box)
            next_rank = self.ranks[box] + 1
            ways = [
                way for way in self.links.after[box] if way not in chained and self.ranks[way] == next_rank
            ]
            if not ways:
                return chain
            box = max(ways, key=lambda way: self.below[way])

    def _place(self, chain: Sequence[int], lane: int) -> None:
        """Put a chain into a lane, and the longest wire of its last box below it."""
        for box in chain:
            self.lanes[box] = lane
            self._take(lane, _bits(self.ranks[box], self.ranks[box] + 1), is_box=True)
        if chain:
            wires = self.links.given[chain[-1]]
            longest = max(wires, key=self._end, default=None)
            if longest is not None and (span := self._span(longest)) and not self.taken.get(lane, 0) & span:
                self.rails[longest] = lane
                self._take(lane, span)

    def _nearest(self, chain: Sequence[int], step: int) -> int:
        end = max((self._end(wire) for wire in self.links.given[chain[-1]]), default=0)
        ranks = _bits(self.ranks[chain[0]], max(end, self.ranks[chain[-1]] + 1))
        return self._free(step, step, ranks)[0]

    def _free(self, lane: int, step: int, ranks: int) -> tuple[int, int]:
        """Return the first lane from `lane` on that is free, and how many lanes with boxes lie before it."""
        crossed = 0
        while self.taken.get(lane, 0) & ranks:
            crossed += bool(self.boxed.get(lane, 0) & ranks)
            lane += step
        return lane, crossed

    def _take(self, lane: int, ranks: int, is_box: bool = False) -> None:
        self.taken[lane] = self.taken.get(lane, 0) | ranks
        if is_box:
            self.boxed[lane] = self.boxed.get(lane, 0) | ranks

    def _place_rails(self) -> None:
        spans = [(index, self._span(index)) for index in range(len(self.rails)) if self.rails[index] is None]
        spans = [(index, span) for index, span in spans if span]
        spans.sort(key=lambda item: (item[1].bit_count(), item[0]))
        for index, span in spans:
            lane = self._rail(self.links.wires[index], span)
            self.rails[index] = lane
            self._take(lane, span)

    def _rail(self, wire: Wire, span: int) -> int:
        inside = [target for target in wire.targets if target < self.links.count]
        start = self.lanes[wire.source] if wire.source != ENTRY else self.lanes[inside[0]] if inside else 0
        ends = [self.lanes[target] for target in inside]
        straight = [start, *(ends if len(ends) == 1 else [])]
        for lane in straight:
            if not self.taken.get(lane, 0) & span:
                return lane
        right, on_right = self._free(start, 1, span)
        left, on_left = self._free(start, -1, span)
        if on_right == on_left:
            return right if start >= 0 else left
        return right if on_right < on_left else left

    def _span(self, index: int) -> int:
        """Return the ranks between the source of a wire and the last of its targets."""
        source = self.links.wires[index].source
        return _bits(self.ranks[source] + 1 if source != ENTRY else 0, self._end(index))

    def _end(self, index: int) -> int:
        targets = self.links.wires[index].targets
        return max(self.ranks[target] if target < self.links.count else self.way_out for target in targets)


def _bits(start: int, end: int) -> int:
    """Return the ranks from `start` up to `end`, without it, as bits."""
    return (1 << end) - (1 << start) if end > start else 0
