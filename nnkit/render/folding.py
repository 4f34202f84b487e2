"""Rows -> the rows that a reader needs: blocks and steps that repeat are shown once, with a count.

Two stretches are alike if their calls have the same types, values, multiply-adds and parameters, and the same
names beneath; their index in a list doesn't matter. Example, with `b` a block that has rows beneath it:

    rows                            folded
    b.0, b.1, b.2                   b.0 … ×3          a block, from the second on
    cell, cell, cell                cell ×3           calls of one module, from the third on
    cell, add, cell, add, cell, add cell, add, and "the 2 steps above, 3 times in all"
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from nnkit.verbs.summary.report import Row, Value

LONGEST_LOOP = 32  # calls in the body of a loop


@dataclass(frozen=True)
class FoldedRow:
    """A row that may be shown for several.

    times: the number of rows it is shown for, the first of which is `row`. is_one: whether they are all
    calls of one module. steps: if it isn't 0, the line says that the `steps` calls above come `times` times.
    """

    row: Row
    times: int = 1
    is_one: bool = False
    steps: int = 0


@dataclass(slots=True)
class _Node:
    row: Row
    children: list["_Node"] = field(default_factory=list)
    likeness: int = 0  # equal for nodes that are alike


def keep_all(rows: Sequence[Row]) -> list[FoldedRow]:
    """Return every row as it is."""
    return [FoldedRow(row) for row in rows]


def fold(rows: Sequence[Row]) -> list[FoldedRow]:
    """Return the rows with repetitions shown once.

    A block (a call with rows beneath) is folded from the second on; single calls, and stretches of several,
    from the third on, because two calls of one module are worth seeing.
    """
    seen: dict[Hashable, int] = {}
    roots, text_of = _tree(rows), _Texts()
    for root in roots:
        _classify(root, seen, text_of)
    return list(_fold(roots))


class _Texts(dict[int, str]):
    """Texts of values that rows hold, each made once: the calls of a loop share their values."""

    def __call__(self, values: tuple[Value, ...]) -> str:
        key = id(values)
        if key not in self:
            self[key] = str(values)
        return self[key]


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


def _classify(node: _Node, seen: dict[Hashable, int], text_of: _Texts) -> None:
    for child in node.children:
        _classify(child, seen, text_of)
    row, prefix = node.row, node.row.path
    beneath = tuple((child.likeness, child.row.path.removeprefix(prefix)) for child in node.children)
    look = (row.kind, row.type, text_of(row.inputs), text_of(row.outputs), row.macs, row.kernel, beneath)
    node.likeness = seen.setdefault(look, len(seen))


def _fold(nodes: list[_Node]) -> Iterator[FoldedRow]:
    start = 0
    while start < len(nodes):
        period, times = _repetition(nodes, start)
        first = nodes[start]
        if period == 1:
            yield FoldedRow(first.row, times, first.row.path == nodes[start + times - 1].row.path)
            yield from _fold(first.children)
        else:
            for node in nodes[start : start + period]:
                yield FoldedRow(node.row)
                yield from _fold(node.children)
            yield FoldedRow(first.row, times, steps=period)
        start += period * times


def _repetition(nodes: list[_Node], start: int) -> tuple[int, int]:
    """Return how many nodes from `start` on repeat, and how often; (1, 1) if none do."""
    for period in range(1, LONGEST_LOOP + 1):
        times = 1
        while _alike(nodes, start, start + times * period, period):
            times += 1
        if times > 2 or (times == 2 and period == 1 and nodes[start].children):
            return period, times
    return 1, 1


def _alike(nodes: list[_Node], start: int, other: int, count: int) -> bool:
    """Whether the `count` nodes from `start` on are like those from `other` on."""
    if other + count > len(nodes) or not _same(nodes[start], nodes[other]):
        return False
    return all(map(_same, nodes[start : start + count], nodes[other : other + count]))


def _same(a: _Node, b: _Node) -> bool:
    """Whether `b` adds nothing after `a`: it is alike and has as many parameters, or is the same module."""
    if a.likeness != b.likeness or (a.row.kind == "function" and a.row.path != b.row.path):
        return False
    return a.row.parameters == b.row.parameters or (b.row.repeated and a.row.path == b.row.path)
