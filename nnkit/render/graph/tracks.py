"""Between two ranks: which tensor turns in which row."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from nnkit.render.graph.across import Across
from nnkit.render.graph.grid import Grid
from nnkit.render.graph.ports import Ports
from nnkit.render.graph.sizes import PORT


@dataclass
class Net:
    """What a tensor does between two ranks: where it comes in and goes out across, and its row."""

    wire: int
    tops: list[float] = field(default_factory=list)
    bottoms: list[float] = field(default_factory=list)
    row: int = -1

    @property
    def span(self) -> tuple[float, float]:
        """The places farthest from each other."""
        every = [*self.tops, *self.bottoms]
        return min(every), max(every)

    @property
    def is_straight(self) -> bool:
        """Whether it needs no row."""
        low, high = self.span
        return high - low < 0.5


def find_nets(grid: Grid, across: Across, ports: Ports) -> list[dict[int, Net]]:
    """Return the nets before each rank and at the way out, by wire, each with its row."""
    gaps: list[dict[int, Net]] = [{} for _ in range(grid.ranks + 1)]
    for index, wire in enumerate(grid.wires):
        first, last = grid.first_rank(index), grid.last_rank(index)
        net = gaps[first][index] = Net(index, [ports.starts[index]])
        if last > first:
            net.bottoms.append(across.rail(index))
        for target in wire.targets:
            rank = grid.rank(target)
            if index not in gaps[rank]:
                rail = across.rail(index)
                gaps[rank][index] = Net(index, [rail], [rail] if rank < last else [])
            gaps[rank][index].bottoms.append(ports.ends[index, target])
    for gap in gaps:
        _assign_rows(net for net in gap.values() if not net.is_straight)
    return gaps


def _assign_rows(nets: Iterable[Net]) -> None:
    """Give nets their rows so that few cross, and those that don't overlap may share one."""
    order: list[Net] = []
    for net in sorted(nets, key=lambda net: (net.span[1] - net.span[0], net.wire)):
        costs = [0.0]
        for other in order:  # the cost of each place, from before all others on
            costs.append(costs[-1] + _crossings(other, net) - _crossings(net, other))
        order.insert(min(range(len(costs)), key=costs.__getitem__), net)
    for number, net in enumerate(order):
        low, high = net.span
        above = [
            other for other in order[:number] if other.span[0] < high + PORT and other.span[1] > low - PORT
        ]
        net.row = max((other.row for other in above), default=-1) + 1


def _crossings(upper: Net, lower: Net) -> float:
    """Return how often two nets cross if one has the row above the other's; to lie on it costs much more."""
    low, high = upper.span
    crossed = sum(low < top < high for top in lower.tops)
    low, high = lower.span
    crossed += sum(low < bottom < high for bottom in upper.bottoms)
    return crossed + 100 * sum(abs(top - bottom) < 2 for top in lower.tops for bottom in upper.bottoms)
