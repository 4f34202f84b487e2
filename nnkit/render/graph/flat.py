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
    flattening = _Flattening(opened)
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
    def __init__(self, opened: Collection[str]) -> None:
        self.opened = opened
        self.numbers: dict[str, int] = {}

    def draw(self, boxes: Sequence[Box]) -> tuple[Drawn, ...]:
        return tuple(map(self._draw, boxes))

    def _draw(self, box: Box) -> Drawn:
        number = self.numbers[box.key] = len(self.numbers)
        return Drawn(box, number, self.draw(inside(box)) if self._is_open(box) else ())

    def _is_open(self, box: Box) -> bool:
        return box.key in self.opened and bool(inside(box))

    def arrows(self, group: Box) -> Iterator[Arrow]:
        """Yield the arrows within a group, then those within its groups, each once."""
        group = _one_block(group)
        seen = set[Arrow]()
        for wire in group.wires:
            if wire.source == ENTRY:
                continue
            for source, label in self._sources(group.boxes[wire.source], wire):
                for target in self._targets_of(group, wire):
                    arrow = Arrow(source, target, label)
                    if arrow not in seen:
                        seen.add(arrow)
                        yield arrow
        for box in group.boxes:
            if self._is_open(box):
                yield from self.arrows(box)

    def _targets_of(self, group: Box, wire: Wire) -> Iterator[int]:
        for target in wire.targets:
            if target < len(group.boxes):
                yield from self._targets(group.boxes[target], wire.tensor)

    def _sources(self, box: Box, wire: Wire) -> Iterator[tuple[int, str]]:
        """Yield the box from which a tensor leaves a box, itself or one within it, and what it says there."""
        if not self._is_open(box):
            yield self.numbers[box.key], wire.label if wire.changes else ""
            return
        box, tensor = _in_one_block(box, wire.tensor, leaving=True)
        for inner in box.wires:
            if inner.tensor == tensor and inner.source != ENTRY and len(box.boxes) in inner.targets:
                yield from self._sources(box.boxes[inner.source], inner)

    def _targets(self, box: Box, tensor: int) -> Iterator[int]:
        """Yield the boxes that a tensor reaches in a box: itself, or those within it."""
        if not self._is_open(box):
            yield self.numbers[box.key]
            return
        box, tensor = _in_one_block(box, tensor, leaving=False)
        for wire in box.wires:
            if wire.tensor == tensor and wire.source == ENTRY:
                yield from self._targets_of(box, wire)


def _one_block(box: Box) -> Box:
    """Return the first of blocks that repeat; any other group is itself."""
    while box.kind == "repeat":
        box = box.boxes[0]
    return box


def _in_one_block(box: Box, tensor: int, leaving: bool) -> tuple[Box, int]:
    """Return the block that is drawn, and the tensor of its own that stands for one of any block."""
    while box.kind == "repeat":
        first = box.boxes[0]
        for block in reversed(box.boxes) if leaving else box.boxes:
            own = block.gives if leaving else block.takes
            if tensor in own:
                firsts = first.gives if leaving else first.takes
                tensor = firsts[min(own.index(tensor), len(firsts) - 1)] if firsts else tensor
                break
        box = first
    return box, tensor


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
    """Whether a box stands for steps that were drawn as one, for they are too many."""
    return box.key.endswith(STRETCH)
