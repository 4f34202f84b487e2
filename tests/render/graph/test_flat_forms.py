"""Mermaid and DOT draw the edges of the run: no more, no fewer, and each where it belongs."""

import re
from functools import cache

import pytest
from torch import nn

import nnkit
from nnkit.contract.requests import DrawRequest
from nnkit.render.graph.dot import as_dot
from nnkit.render.graph.flat import flatten
from nnkit.render.graph.mermaid import as_mermaid
from nnkit.render.graph.opening import all_open, levels_open
from nnkit.render.graph.scene import scene_of

MODELS = ["simple-cnn", "resnet18", "googlenet", "gcn", "lstm", "transformer", "unet", "pointer-network"]


@cache
def report_of(name):
    return nnkit.graph(name)


class Drawing:
    """Where each node of a report is drawn, found from the tree of boxes and of calls alone, without wires."""

    def __init__(self, report, root, opened):
        self.nodes = report.nodes
        self.children = {}
        for index, node in enumerate(report.nodes):
            self.children.setdefault(node.parent, []).append(index)
        self.flat = flatten(root, opened)
        self.number = {drawn.box.key: drawn.number for drawn in self.flat.all()}
        self.place = {}
        self.block = {}
        self.put(root.boxes)

    def put(self, boxes):
        for box in boxes:
            if box.key not in self.number:
                continue
            drawn = next(each for each in self.flat.all() if each.number == self.number[box.key])
            if not drawn.within:
                for node in self.within(box):
                    self.place[node] = drawn.number
            elif box.kind == "repeat":
                first = box.boxes[0]
                self.put_one(first)
                leaves = self.within(first)
                for count, block in enumerate(box.boxes):
                    for node, alike in zip(self.within(block), leaves, strict=True):
                        self.place[node] = self.place[alike]
                        self.block[node] = (*self.block.get(node, ()), (box.key, count))
            else:
                self.put(box.boxes)

    def put_one(self, block):
        if block.kind == "repeat":
            self.put_one(block.boxes[0])
        elif block.boxes:
            self.put(block.boxes)

    def within(self, box):
        """Return the nodes without calls beneath that a box stands for, in order."""
        if box.node < 0 or box.kind == "repeat":
            return [node for inner in box.boxes for node in self.within(inner)]
        return self.leaves(box.node)

    def leaves(self, node):
        beneath = self.children.get(node)
        return [leaf for each in beneath for leaf in self.leaves(each)] if beneath else [node]

    def arrows(self, edges):
        """Return where the edges of the report are drawn; those from block to block of a repeat are not."""
        for edge in edges:
            if edge.source in self.place and edge.target in self.place:
                source, target = self.place[edge.source], self.place[edge.target]
                mine, other = (dict(self.block.get(node, ())) for node in (edge.source, edge.target))
                between_blocks = any(other.get(key, count) != count for key, count in mine.items())
                if source != target and not between_blocks:
                    yield source, target


@pytest.mark.parametrize("levels", [0, 1, 9])
@pytest.mark.parametrize("name", MODELS)
def test_the_arrows_are_the_edges_of_the_run(name, levels):
    report = report_of(name)
    root = scene_of(report, constants=True)
    drawing = Drawing(report, root, frozenset(levels_open(root, levels)))
    expected = set(drawing.arrows(report.edges))
    assert {(arrow.source, arrow.target) for arrow in drawing.flat.arrows} == expected
    assert len(expected) >= (4 if levels else 1)


# Mermaid


def mermaid(report, **how):
    said = []
    return as_mermaid(DrawRequest(report=report, progress=said.append, **how)), said


