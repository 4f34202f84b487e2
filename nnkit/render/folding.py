"""Rows -> the rows that a reader needs: blocks and steps that repeat are told once, and how often.

A row stands alone or for several alike. Two stretches are alike when their calls have the same types,
values, multiply-adds and parameters, and the same names beneath; which one of a list it is, doesn't matter.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from nnkit.verbs.summary.report import Row

LONGEST_LOOP = 32  # calls in the body of a loop


@dataclass(frozen=True)
class Told:
    """A row as it is told.

    times: how many stand here, the first of which is `row`. is_one: whether they all are calls of one.
    steps: where it isn't 0, no row is told, but that the `steps` calls above come `times` times in all.
    """

    row: Row
    times: int = 1
    is_one: bool = False
    steps: int = 0


@dataclass
class _Node:
    row: Row
    children: list["_Node"] = field(default_factory=list)
    kind: int = 0  # equal for nodes that are alike


def unfolded(rows: Sequence[Row]) -> list[Told]:
    """Return every row as it is."""
    return [Told(row) for row in rows]


def folded(rows: Sequence[Row]) -> list[Told]:
    """Return the rows with what repeats told once.

    A block (a call with others beneath) is folded from the second on; single calls, and stretches of
    several, from the third on, for two calls of one module are worth seeing.
    """
    kinds: dict[Hashable, int] = {}
    roots = _tree(rows)
    for root in roots:
        _classify(root, kinds)
    return list(_tell(roots))


def _tree(rows: Sequence[Row]) -> list[_Node]:
    above: list[_Node] = []
    roots: list[_Node] = []
    for row in rows:
        node = _Node(row)
        while above and above[-1].row.depth >= row.depth:
            above.pop()
        (above[-1].children if above else roots).append(node)
        above.append(node)
    return roots


def _classify(node: _Node, kinds: dict[Hashable, int]) -> None:
    for child in node.children:
        _classify(child, kinds)
    row, prefix = node.row, node.row.path
    beneath = tuple((child.kind, child.row.path.removeprefix(prefix)) for child in node.children)
    look = (row.kind, row.type, str(row.inputs), str(row.outputs), row.macs, row.kernel, beneath)
    node.kind = kinds.setdefault(look, len(kinds))


def _tell(nodes: list[_Node]) -> Iterator[Told]:
    place = 0
    while place < len(nodes):
        period, times = _repetition(nodes, place)
        first = nodes[place]
        if period == 1:
            yield Told(first.row, times, first.row.path == nodes[place + times - 1].row.path)
            yield from _tell(first.children)
        else:
            for node in nodes[place : place + period]:
                yield Told(node.row)
                yield from _tell(node.children)
            yield Told(first.row, times, steps=period)
        place += period * times


def _repetition(nodes: list[_Node], start: int) -> tuple[int, int]:
    """Return how many nodes from `start` on repeat, and how often; (1, 1) where none do."""
    for period in range(1, LONGEST_LOOP + 1):
        times = 1
        while _alike(nodes, start, start + times * period, period):
            times += 1
        if times > 2 or (times == 2 and period == 1 and nodes[start].children):
            return period, times
    return 1, 1


def _alike(nodes: list[_Node], one: int, other: int, count: int) -> bool:
    if other + count > len(nodes):
        return False
    pairs = zip(nodes[one : one + count], nodes[other : other + count], strict=True)
    return all(_same(a, b) for a, b in pairs)


def _same(a: _Node, b: _Node) -> bool:
    """Whether `b` tells nothing new after `a`: another of its kind with as many parameters, or itself."""
    if a.kind != b.kind or (a.row.kind == "function" and a.row.path != b.row.path):
        return False
    return a.row.parameters == b.row.parameters or (b.row.repeated and a.row.path == b.row.path)
