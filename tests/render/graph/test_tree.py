"""The tree on a terminal: it fits, its shares are those of the summary, and every sign has a stand-in."""

import re

import pytest
from torch import nn

import nnkit
from nnkit.render.graph.terminal import ASCII, PLAIN, UNICODE, as_tree

LINE = re.compile(r"^(?P<lines>[│├╰─ ]*)(?P<name>\S+)(?P<rest>.*)$")


@pytest.fixture(scope="module")
def resnet():
    return nnkit.graph("resnet18")


def shares_of(text, column):
    """Return the percentages of a column by the name of the step, for steps with a name of their own."""
    head, *lines = text.split("\n\n")[1].splitlines()
    start = head.index(column)
    after = re.search(r"  (?=\S)", head[start:])
    end = start + after.end() if after else None
    found = {}
    for line in lines:
        percent = re.search(r"(<?\d+)%", line[start:end])
        found.setdefault(LINE.match(line)["name"], percent[1] if percent else "")
    return found


def test_the_shares_are_those_of_the_summary(resnet):
    rows = {row.path: row for row in nnkit.summarize("resnet18").rows}
    whole = rows[""]
    text = as_tree(resnet, depth=1)
    for column, cost in (("MACs", "macs"), ("params", "parameters")):
        shares = shares_of(text, column)
        for name in ("conv1", "layer1", "layer2", "layer3", "layer4", "fc"):
            share = getattr(rows[name], cost) / getattr(whole, cost)
            assert shares[name] == ("<1" if share < 0.005 else f"{share * 100:.0f}"), (name, column)
    totals = [line for line in text.splitlines() if line.startswith("parameters")]
    assert f"{whole.parameters:,}" in totals[0]


def test_the_steps_beneath_blocks_that_repeat_have_the_share_of_all_of_them():
    report = nnkit.graph("transformer")
    text = as_tree(report)
    assert text.count("EncoderLayer ×6") == 1
    rows = {row.path: row for row in nnkit.summarize("transformer").rows}
    share = 6 * rows["encoder.layers.0.linear1"].macs / rows[""].macs
    assert shares_of(text, "MACs")["linear1"] == f"{share * 100:.0f}"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_the_tree_fits_the_terminal(resnet, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    for report in (resnet, nnkit.graph("gcn")):
        lines = as_tree(report, terminal=True).split("\n\n")[1].splitlines()
        assert max(map(len, lines)) <= width
        assert all(line == line.rstrip() for line in lines)
        assert any("▏" in line or "█" in line for line in lines)


def test_what_has_no_room_is_named(resnet, monkeypatch):
    monkeypatch.setenv("COLUMNS", "56")
    text = as_tree(resnet, terminal=True)
    assert "no room for" in text
    assert "output" in text.splitlines()[-1]
    monkeypatch.setenv("COLUMNS", "90")
    assert "no room for" not in as_tree(resnet, terminal=True)


def test_shapes_have_names_where_there_is_room_and_sizes_where_not(monkeypatch):
    report = nnkit.graph("transformer")
    for width, shape in ((160, "batch×source_time×512"), (90, "1×16×512")):
        monkeypatch.setenv("COLUMNS", str(width))
        line = next(x for x in as_tree(report, terminal=True).splitlines() if x.startswith("encoder Stack"))
        assert line.split()[2] == shape


def test_colors_change_no_letter(resnet, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    plain = as_tree(resnet, terminal=True)
    colored = as_tree(resnet, terminal=True, color=True)
    assert PLAIN in colored
    without = re.sub(r"\x1b\[\d+m", "", colored)
    assert [line.rstrip() for line in without.splitlines()] == plain.splitlines()


def test_the_hottest_step_is_red_and_a_group_has_no_color(resnet, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = as_tree(resnet, depth=2, terminal=True, color=True)
    red = [line for line in text.splitlines() if "\x1b[31m" in line]
    assert any("layer4.1" in line for line in red)  # 42 % of the parameters
    assert not any("\x1b[1mlayer4\x1b[0m" in line for line in red)


def test_a_terminal_without_these_letters_gets_ascii(resnet):
    text = as_tree(resnet, signs=ASCII)
    assert not set(text) & set(UNICODE.all.replace(" ", ""))
    assert re.search(r"^\|- layer2\.0", text, re.MULTILINE)
    assert re.search(r"####", text)


def test_depth_and_patterns(resnet):
    assert "├" not in as_tree(resnet, depth=1)
    names = re.findall(r"[├╰]─ (\S+)", as_tree(resnet, opened=["layer2"]))
    assert names == ["layer2.0", "layer2.1"]


def test_the_chosen_cost_comes_first():
    report = nnkit.graph("simple-cnn", optimizer="adam")
    head = as_tree(report, heat="saved").split("\n\n")[1].splitlines()[0]
    assert re.search(r"saved \d.* MACs .* params ", head)
    assert "output" not in head


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.add_module("a\x1b[31m\nb", nn.Linear(2, 2))
        self.add_module("w" * 300, nn.Linear(2, 2))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


def test_hostile_and_long_names(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = as_tree(nnkit.graph(Odd(), inputs="x: float32[batch, 2]"), terminal=True)
    assert "\x1b" not in text
    assert r"a\x1b[31m\nb" in text
    assert max(map(len, text.splitlines())) <= 60