def arrows_in(text):
    return re.findall(r"^ +(n\d+) -->(?:\|\"[^\"]*\"\|)? (n\d+)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "transformer", "gcn"])
def test_mermaid_folds_to_what_github_draws_and_says_so(name):
    report = report_of(name)
    text, said = mermaid(report)
    count = len(arrows_in(text))
    whole = len(flatten(root := scene_of(report), all_open(root)).arrows)
    assert 2 < count <= 80
    if whole > 80:
        assert said
        assert said[0].startswith(f"folded to {count} edges")
        assert f"    %% {said[0]}" in text.splitlines()
    else:
        assert (said, count) == ([], whole)


class Flat(nn.Module):
    """A hundred steps and no group that could be folded."""

    def __init__(self):
        super().__init__()
        for index in range(70):
            is_odd = (
                index.bit_count() % 2
            )  # the sequence of Thue and Morse: nothing in it comes thrice in a row
            setattr(self, f"act{index}", nn.ReLU() if is_odd else nn.Tanh())
            setattr(self, f"fc{index}", nn.Linear(4, 4))

    def forward(self, x):
        for index in range(70):
            x = getattr(self, f"fc{index}")(x) + getattr(self, f"act{index}")(x)
        return x


def test_a_model_without_groups_is_drawn_in_stretches():
    report = nnkit.graph(Flat(), inputs="x: float32[batch, 4]")
    assert len(report.edges) > 200
    text, said = mermaid(report)
    arrows = arrows_in(text)
    assert 20 < len(arrows) <= 80
    assert "fc0 … " in said[0]
    assert " … " in text
    numbers = [(int(source[1:]), int(target[1:])) for source, target in arrows]
    assert all(source < target for source, target in numbers)  # a stretch makes no cycle
    assert {0} | {target for _, target in numbers} == {*range(max(max(numbers)) + 1)}  # all are reached


def test_depth_and_patterns_choose_what_is_open():
    report = report_of("resnet18")
    assert "subgraph" not in mermaid(report, depth=1)[0]
    text = mermaid(report, opened=("layer2.0*",))[0]
    assert re.findall(r'subgraph n\d+ \["(.*)"\]', text) == [
        "layer2 Sequential",
        "layer2.0 BasicBlock",
        "downsample Sequential",
    ]
    assert mermaid(report, opened=("BasicBlock",))[0].count("subgraph") == 3 + 7  # layer1 is one block ×2


def test_direction_and_heat():
    report = report_of("simple-cnn")
    assert mermaid(report, direction="right")[0].startswith("flowchart LR\n")
    text = mermaid(report, heat="params")[0]
    levels = dict(re.findall(r'n\d+[(\[]+"(\w+).*:::heat(\d)', text))
    rows = {node.path: node.row.parameters for node in report.nodes if node.row and node.row.parameters}
    whole = rows.pop("")
    hottest = max(rows, key=rows.get)
    assert rows[hottest] / whole > 1 / 3
    assert levels[hottest] == "4"
    assert set(levels) == set(rows)


HOSTILE = [
    'say "hi"',
    "end",
    "<script>alert(1)</script>",
    "a`b`c",
    "x]; click n0 call alert()",
    "%%{init: {}}%%",
    "back\\slash",
    "new\nline",
    "$$x^2$$",
    "#quot;",
    "1) one",
    "graph",
    "ümläut 层",
    "\u202eright",
]


class Hostile(nn.Module):
    def __init__(self):
        super().__init__()
        for name in HOSTILE:
            self.add_module(name, nn.Sequential(nn.Linear(4, 4), nn.ReLU()))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


@cache
def hostile_report():
    return nnkit.graph(Hostile(), inputs="x: float32[batch, 4]")


def test_hostile_names_stay_on_their_line():
    text, _ = mermaid(hostile_report())
    allowed = (
        r"flowchart TB|accTitle: .*|accDescr: .*|%% .*|subgraph n\d+ \[\"[^\"]*\"\]|end"
        r"|n\d+[(\[]+\"[^\"]*\"[])]+:::\w+|n\d+ -->(\|\"[^\"]*\"\|)? n\d+|classDef .*|class [n\d,]+ frame"
    )
    for line in text.splitlines():
        assert re.fullmatch(allowed, line.strip()), line
        assert "<script" not in line


# DOT


def test_dot_has_a_cluster_for_each_group_and_a_box_for_each_step():
    report = report_of("resnet18")
    text = as_dot(DrawRequest(report=report))
    drawn = [*flatten(root := scene_of(report), all_open(root)).all()]
    assert text.count("subgraph cluster_") == sum(bool(each.within) for each in drawn)
    assert len(re.findall(r"^ +n\d+ \[", text, re.MULTILINE)) == sum(not each.within for each in drawn)
    assert text.count(" -> ") == len(flatten(root, all_open(root)).arrows)
    assert "rankdir=LR" in as_dot(DrawRequest(report=report, direction="right"))
