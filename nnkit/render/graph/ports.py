"""Where the lines of a group begin and end at its boxes."""

from collections.abc import Sequence

from nnkit.render.graph.across import Across
from nnkit.render.graph.grid import Grid
from nnkit.render.graph.scene import ENTRY, Wire
from nnkit.render.graph.sizes import PORT, TURN, is_symbol

Wish = tuple[int, float]
"""A wire, and the place across from which it comes, or to which it goes."""


class Ports:
    """Across: the start of each wire, and its end at each target.

    at_side: the wires and targets that they reach from the side. takes, gives: where lines cross the frame.
    """

    def __init__(self, grid: Grid, across: Across) -> None:
        self.grid, self.across = grid, across
        self.starts: dict[int, float] = {}
        self.ends: dict[tuple[int, int], float] = {}
        self.at_side: set[tuple[int, int]] = set()
        self.takes: dict[int, float] = {}
        self.gives: dict[int, float] = {}
        coming, going = self._wishes()
        for box in range(grid.count):
            self._at_box(box, coming[box], going[box])
        self._at_frame()

    def _wishes(self) -> tuple[list[list[Wish]], list[list[Wish]]]:
        """Return from where the lines to each box come, and to where those from it go."""
        grid, anchors = self.grid, self.across.anchors
        coming: list[list[Wish]] = [[] for _ in grid.items]
        going: list[list[Wish]] = [[] for _ in grid.items]
        for index, wire in enumerate(grid.wires):
            ways = []
            for target in wire.targets:
                rail = None if grid.is_near(index, target) else self.across.rail(index)
                beneath = anchors[wire.source if target == grid.count else target]
                ways.append(beneath if rail is None else rail)
                if target < grid.count:
                    above = anchors[target if wire.source == ENTRY else wire.source]
                    coming[target].append((index, above if rail is None else rail))
            if wire.source != ENTRY:
                anchor = anchors[wire.source]
                going[wire.source].append((index, min(ways, key=lambda way: abs(way - anchor))))
        return coming, going

    def _at_box(self, box: int, coming: list[Wish], going: list[Wish]) -> None:
        item, anchor, wires = self.grid.items[box], self.across.anchors[box], self.grid.wires
        if item.contents is None and is_symbol(item.box):
            coming = self._from_the_side(box, coming)
        half = min(item.before, item.beyond)
        for index, port in _spread(anchor, coming, half, wires):
            inside = item.takes.get(wires[index].tensor)
            self.ends[index, box] = port if inside is None else anchor + inside
        for index, port in _spread(anchor, going, half, wires):
            inside = item.gives.get(wires[index].tensor)
            self.starts[index] = port if inside is None else anchor + inside

    def _from_the_side(self, box: int, coming: list[Wish]) -> list[Wish]:
        """Let a line from the left and one from the right end at the side; return those from above."""
        grid, (lane, rank) = self.grid, self.grid.cells[box]
        anchor, half = self.across.anchors[box], grid.items[box].before
        above = list(coming)
        for side in (-1, 1):
            beside = [(index, at) for index, at in coming if (at - anchor) * side > half + TURN]
            if len(beside) != 1 or len(above) == 1:
                continue
            index, at = beside[0]
            own = None if grid.is_near(index, box) else grid.layout.rails[index]
            lanes = [other for other, ranks in self.across.lanes.items() if rank in ranks]
            between = [other for other in lanes if (other - lane) * side > 0]
            if all(other == own and (other, rank) not in grid.filled for other in between):
                self.at_side.add((index, box))
                self.ends[index, box] = at
                above.remove(beside[0])
        return above

    def _at_frame(self) -> None:
        for index, wire in enumerate(self.grid.wires):
            if wire.source == ENTRY:
                self.takes[wire.tensor] = self.starts[index] = self._entry(index, wire)
            if wire.targets[-1] == self.grid.count:
                is_near = self.grid.is_near(index, self.grid.count)
                end = self.starts[index] if is_near else self.across.rail(index)
                self.gives[wire.tensor] = self.ends[index, self.grid.count] = end

    def _entry(self, index: int, wire: Wire) -> float:
        """Return where a wire comes in: straight above a target, that of the main line if there is one."""
        grid = self.grid
        near = [target for target in wire.targets if target < grid.count and grid.is_near(index, target)]
        if near:
            return min((self.ends[index, target] for target in near), key=abs)
        return self.across.rail(index) if grid.layout.rails[index] is not None else 0.0


def _spread(anchor: float, wishes: Sequence[Wish], half: float, wires: Sequence[Wire]) -> list[Wish]:
    """Return where lines end at a box: one at its anchor if it runs straight, the others on their side."""
    ordered = sorted(wishes, key=lambda wish: (wish[1], wish[0]))
    straight = [number for number, (_, wish) in enumerate(ordered) if abs(wish - anchor) < 0.5]
    # The tensor that most boxes take is the main line.
    straight.sort(key=lambda number: -len(wires[ordered[number][0]].targets))
    middle = straight[0] if straight else (len(ordered) - 1) / 2
    most = max(middle, len(ordered) - 1 - middle, 1)
    step = min(PORT, max(half - 6, 1) / most)
    return [(index, anchor + (number - middle) * step) for number, (index, _) in enumerate(ordered)]
