"""A scene -> boxes, frames around them, and arrows: what formats that place everything themselves need.

Blocks that repeat are drawn once: arrows that reach or leave any of them reach or leave the first.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from nnkit.render.graph.opening import inside
from nnkit.render.graph.scene import ENTRY, Box, Wire


@dataclass(frozen=True)
class Drawn:
    """A box as it is drawn: a frame around `within` if it is open. number: of all boxes, in order."""

    box: Box
    number: int
    within: tuple["Drawn", ...] = ()


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
        seen = set[tuple[int, int, str]]()
        for wire in group.wires:
            if wire.source == ENTRY:
                continue
            for source in self._sources(group.boxes[wire.source], wire.tensor):
                for target in self._targets_of(group, wire):
                    label = wire.label if wire.changes else ""
                    if (source, target, wire.label) not in seen:
                        seen.add((source, target, wire.label))
                        yield Arrow(source, target, label)
        for box in group.boxes:
            if self._is_open(box):
                yield from self.arrows(box)

    def _targets_of(self, group: Box, wire: Wire) -> Iterator[int]:
        for target in wire.targets:
            if target < len(group.boxes):
                yield from self._targets(group.boxes[target], wire.tensor)

    def _sources(self, box: Box, tensor: int) -> Iterator[int]:
        """Yield the box from which a tensor leaves a box: itself, or one within it."""
        if not self._is_open(box):
            yield self.numbers[box.key]
            return
        box, tensor = _in_one_block(box, tensor, leaving=True)
        for wire in box.wires:
            if wire.tensor == tensor and wire.source != ENTRY and len(box.boxes) in wire.targets:
                yield from self._sources(box.boxes[wire.source], tensor)

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
    """Return a group whose boxes are drawn as at most `count`, each a stretch of them; ends stay as they are.

    For a model without groups that has more steps than a format can show.
    """
    inner = [index for index, box in enumerate(group.boxes) if box.kind not in ("input", "output")]
    length = -(-len(inner) // count)
    stretch_of: dict[int, int] = {}
    boxes: list[Box] = []
    for index, box in enumerate(group.boxes):
        if index in inner and boxes and inner.index(index) % length and boxes[-1].kind == "group":
            first = boxes[-1]
            boxes[-1] = replace(first, title=f"{first.title.split(' … ')[0]} … {box.title}")
        else:
            is_step = index in inner
            boxes.append(
                Box(f"{box.key}…", box.title, f"{length} steps", "group", -1)
                if is_step and length > 1
                else box
            )
        stretch_of[index] = len(boxes) - 1
    stretch_of[len(group.boxes)] = len(boxes)
    stretch_of[ENTRY] = ENTRY
    wires = []
    for wire in group.wires:
        source = stretch_of[wire.source]
        targets = sorted({stretch_of[target] for target in wire.targets} - {source})
        if targets:
            wires.append(replace(wire, source=source, targets=tuple(targets)))
    return replace(group, boxes=tuple(boxes), wires=tuple(wires))
