"""Which groups of a scene are drawn open: chosen by pattern or level, one of each type, or what fits."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase

from nnkit.render.graph.scene import Box
from nnkit.verbs.graph.report import GraphReport

Fits = Callable[[frozenset[str]], bool]


def opened_keys(
    report: GraphReport, root: Box, patterns: Sequence[str], depth: int | None
) -> frozenset[str] | None:
    """Return the keys of the groups that were asked to be open; None if nothing was asked.

    patterns: of the path or the type of a group; the groups around it are open too. depth: how many levels
    of steps are seen.
    """
    if not patterns and depth is None:
        return None
    keys = set(levels_open(root, (depth or 1) - 1))
    for pattern in patterns:
        keys |= _around(report, root, pattern)
    return frozenset(keys)


def _around(report: GraphReport, box: Box, pattern: str) -> set[str]:
    """Return the groups that match a pattern, and those around them."""
    keys = set[str]()
    for inner in inside(box):
        beneath = _around(report, inner, pattern)
        if inside(inner) and (beneath or _matches(report, inner, pattern)):
            keys |= {inner.key, *beneath}
    return keys


def _matches(report: GraphReport, box: Box, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in _names(report, box))


def _names(report: GraphReport, box: Box) -> set[str]:
    names = {box.title, box.subtitle.partition(" ")[0]}
    if box.node >= 0:
        names |= {report.nodes[box.node].path, report.nodes[box.node].type}
    return names - {""}


def names_of_groups(report: GraphReport, box: Box) -> set[str]:
    """Return all by which the groups beneath a box can be named, also those of blocks that are drawn once."""
    names = set[str]()
    for inner in box.boxes:
        if inner.boxes or inner.like:
            names |= _names(report, inner) | names_of_groups(report, inner)
    return names


def inside(box: Box) -> tuple[Box, ...]:
    """Return the steps of a group; of blocks that repeat, those of the first, which is drawn for all."""
    if box.kind != "repeat":
        return box.boxes
    first = box.boxes[0]
    return inside(first) if first.boxes else ()


def levels_open(root: Box, count: int) -> Iterator[str]:
    """Yield the keys of the groups of so many levels beneath the model; trains of functions stay folded."""
    if count > 0:
        for box in inside(root):
            if inside(box) and not is_train(box):
                yield box.key
                yield from levels_open(box, count - 1)


def all_open(root: Box) -> frozenset[str]:
    """Return the keys of all groups."""
    return frozenset(levels_open(root, height(root)))


def is_train(box: Box) -> bool:
    """Whether a box is several functions that were folded to one step."""
    return box.kind == "group" and box.node < 0


def of_each_type(root: Box, most: int) -> frozenset[str]:
    """Return one group of each type, from the outside in, as long as at most so many boxes are drawn.

    Two groups are of one type if what is in them is, too.
    """
    keys = set[str]()
    seen = set[tuple[str, ...]]()
    count = len(root.boxes)
    waiting = deque(root.boxes)
    while waiting:
        box = waiting.popleft()
        boxes = inside(box)
        types = (_type(box), *sorted(set(map(_type, boxes))))
        is_plain = len(boxes) == 1 and not inside(boxes[0])  # it hides nothing
        if not boxes or is_plain or box.node < 0 or types in seen or count + len(boxes) - 1 > most:
            continue
        seen.add(types)
        keys.add(box.key)
        count += len(boxes) - 1
        waiting.extend(boxes)
    return frozenset(keys)


def _type(box: Box) -> str:
    return box.subtitle.partition(" ")[0] or box.title  # without the size of its kernel


def fitting(root: Box, wanted: frozenset[str] | None, fits: Fits) -> frozenset[str]:
    """Return the groups to open: of those that are wanted, or of all, the whole levels that fit."""
    wanted = all_open(root) if wanted is None else wanted
    levels = height(root) + 1  # a train, which no level has, may be wanted
    while levels and not fits(wanted & _levels(root, levels)):
        levels -= 1
    return wanted & _levels(root, levels)


def _levels(box: Box, count: int) -> frozenset[str]:
    """Return the keys of all that is in so many levels."""
    if count == 0:
        return frozenset()
    return frozenset().union(*({each.key} | _levels(each, count - 1) for each in inside(box)))


def height(box: Box) -> int:
    """Return how many levels of groups are beneath a box."""
    groups = [each for each in inside(box) if inside(each) and not is_train(each)]
    return max((1 + height(each) for each in groups), default=0)
