"""Where the boxes and rails of a group are across the flow."""

from collections.abc import Sequence
from typing import NamedTuple

from nnkit.render.graph.grid import Grid
from nnkit.render.graph.sizes import LABEL, LABEL_ROW, NEAR, PORT, RAIL, SIDE
from nnkit.render.graph.text import width_of


class _Cell(NamedTuple):
    """The room that a box or rail takes at one rank, to both sides of its anchor, and its margin."""

    before: float
    beyond: float
    margin: float


class Across:
    """The anchor of each box and rail. before, beyond: how far the group reaches from its own."""

    def __init__(self, grid: Grid, is_down: bool) -> None:
        self.grid = grid
        self.at: dict[tuple[int, int], float] = {}  # by lane and rank
        self.lanes = _cells(grid, is_down)
        before, beyond = [0.0] * grid.ranks, [0.0] * grid.ranks
        for lane in sorted(self.lanes, key=lambda lane: (abs(lane), lane)):
            for ranks in _runs(sorted(self.lanes[lane])):
                self._place_strip(lane, ranks, before, beyond)
        self.before, self.beyond = max(before, default=0.0), max(beyond, default=0.0)
        self.anchors = [self.at[cell] for cell in grid.cells]

    def rail(self, wire: int) -> float:
        """Return where the rail of a wire is."""
        lane = self.grid.layout.rails[wire]
        assert lane is not None
        return self.at[lane, self.grid.first_rank(wire)]

    def _place_strip(self, lane: int, ranks: Sequence[int], before: list[float], beyond: list[float]) -> None:
        """Put a strip as near as what lies beside it allows, and note how far each rank reaches now."""
        cells = [(rank, self.lanes[lane][rank]) for rank in ranks]
        at = 0.0
        if lane > 0:
            at = max(beyond[rank] + cell.before + cell.margin for rank, cell in cells)
        elif lane < 0:
            at = -max(before[rank] + cell.beyond + cell.margin for rank, cell in cells)
        at = self._straightened(lane, ranks, at)
        for rank, cell in cells:
            self.at[lane, rank] = at
            if lane >= 0:
                beyond[rank] = at + cell.beyond + cell.margin
            if lane <= 0:
                before[rank] = cell.before - at + cell.margin

    def _straightened(self, lane: int, ranks: Sequence[int], at: float) -> float:
        """Return where a rail goes on straight from or into an open box, if that is a little outward."""
        grid = self.grid
        wires = [index for index, rail in enumerate(grid.layout.rails) if rail == lane != 0]
        wires = [index for index in wires if ranks[0] <= grid.first_rank(index) <= ranks[-1]]
        if len(wires) != 1 or any((lane, rank) in grid.filled for rank in ranks):
            return at
        wire, wishes = grid.wires[wires[0]], []
        for box in (wire.source, *wire.targets):
            if 0 <= box < grid.count and grid.cells[box] in self.at:
                ports = grid.items[box].gives if box == wire.source else grid.items[box].takes
                if wire.tensor in ports:
                    wishes.append(self.at[grid.cells[box]] + ports[wire.tensor])
        side = 1 if lane > 0 else -1
        wishes = [wish for wish in wishes if 0 <= (wish - at) * side <= NEAR]
        return min(wishes, key=abs, default=at)


def _cells(grid: Grid, is_down: bool) -> dict[int, dict[int, _Cell]]:
    """Return the room of everything, by lane and rank."""
    lanes: dict[int, dict[int, _Cell]] = {}
    for box, (item, (lane, rank)) in enumerate(zip(grid.items, grid.cells, strict=True)):
        before, beyond = item.before, item.beyond
        if is_down:
            beyond = max(beyond, _reach_of_labels(grid, box))
        elif item.is_labeled:
            before = max(before, LABEL_ROW)
        for reached in range(rank, rank + grid.spans[box]):
            lanes.setdefault(lane, {})[reached] = _Cell(before, beyond, SIDE)
    for index, rail in enumerate(grid.layout.rails):
        if rail is not None:
            for rank in range(grid.first_rank(index), grid.last_rank(index)):
                lanes.setdefault(rail, {}).setdefault(rank, _Cell(0.0, 0.0, RAIL))
    return lanes


def _reach_of_labels(grid: Grid, box: int) -> float:
    """Return how far the labels below a box reach beyond its anchor at most."""
    item, given = grid.items[box], grid.given(box)
    ports = [item.gives.get(wire.tensor, PORT * (len(given) - 1)) for wire in given]
    return max(ports, default=0.0) + sum(width_of(wire.label, LABEL) + 8 for wire in given if wire.changes)


def _runs(ranks: Sequence[int]) -> list[list[int]]:
    """Return runs of ranks that follow one another."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and runs[-1][-1] == rank - 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return runs
