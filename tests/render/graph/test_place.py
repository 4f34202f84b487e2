"""What is true of every picture: nothing lies on another thing, and every line runs down, in right angles."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from nnkit.render.graph.grid import Line
from nnkit.render.graph.place import Picture, PlacedBox, place
from nnkit.render.graph.scene import ENTRY, Box, Wire
from nnkit.render.graph.sizes import LABEL, TURN
from nnkit.render.graph.text import width_of

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


@st.composite
def scenes(draw: st.DrawFn) -> Box:
    """A model of random steps, some of which are groups of random steps."""
    numbers = iter(range(10_000))

    def group(takes: list[int], gives: list[int], depth: int) -> Box:
        count = draw(st.integers(1, 6 if depth else 8))
        taken: list[list[int]] = [[] for _ in range(count)]
        given_: list[list[int]] = [[] for _ in range(count)]
        wires = []
        for tensor in takes:
            targets = draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=3))
            wires.append(Wire(ENTRY, tuple(sorted(targets)), tensor, "1×64", False))
        for tensor in gives:
            wires.append(Wire(draw(st.integers(0, count - 1)), (count,), tensor, "1×16×224×224", True))
        for source in range(count - 1):
            for _ in range(draw(st.integers(0, 2))):
                targets = draw(st.sets(st.integers(source + 1, count - 1), min_size=1, max_size=3))
                label = draw(st.sampled_from(["1×8", "1×64×112×112"]))
                changes = draw(st.booleans())
                wires.append(Wire(source, tuple(sorted(targets)), next(numbers), label, changes))
        for wire in wires:
            if wire.source != ENTRY:
                given_[wire.source].append(wire.tensor)
            for target in wire.targets:
                if target < count:
                    taken[target].append(wire.tensor)
        boxes = [box(taken[at], given_[at], depth) for at in range(count)]
        key = f"g{next(numbers)}"
        return Box(key, key, "Sequential", "group", 0, tuple(boxes), tuple(wires), 1, "", "other",
                   tuple(takes), tuple(gives))  # fmt: skip

    def box(takes: list[int], gives: list[int], depth: int) -> Box:
        if depth < 2 and draw(st.integers(0, 3)) == 0:
            return group(takes, gives, depth + 1)
        key = f"b{next(numbers)}"
        if draw(st.booleans()):
            return Box(key, key, "Conv2d 3×3", "module", 0)
        return Box(key, draw(st.sampled_from(["add", "relu"])), "", "function", 0)

    return group([], [], 0)


def rectangle(placed: PlacedBox) -> Rectangle:
    return placed.x, placed.y, placed.x + placed.width, placed.y + placed.height


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 0.2 and min(a[3], b[3]) - max(a[1], b[1]) > 0.2


def segments(picture: Picture) -> list[tuple[Line, Rectangle]]:
    return [
        (line, (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
        for line in picture.lines
        for (x0, y0), (x1, y1) in pairwise(line.points)
    ]


def thick(segment: Rectangle, by: float = 0.5) -> Rectangle:
    return segment[0] - by, segment[1] - by, segment[2] + by, segment[3] + by


def check(picture: Picture, is_down: bool = True) -> None:
    """Fail if a thing lies on another, or if a line doesn't run down in right angles."""
    closed = [rectangle(placed) for placed in picture.boxes if not placed.is_open]
    for number, placed in enumerate(picture.boxes):
        left, top, right, bottom = rectangle(placed)
        assert min(left, top) >= 0
        assert max(right - picture.width, bottom - picture.height) <= 0
        for other in picture.boxes[number + 1 :]:
            is_inside = other.depth > placed.depth and placed.is_open
            inner = rectangle(other)
            within = left <= inner[0] and inner[2] <= right and top <= inner[1] and inner[3] <= bottom
            assert not overlap((left, top, right, bottom), inner) or (is_inside and within), (
                f"{placed.box.key} {other.box.key}"
            )
    for line, segment in segments(picture):
        is_slanted = min(segment[2] - segment[0], segment[3] - segment[1]) > 0.5
        assert not is_slanted or (segment[2] - segment[0] if is_down else segment[3] - segment[1]) < 2 * TURN
        for box in closed:
            shrunk = (box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1)
            assert not overlap(thick(segment), shrunk), f"{line.points} {box}"
    for line in picture.lines:
        along = [y if is_down else x for x, y in line.points]
        assert all(after >= before - 0.01 for before, after in pairwise(along)), f"{line.points}"
    check_labels(picture, closed)


def check_labels(picture: Picture, closed: list[Rectangle]) -> None:
    frames = [rectangle(placed) for placed in picture.boxes if placed.is_open]
    labels = [(at.x, at.y - 7, at.x + width_of(at.text, LABEL), at.y + 1) for at in picture.labels]
    for number, label in enumerate(labels):
        assert min(label[0], picture.width - label[2]) >= 0
        for other in [*closed, *labels[number + 1 :]]:
            assert not overlap(label, other), f"{label} {other}"
        for line, segment in segments(picture):
            assert not overlap(label, thick(segment)), f"{picture.labels[number]} {line.points}"
        for left, top, right, bottom in frames:
            borders = [(left, top, right, top), (left, bottom, right, bottom)]
            borders += [(left, top, left, bottom), (right, top, right, bottom)]
            assert not any(overlap(label, thick(border)) for border in borders)


@given(scenes())
@settings(max_examples=100, deadline=None)
def test_nothing_lies_on_another_thing(root: Box) -> None:
    check(place(root, lambda box: True))


@given(scenes())
@settings(max_examples=60, deadline=None)
def test_nothing_lies_on_another_thing_if_it_runs_to_the_right(root: Box) -> None:
    check(place(root, lambda box: True, "right"), is_down=False)
