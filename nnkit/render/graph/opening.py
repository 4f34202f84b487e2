"""What is open at first in a picture."""

import re
from collections import deque
from collections.abc import Callable
from fnmatch import fnmatchcase

from nnkit.render.graph.place import body_of
from nnkit.render.graph.scene import Box

MOST_BOXES = 60


def opened(root: Box, pattern: str | None) -> Callable[[Box], bool]:
    """Return what tells whether a box is open.

    pattern: of paths or types, like `layer1*` or `BasicBlock`; what a box that matches is in is open, too. None:
    one group of each type, from the outside in, as long as the picture has at most MOST_BOXES.
    """
    keys = _of_each_type(root) if pattern is None else _matching(root, pattern)
    return lambda box: box.key in keys


def _of_each_type(root: Box) -> set[str]:
    keys: set[str] = set()
    seen: set[tuple[str, ...]] = set()
    count = len(root.boxes)
    waiting = deque(root.boxes)
    while waiting:
        box = waiting.popleft()
        body = body_of(box)
        kind = (box.subtitle, *sorted({inner.subtitle or inner.title for inner in body.boxes}))
        if not body.boxes or box.node < 0 or kind in seen or count + len(body.boxes) - 1 > MOST_BOXES:
            continue
        seen.add(kind)
        keys.add(box.key)
        count += len(body.boxes) - 1
        waiting.extend(body.boxes)
    return keys


def _matching(root: Box, pattern: str) -> set[str]:
    keys: set[str] = set()

    def visit(box: Box) -> bool:
        path = re.sub(r"~\d+|…|×\d+$", "", box.key)
        inside = [visit(inner) for inner in box.boxes]
        matches = fnmatchcase(path, pattern) or fnmatchcase(box.subtitle.partition(" ")[0], pattern)
        if box.boxes and (matches or any(inside)):
            keys.add(box.key)
        return matches or any(inside)

    for box in root.boxes:
        visit(box)
    return keys
