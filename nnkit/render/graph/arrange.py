"""One group in its place: across, ports, tracks, along, and then its lines and labels."""

import math
from collections.abc import Iterator, Sequence

from nnkit.render.graph.across import Across
from nnkit.render.graph.grid import Contents, Grid, Item, Line, Point
from nnkit.render.graph.ports import Ports
from nnkit.render.graph.scene import ENTRY, Box
from nnkit.render.graph.sizes import ARROW, EDGE, GAP, LABEL, LABEL_ROW, SIDE, TRACK, TURN
from nnkit.render.graph.text import width_of
from nnkit.render.graph.tracks import find_nets


def arrange(group: Box, items: list[Item], is_down: bool, header: float, footer: float) -> Contents:
    """Return a group with everything in its place. header, footer: the room before and after its boxes."""
    arranged = _Arranged(Grid(group, items), is_down)
    arranged.along(header, footer)
    return arranged.contents(items)


class _Arranged:
    def __init__(self, grid: Grid, is_down: bool) -> None:
        self.grid, self.is_down = grid, is_down
        is_crossed = True
        while is_crossed:
            self.across = Across(grid, is_down)
            self.ports = Ports(grid, self.across)
            self.nets = find_nets(grid, self.across, self.ports)
            is_crossed = self._shorten_crossed()

    def _shorten_crossed(self) -> bool:
        """Keep boxes that a track would cross in their own rank, and return whether there were any."""
        crossed = [box for box in range(self.grid.count) if self._is_crossed(box)]
        for box in crossed:
            self.grid.spans[box] = 1
        return bool(crossed)

    def _is_crossed(self, box: int) -> bool:
        grid, item, anchor = self.grid, self.grid.items[box], self.across.anchors[box]
        left, right = anchor - item.before - SIDE, anchor + item.beyond + SIDE
        rank = grid.layout.ranks[box]
        return any(
            net.span[0] < right and net.span[1] > left
            for gap in range(rank + 1, rank + grid.spans[box])
            for net in self.nets[gap].values()
            if net.wire not in grid.given_by[box]
        )

    def along(self, header: float, footer: float) -> None:
        """Find where each box begins, and the first track of each gap."""
        grid = self.grid
        lengths, labels = [0.0] * grid.ranks, self._rooms_of_labels()
        for item, rank, span in zip(grid.items, grid.layout.ranks, grid.spans, strict=True):
            if span == 1:
                lengths[rank] = max(lengths[rank], item.length)
        at = header
        self.tracks: list[float] = []
        begins: list[float] = []
        for gap in range(grid.ranks + 1):
            self.tracks.append(at + labels[gap] + TURN)
            at += self._length_of_gap(gap, labels[gap])
            if gap < grid.ranks:
                begins.append(at)
                lengths[gap] = max([lengths[gap], *(end - at for end in self._ends_of_spans(gap, begins))])
                at += lengths[gap]
        self.length = at + (0.0 if self.nets[grid.ranks] else footer)
        self.begins = [
            begins[rank] + ((lengths[rank] - item.length) / 2 if span == 1 else 0.0)
            for item, rank, span in zip(grid.items, grid.layout.ranks, grid.spans, strict=True)
        ]

    def _rooms_of_labels(self) -> list[float]:
        """Return how much of each gap the labels need."""
        rooms = [0.0] * (self.grid.ranks + 1)
        for box, (item, rank) in enumerate(zip(self.grid.items, self.grid.layout.ranks, strict=True)):
            if item.is_labeled:
                text = ", ".join(dict.fromkeys(wire.label for wire in self.grid.given(box) if wire.changes))
                room = LABEL_ROW if self.is_down else width_of(text, LABEL) + 8
                rooms[rank + 1] = max(rooms[rank + 1], room)
        return rooms

    def _length_of_gap(self, gap: int, labels: float) -> float:
        is_edge = gap in (0, self.grid.ranks)
        if is_edge and not self.nets[gap]:
            return 0.0
        rows = max(net.row for net in self.nets[gap].values()) + 1 if self.nets[gap] else 0
        turns = 2 * TURN + (rows - 1) * TRACK if rows else 2.0
        return max(labels + turns + ARROW, EDGE if is_edge else GAP)

    def _ends_of_spans(self, rank: int, begins: Sequence[float]) -> Iterator[float]:
        """Yield where the boxes end that may reach from an earlier rank into this one, and no farther."""
        grid = self.grid
        for item, first, span in zip(grid.items, grid.layout.ranks, grid.spans, strict=True):
            if span > 1 and first + span - 1 == rank:
                yield begins[first] + item.length + (LABEL_ROW if item.is_labeled else 0.0)

    def contents(self, items: list[Item]) -> Contents:
        """Return what was placed."""
        return Contents(
            items,
            list(zip(self.across.anchors, self.begins, strict=True)),
            [line for index in range(len(self.grid.wires)) for line in self._lines(index)],
            [label for box in range(self.grid.count) for label in self._labels(box)],
            self.across.before,
            self.across.beyond,
            self.length,
            self.ports.takes,
            self.ports.gives,
        )

    def _lines(self, index: int) -> Iterator[Line]:
        """Yield the trunk of a wire to its farthest target, then a branch to each of the others."""
        grid, wire, start = self.grid, self.grid.wires[index], self.ports.starts[index]
        first = grid.first_rank(index)

        def distance(target: int) -> tuple[int, float]:
            return -grid.rank(target), abs(self.ports.ends[index, target] - start)

        for number, target in enumerate(sorted(wire.targets, key=distance)):
            rank, end = grid.rank(target), self.ports.ends[index, target]
            passes = rank > first
            at = self.across.rail(index) if passes else start
            points: list[Point] = []
            if number == 0:
                points.append((start, self._begin(index)))
                if passes:
                    points += self._turn(first, index, start, at)
            elif not passes and abs(end - at) < 0.5:
                points.append((at, self._begin(index)))
            else:  # a branch leaves the trunk where it turns
                points.append((at, self._track(rank, index) - TURN))
            if (index, target) in self.ports.at_side:
                if number and passes:
                    points = []
                points += self._into_the_side(target, at, is_branch=bool(number and passes))
            else:
                stop = self.length if target == grid.count else self.begins[target]
                points += [*self._turn(rank, index, at, end), (end, stop)]
            has_head = target < grid.count and grid.items[target].contents is None
            is_straight = (
                abs(at - start) < 0.5 and abs(end - at) < 0.5 and (index, target) not in self.ports.at_side
            )
            yield Line(tuple(points), has_head, passes and not is_straight, wire)

    def _begin(self, index: int) -> float:
        source = self.grid.wires[index].source
        return 0.0 if source == ENTRY else self.begins[source] + self.grid.items[source].length

    def _into_the_side(self, target: int, at: float, is_branch: bool) -> Iterator[Point]:
        item, anchor = self.grid.items[target], self.across.anchors[target]
        middle = self.begins[target] + item.length / 2
        if is_branch:
            yield at, middle - TURN
        yield at, middle
        yield anchor + (item.before if at > anchor else -item.before), middle

    def _turn(self, gap: int, index: int, start: float, end: float) -> list[Point]:
        track, distance = self._track(gap, index), abs(end - start)
        if distance < 0.5:
            return []
        slant = TURN if distance < 2 * TURN else 0.0  # no room for two corners
        return [(start, track - slant), (end, track + slant)]

    def _track(self, gap: int, index: int) -> float:
        return self.tracks[gap] + max(self.nets[gap][index].row, 0) * TRACK

    def _edge(self, box: int) -> float:
        return self.across.anchors[box] - self.grid.items[box].before

    def _labels(self, box: int) -> Iterator[tuple[Point, str]]:
        """Yield the labels of what a box gives: beside its line, or together where lines are close."""
        end = self.begins[box] + self.grid.items[box].length
        given = [(self.ports.starts[index], self.grid.wires[index]) for index in self.grid.given_by[box]]
        given.sort(key=lambda pair: pair[0])
        texts: dict[str, None] = {}
        first = math.inf
        for number, (at, wire) in enumerate(given):
            first = min(first, at)
            if wire.changes:
                texts[wire.label] = None
            text = ", ".join(texts)
            room = given[number + 1][0] - at if number + 1 < len(given) else math.inf
            left = at - 6 - width_of(text, LABEL)
            if text and number == 0 and self.is_down and room < math.inf and left > self._edge(box):
                yield (left, end + 12), text
                texts, first = {}, math.inf
            elif room > (width_of(text, LABEL) + 10 if self.is_down else LABEL_ROW):
                if text:
                    yield ((at + 6, end + 12) if self.is_down else (first - 5, end + 5)), text
                texts, first = {}, math.inf
