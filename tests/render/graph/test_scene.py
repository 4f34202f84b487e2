"""What a scene shows of a report: each tensor, under names that mean something, and repeats once."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import nnkit
from nnkit.render.graph.scene import ENTRY, Box, label_of, scene_of
from nnkit.verbs.graph.report import GraphReport


def every(box: Box) -> Iterator[Box]:
    yield box
    for inner in box.boxes:
        yield from every(inner)


def whole(box: Box) -> Box:
    """Return a box in which each block that is like another has what that one has, under its own keys."""
    boxes: list[Box] = []
    for inner in box.boxes:
        if inner.like:
            first = next(other for other in boxes if other.key == inner.like)
            boxes.append(replace(renamed(first, first.key, inner.key), takes=inner.takes, gives=inner.gives))
        else:
            boxes.append(whole(inner))
    return replace(box, boxes=tuple(boxes))


def renamed(box: Box, old: str, new: str) -> Box:
    boxes = tuple(renamed(inner, old, new) for inner in box.boxes)
    return replace(box, key=new + box.key.removeprefix(old), boxes=boxes)


def edges_of(root: Box) -> set[tuple[str, str]]:
    """Follow each wire into the groups at both of its ends, down to the steps that have none inside."""
    found = set()
    for group in every(whole(root)):
        for wire in group.wires:
            inside = [group.boxes[target] for target in wire.targets if target < len(group.boxes)]
            if wire.source != ENTRY:
                start = source_of(group.boxes[wire.source], wire.tensor)
                found |= {(start, end) for box in inside for end in targets_of(box, wire.tensor)}
    return found


def source_of(box: Box, tensor: int) -> str:
    if not box.boxes:
        return box.key
    ways_out = [wire for wire in box.wires if len(box.boxes) in wire.targets]
    wire = ways_out[box.gives.index(tensor)]
    return source_of(box.boxes[wire.source], wire.tensor)


def targets_of(box: Box, tensor: int) -> Iterator[str]:
    if not box.boxes:
        yield box.key
        return
    ways_in = [wire for wire in box.wires if wire.source == ENTRY]
    wire = ways_in[box.takes.index(tensor)]
    for target in wire.targets:
        yield from targets_of(box.boxes[target], wire.tensor)


MODELS = ("resnet18", "googlenet", "densenet121", "unet", "transformer", "llama", "lstm", "vit-b-16")


@pytest.fixture(scope="module", params=MODELS)
def report(request: pytest.FixtureRequest) -> GraphReport:
    return nnkit.graph(request.param)


def test_its_wires_are_the_edges_of_the_report(report: GraphReport) -> None:
    keys = [node.key for node in report.nodes]
    assert edges_of(scene_of(report, constants=True)) == {
        (keys[edge.source], keys[edge.target]) for edge in report.edges
    }


def test_no_wire_runs_back(report: GraphReport) -> None:
    for box in every(scene_of(report)):
        for wire in box.wires:
            assert wire.targets
            assert all(target > wire.source for target in wire.targets)


def test_every_title_means_something_and_every_key_is_one_boxs(report: GraphReport) -> None:
    boxes = list(every(scene_of(report)))
    assert not [box.key for box in boxes if box.title.isdigit()]
    assert len({box.key for box in boxes}) == len(boxes)


def test_a_group_costs_no_less_than_what_is_in_it(report: GraphReport) -> None:
    root = scene_of(report)
    assert root.costs["macs"] == pytest.approx(1, abs=0.01)
    for box in every(root):
        if box.boxes and not any(inner.like for inner in box.boxes):
            inside = sum(inner.costs.get("macs", 0) for inner in box.boxes)
            assert inside <= box.costs.get("macs", 0) + 0.001


def test_repeated_blocks_are_one_box() -> None:
    root = scene_of(nnkit.graph("resnet18"))
    layer1 = next(box for box in root.boxes if box.title == "layer1")
    assert (layer1.kind, layer1.times, layer1.subtitle) == ("repeat", 2, "BasicBlock")
    first, second = layer1.boxes
    assert first.boxes
    assert (second.boxes, second.like) == ((), "layer1.0")
    layer2 = next(box for box in root.boxes if box.title == "layer2")
    assert [box.title for box in layer2.boxes] == ["layer2.0", "layer2.1"]  # they differ


class Cells(nn.Module):
    """A cell in a loop, and a table that comes from no input."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 8)
        for step in x.unbind(1):
            state = self.cell(step, state)
        scale = torch.arange(4).float().cos()
        return self.head(state) * scale


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x).chunk(3, -1)
        query = query.unflatten(-1, (2, 4)).transpose(1, 2).mul(0.5)
        mixed = nn.functional.scaled_dot_product_attention(
            query, key.unflatten(-1, (2, 4)).transpose(1, 2), value.unflatten(-1, (2, 4)).transpose(1, 2)
        )
        return mixed.transpose(1, 2).flatten(2)


def test_a_cell_in_a_loop_is_one_box() -> None:
    root = scene_of(nnkit.graph(Cells(), torch.zeros(2, 6, 8)))
    repeats = [box for box in root.boxes if box.kind == "repeat"]
    assert [(box.title, box.times) for box in repeats] == [("cell", 6)]


def test_what_comes_from_no_input_is_shown_if_asked_for() -> None:
    report = nnkit.graph(Cells(), torch.zeros(2, 6, 8))
    assert "arange" not in [box.title for box in every(scene_of(report))]
    assert "arange" in [box.title for box in every(scene_of(report, constants=True))]


def test_functions_in_a_row_are_one_box() -> None:
    root = scene_of(nnkit.graph(Heads(), torch.zeros(2, 6, 8)))
    titles = [box.title for box in root.boxes]
    assert "unflatten … mul" in titles
    assert "transpose · flatten" in titles
    assert "scaled_dot_product_attention" in titles


def test_a_label_says_where_a_shape_changes() -> None:
    root = scene_of(nnkit.graph("simple-cnn"))
    changes = {root.boxes[wire.source].title: wire.changes for wire in root.wires}
    assert changes["conv1"]
    assert not changes["relu"]


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        ((2, "nodes+edges"), "2×(nodes+edges)"),  # not 2·nodes + edges
        (("edges + nodes", 1), "(edges + nodes)×1"),
        (("nodes+1",), "nodes+1"),
        (("batch", "2·time", "height/2"), "batch×2·time×height/2"),
        ((), "scalar"),
    ],
)
def test_a_sum_among_axes_stands_in_parentheses(axes, text):
    assert label_of(axes) == text
