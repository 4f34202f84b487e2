"""What is true of every layout, tried on random groups."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nnkit.render.graph.layout import lay_out
from nnkit.render.graph.scene import ENTRY, Box, Wire


@st.composite
def groups(draw: st.DrawFn, most: int = 14) -> Box:
    """A group of boxes in call order: each gives up to two tensors to later boxes or out of the group."""
    count = draw(st.integers(1, most))
    kinds = draw(st.lists(st.sampled_from(["module", "function", "input"]), min_size=count, max_size=count))
    boxes = [Box(f"b{index}", f"b{index}", "T", kind, index) for index, kind in enumerate(kinds)]
    wires = []
    for source in range(ENTRY, count):
        for _ in range(draw(st.integers(0, 2))):
            targets = draw(st.sets(st.integers(max(source + 1, 0), count), min_size=1, max_size=4))
            wires.append(Wire(source, tuple(sorted(targets)), len(wires), "1×8", True))
    return Box("g", "g", "", "group", -1, tuple(boxes), tuple(wires))


@given(groups())
@settings(max_examples=150, deadline=None)
def test_a_box_has_a_cell_of_its_own(group: Box) -> None:
    layout = lay_out(group)
    cells = set(zip(layout.ranks, layout.lanes, strict=True))
    assert len(cells) == len(group.boxes)
    assert min(layout.ranks) >= 0


@given(groups())
@settings(max_examples=150, deadline=None)
def test_nothing_runs_up(group: Box) -> None:
    layout = lay_out(group)
    for wire in group.wires:
        if wire.source != ENTRY:
            inside = [target for target in wire.targets if target < len(group.boxes)]
            assert all(layout.ranks[target] > layout.ranks[wire.source] for target in inside)


@given(groups())
@settings(max_examples=150, deadline=None)
def test_rails_run_through_nothing(group: Box) -> None:
    layout = lay_out(group)
    count, way_out = len(group.boxes), max(layout.ranks) + 1
    cells = set(zip(layout.ranks, layout.lanes, strict=True))
    for wire, lane in zip(group.wires, layout.rails, strict=True):
        first = layout.ranks[wire.source] if wire.source != ENTRY else -1
        last = max(way_out if target == count else layout.ranks[target] for target in wire.targets)
        assert (lane is None) == (last == first + 1)
        if lane is not None:
            for rank in range(first + 1, last):
                assert (rank, lane) not in cells  # neither a box, nor another wire's rail
                cells.add((rank, lane))


@given(groups())
@settings(max_examples=50, deadline=None)
def test_the_same_group_has_the_same_layout(group: Box) -> None:
    assert lay_out(group) == lay_out(group)


def test_a_chain_is_straight_and_its_skips_are_nested_to_the_right() -> None:
    boxes = tuple(Box(name, name, "", "module", 0) for name in "abcdef")
    chain = [Wire(at, (at + 1,), at, "", False) for at in range(5)]
    skips = [Wire(1, (4,), 7, "", False), Wire(0, (5,), 8, "", False)]
    layout = lay_out(Box("g", "", "", "group", -1, boxes, (*chain, *skips)))
    assert layout.lanes == (0,) * 6
    assert layout.rails == (None,) * 5 + (1, 2)


def test_branches_read_in_the_order_of_their_calls() -> None:
    boxes = tuple(Box(str(at), "", "", "module", 0) for at in range(6))
    fork = Wire(0, (1, 2, 3, 4), 0, "", False)
    joins = [Wire(branch, (5,), branch, "", False) for branch in (1, 2, 3, 4)]
    layout = lay_out(Box("g", "", "", "group", -1, boxes, (fork, *joins)))
    assert list(layout.lanes[1:5]) == sorted(layout.lanes[1:5])
    assert layout.lanes[0] == layout.lanes[5] == 0


def test_what_comes_from_no_input_stands_above_what_takes_it() -> None:
    kinds = ("input", "module", "module", "constant", "function")
    boxes = tuple(Box(str(at), "", "", kind, at) for at, kind in enumerate(kinds))
    wires = (Wire(0, (1,), 0, "", False), Wire(1, (2,), 1, "", False), Wire(2, (4,), 2, "", False))
    layout = lay_out(Box("g", "", "", "group", -1, boxes, (*wires, Wire(3, (4,), 3, "", False))))
    assert layout.ranks == (0, 1, 2, 2, 3)
