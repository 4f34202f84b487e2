"""Which groups of a scene are drawn open: chosen by pattern or level, or as many levels as fit."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase

from nnkit.render.graph.scene import Box
from nnkit.verbs.graph.report import GraphReport

Fits = Callable[[frozenset[str]], bool]
MOST_BOXES = 60


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
    names = {box.title}
    if box.node >= 0:
        names |= {report.nodes[box.node].path, report.nodes[box.node].type}
    return any(fnmatchcase(name, pattern) for name in names)


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
    """Whether a box stands for several functions that were folded to one step."""
    return box.kind == "group" and box.node < 0


def fitting(root: Box, wanted: frozenset[str], fits: Fits) -> frozenset[str]:
    """Return the groups to open: of those that are wanted, the whole levels that fit."""
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
    return max((1 + height(each) for each in inside(box) if inside(each) and not is_train(each)), default=0)


def one_of_each(root: Box) -> frozenset[str]:
    """Return one group of each kind, from the outside in, while the picture has at most MOST_BOXES.

    Groups are of one kind if their types are equal, and the types of what is in them.
    """
    keys: set[str] = set()
    seen: set[tuple[str, ...]] = set()
    count = len(root.boxes)
    waiting = deque(root.boxes)
    while waiting:
        box = waiting.popleft()
        beneath = inside(box)
        kind = (box.subtitle, *sorted({inner.subtitle or inner.title for inner in beneath}))
        if not beneath or box.node < 0 or kind in seen or count + len(beneath) - 1 > MOST_BOXES:
            continue
        seen.add(kind)
        keys.add(box.key)
        count += len(beneath) - 1
        waiting.extend(beneath)
    return frozenset(keys)
