"""A scene -> boxes, frames around them, and arrows: what formats that place everything themselves need.

Blocks that repeat are drawn once: arrows that reach or leave any of them reach or leave the first.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from nnkit.contract.text import plural
from nnkit.contract.visible import visible
from nnkit.render.graph.opening import inside
from nnkit.render.graph.scene import ENTRY, Box, Wire

STRETCH = "……"
"""The end of the key of a stretch."""


@dataclass(frozen=True)
class Drawn:
    """A box as it is drawn: a frame around `within` if it is open. number: of all boxes, in order."""

    box: Box
    number: int
    within: tuple["Drawn", ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """What is written on it: `conv1`, `Conv2d 3×3`."""
        return titled(self.box)


@dataclass(frozen=True)
class Arrow:
    """A tensor that runs from one box to another, by their numbers. label: its shape, where it changes."""

    source: int
    target: int
    label: str


@dataclass(frozen=True)
class Flat:
    """The boxes at the top, with those within them, and all arrows."""

    drawn: tuple[Drawn, ...]
    arrows: tuple[Arrow, ...]

    def all(self) -> Iterator[Drawn]:
        """Yield every box, each before those within it."""

        def walk(drawn: Sequence[Drawn]) -> Iterator[Drawn]:
            for each in drawn:
                yield each
                yield from walk(each.within)

        return walk(self.drawn)


def flatten(root: Box, opened: Collection[str]) -> Flat:
    """Return what is drawn if the groups with these keys are open."""
    flattening = _Flattening(opened, root)
    drawn = flattening.draw(root.boxes)
    return Flat(drawn, tuple(flattening.arrows(root)))


def titled(box: Box) -> tuple[str, ...]:
    """Return what is written on a box, line by line, with how often it repeats: `layers`, `Block ×80`."""
    title, *others = map(visible, filter(None, (box.title, box.subtitle)))
    lines = [title, *others]
    if box.times > 1:
        lines[-1] += f" ×{box.times}"
    return tuple(lines)


class _Flattening:
    """Finds the arrows by going down the groups that a wire crosses.

    Of blocks that repeat, the first is drawn. A wire that reaches or leaves another one is followed in that
    one, and each step is taken in the first one too: `drawn` is where the way goes, `real` what it crosses.
    """

    def __init__(self, opened: Collection[str], root: Box) -> None:
        self.opened = opened
        self.numbers: dict[str, int] = {}
        self.by_key = {box.key: box for box in _all_boxes(root)}

    def draw(self, boxes: Sequence[Box]) -> tuple[Drawn, ...]:
        return tuple(map(self._draw, boxes))

    def _draw(self, box: Box) -> Drawn:
        number = self.numbers[box.key] = len(self.numbers)
        return Drawn(box, number, self.draw(inside(box)) if self._is_open(box) else ())

    def _is_open(self, box: Box) -> bool:
        return box.key in self.opened and bool(inside(box))

    def arrows(self, group: Box) -> Iterator[Arrow]:
        """Yield the arrows within a group, then those within its groups, each once."""
        while group.kind == "repeat":
            group = group.boxes[0]
        seen = set[Arrow]()
        for wire in group.wires:
            if wire.source == ENTRY:
                continue
            maker = group.boxes[wire.source]
            for source, label in self._sources(maker, maker, wire):
                for target in self._targets_of(group, group, wire):
                    arrow = Arrow(source, target, label)
                    if arrow not in seen:
                        seen.add(arrow)
                        yield arrow
        for box in group.boxes:
            if self._is_open(box):
                yield from self.arrows(box)

    def _sources(self, drawn: Box, real: Box, wire: Wire) -> Iterator[tuple[int, str]]:
        """Yield the box in which a tensor is made, and the label of an arrow from there."""
        if drawn.key in self.numbers and not self._is_open(drawn):
            yield self.numbers[drawn.key], wire.label if wire.changes else ""
            return
        real, tensor = self._with_boxes(real, wire.tensor, leaving=True)
        for inner in real.wires:
            if inner.tensor == tensor and inner.source != ENTRY:
                yield from self._sources(_drawn(drawn, inner.source), real.boxes[inner.source], inner)

    def _targets(self, drawn: Box, real: Box, tensor: int) -> Iterator[int]:
        """Yield the boxes that take a tensor."""
        if drawn.key in self.numbers and not self._is_open(drawn):
            yield self.numbers[drawn.key]
            return
        real, tensor = self._with_boxes(real, tensor, leaving=False)
        for inner in real.wires:
            if inner.tensor == tensor and inner.source == ENTRY:
                yield from self._targets_of(drawn, real, inner)

    def _targets_of(self, drawn: Box, real: Box, wire: Wire) -> Iterator[int]:
        for target in wire.targets:
            if target < len(real.boxes):
                yield from self._targets(_drawn(drawn, target), real.boxes[target], wire.tensor)

    def _with_boxes(self, box: Box, tensor: int, leaving: bool) -> tuple[Box, int]:
        """Return the box that has what is in a box that is like it, and the tensor of that one."""
        if not box.like:
            return box, tensor
        like = self.by_key[box.like]
        mine, others = (box.gives, like.gives) if leaving else (box.takes, like.takes)
        return like, others[mine.index(tensor)]


def _drawn(group: Box, index: int) -> Box:
    """Return the box that is drawn for one in a group: the first for each of blocks that repeat."""
    return group.boxes[0 if group.kind == "repeat" else index]


def _all_boxes(box: Box) -> Iterator[Box]:
    yield box
    for inner in box.boxes:
        yield from _all_boxes(inner)


def in_stretches(group: Box, count: int) -> Box:
    """Return a group whose steps are drawn as at most `count` stretches of them; inputs and outputs stay.

    For a model that has too many steps for a format, and no groups to fold. Calls are in an order that
    topology allows, so a stretch of them makes no cycle.
    """
    steps = [box for box in group.boxes if box.kind not in ("input", "output")]
    length = -(-len(steps) // count)
    stretches = {steps[at].key: _stretch(steps[at : at + length]) for at in range(0, len(steps), length)}
    boxes: list[Box] = []
    place = {ENTRY: ENTRY}
    for index, box in enumerate(group.boxes):
        if box in steps and box.key in stretches:
            boxes.append(stretches[box.key])
            current = len(boxes) - 1
        elif box not in steps:
            boxes.append(box)
        place[index] = current if box in steps else len(boxes) - 1
    place[len(group.boxes)] = len(boxes)
    wires = []
    for wire in group.wires:
        targets = tuple(sorted({place[target] for target in wire.targets} - {place[wire.source]}))
        if targets:
            wires.append(replace(wire, source=place[wire.source], targets=targets))
    return replace(group, boxes=tuple(boxes), wires=tuple(wires))


def _stretch(steps: Sequence[Box]) -> Box:
    first, last = steps[0], steps[-1]
    if first is last:
        return first
    names = {name for step in steps for name in step.costs}
    costs = {name: sum(step.costs.get(name, 0.0) for step in steps) for name in names}
    title = f"{first.title} … {last.title}"
    return Box(f"{first.key}{STRETCH}", title, plural(len(steps), "step"), "group", -1, costs=costs)


def is_stretch(box: Box) -> bool:
    """Whether a box is a stretch of steps, drawn as one because there are too many."""
    return box.key.endswith(STRETCH)
