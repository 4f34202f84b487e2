"""What of a summary is shown: folded repetitions, depth, patterns, columns; and values as what they are."""

from collections import namedtuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nnkit
from nnkit.errors import UsageProblem
from nnkit.render import summary as render
from nnkit.render.folding import fold


class Block(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        return x + F.relu(self.fc(x))


class Loop(nn.Module):
    """Blocks of their own, one cell again and again, and a loop of three steps."""

    def __init__(self, blocks=4, steps=20):
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(blocks)))
        self.cell = nn.Linear(8, 8)
        self.steps = steps

    def forward(self, x):
        x = self.blocks(x)
        for _ in range(self.steps):
            x = self.cell(x)
        for _ in range(5):
            x = (x * 2).tanh()
        return x


@pytest.fixture(scope="module")
def loop():
    return nnkit.summarize(Loop(), [torch.randn(2, 8)])


def test_blocks_that_are_alike_and_steps_of_a_loop_are_told_once(loop):
    text = render.as_text(loop)
    assert "blocks.0 … ×4" in text
    assert "cell ×20" in text
    assert "the 2 steps above, 5 times in all" in text
    assert "blocks.1" not in text
    told = sum((each.times if not each.steps else 0) for each in fold(loop.rows) if each.row.path == "cell")
    assert told == 20


def test_a_loop_says_how_often_whatever_the_columns(loop):
    assert "⋮ the 2 steps above, 5 times in all" in render.as_text(loop, ("macs",))


@pytest.mark.parametrize(
    ("device", "words"), [("cpu", "a run on the CPU"), ("meta", "a run without weights or data")]
)
def test_where_a_module_ran_is_told(device, words):
    report = nnkit.summarize(nn.Linear(4, 4, device=device), [torch.zeros(2, 4, device=device)])
    assert f"counted in   {words} (the module was already built)" in render.as_text(report)


def test_unfolded_each_of_them_has_its_row(loop):
    text = render.as_text(loop, unfold=True)
    steps = [line.split()[0] for line in text.splitlines() if line and not line[0].isspace()]
    assert steps.count("cell") == 20
    assert steps.count("tanh") == 5
    assert all(f"blocks.{i}.fc" in steps for i in range(4))
    assert text.count("used above") == 19


def test_blocks_that_differ_in_a_number_are_not_folded():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=i == 1)) for i in range(3)))
    text = render.as_text(nnkit.summarize(model, [torch.randn(1, 4)]))
    assert "×" not in text.partition("parameters   ")[0].replace("1×4", "")


def test_two_calls_of_one_module_keep_their_two_rows():
    shared = nn.Linear(4, 4)
    text = render.as_text(nnkit.summarize(nn.Sequential(shared, shared), [torch.randn(1, 4)]))
    assert "used above" in text


def test_depth_leaves_out_rows_and_no_number(loop):
    shallow = loop.select(depth=1)
    assert {row.depth for row in shallow.rows} == {0, 1}
    blocks = next(row for row in shallow.rows if row.path == "blocks")
    assert blocks.leaf
    assert (blocks.parameters, blocks.macs) == (4 * 72, 4 * 2 * 64)
    assert shallow.totals == loop.totals


@pytest.mark.parametrize(
    ("pattern", "count"), [("*.fc", 4), ("Linear", 24), ("blocks.2*", 4), ("nothing", 0)]
)
def test_a_pattern_keeps_paths_and_types_that_are_like_it(loop, pattern, count):
    assert len(loop.select(only=pattern).rows) == 1 + count


def test_without_functions_only_modules_have_rows(loop):
    kept = loop.select(functional=False)
    assert {row.kind for row in kept.rows} == {"module"}
    assert sum(row.macs for row in kept.rows if row.leaf) == loop.totals.macs


def test_columns_tell_what_they_are_asked_for():
    model = nn.Sequential(nn.Conv2d(3, 4, (3, 5)), nn.Flatten(), nn.Linear(4 * 6 * 4, 2))
    model[0].bias.requires_grad_(False)
    report = nnkit.summarize(model, [torch.randn(2, 3, 8, 8)])
    names = ("input", "output", "kernel", "params%", "trainable", "macs%", "dtype", "device")
    lines = render.as_text(report, render.check_columns(names)).splitlines()
    assert lines[2].split() == "step input output kernel params % trainable MACs % dtype device".split()
    conv, linear = (next(line for line in lines if line.startswith(each)).split() for each in "02")
    assert conv[1:] == ["2×3×8×8", "2×4×6×4", "3×5", "48.7%", "partly", "95.7%", "float32", "cpu"]
    assert linear[-4:] == ["yes", "4.3%", "float32", "cpu"]


def test_an_unknown_column_gets_the_nearest_name_or_all():
    with pytest.raises(UsageProblem) as raised:
        render.check_columns(["mac"])
    assert raised.value.message == "there is no column 'mac'"
    assert "macs" in raised.value.hint
    with pytest.raises(UsageProblem) as raised:
        render.check_columns(["zzz"])
    assert raised.value.hint == f"the columns are: {', '.join(render.COLUMNS)}"
    assert render.check_columns(["all"]) == tuple(render.COLUMNS)
    assert render.check_columns(["step", "macs"]) == ("macs",)


Pair = namedtuple("Pair", "left right")


class Mixed(nn.Module):
    def forward(self, x, mode, pair, mask=None, options=None):
        return {"sum": x + pair.left, "mode": mode, "rest": (pair.right, None, 3)}


def test_every_value_prints_as_what_it_is():
    pair = Pair(torch.zeros(4), torch.zeros(2, 3))
    report = nnkit.summarize(
        Mixed(), [torch.zeros(4), "train", pair, None, {"rate": 0.5, "on": torch.ones(1)}]
    )
    lines = [" ".join(line.split()) for line in render.as_text(report).splitlines()]
    for line in (
        "x input 4",
        "mode input 'train'",
        "pair.left input 4",
        "pair.right input 2×3",
        "mask input None",
        "options.rate input 0.5",
        "options.on input 1",
        "sum output 4",
        "mode output 'train'",
        "rest.0 output 2×3",
        "rest.1 output None",
        "rest.2 output 3",
    ):
        assert line in lines


def test_keyword_arguments_are_told_by_name():
    report = nnkit.summarize(Mixed(), {"x": torch.zeros(4), "mode": "m", "pair": Pair(torch.ones(4), 1)})
    assert list(report.rows[0].inputs[0]) == ["x", "mode", "pair"]
    lines = [" ".join(line.split()) for line in render.as_text(report).splitlines()]
    assert "pair.right input 1" in lines
    assert "rest.1 output None" in lines


class Calls(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Mixed()

    def forward(self, x):
        return self.inner(x, "on", pair=Pair(x, x))["sum"]


def test_a_call_inside_tells_its_arguments_too():
    text = render.as_text(nnkit.summarize(Calls(), [torch.zeros(4)]))
    assert "4, 'on', pair=(4, 4) → {sum: 4, mode: 'on', rest: (4, None, 3)}" in text


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.third(self.second(F.relu(self.first(x))))


def test_a_forward_that_fails_shows_the_rows_so_far_and_the_shapes_that_met():
    from nnkit.verbs.summary.report import ForwardFailed

    with pytest.raises(ForwardFailed) as raised:
        nnkit.summarize(Failing(), [torch.randn(2, 4)])
    report = raised.value.report
    assert [row.path for row in report.rows] == ["", "first", "relu", "second"]
    assert report.failure.path == "second"
    assert report.failure.inputs[0].shape == (2, 3)
    text = render.as_text(report)
    assert "2×3 → failed" in text
    assert "failed       in second (Linear), given 2×3: RuntimeError: mat1 and mat2" in text
    assert "third" not in text.partition("failed")[0]


def test_a_function_that_fails_is_the_place():
    class Adds(nn.Module):
        def forward(self, x, y):
            return torch.cat([x, y]) + y

    from nnkit.verbs.summary.report import ForwardFailed

    with pytest.raises(ForwardFailed) as raised:
        nnkit.summarize(Adds(), [torch.zeros(3, 2), torch.zeros(4, 2)])
    assert [row.type for row in raised.value.report.rows] == ["Adds", "cat", "add"]
    assert raised.value.report.failure.path == "add"


def test_an_error_that_the_model_catches_is_no_failure():
    class Careful(Failing):
        def forward(self, x):
            try:
                return self.second(self.first(x))
            except RuntimeError:
                return self.third(self.first(x))

    report = nnkit.summarize(Careful(), [torch.randn(2, 4)])
    assert report.failure is None
    assert [row.path for row in report.rows][-2:] == ["first", "third"]


def test_html_and_latex_hold_the_numbers_and_escape_what_is_theirs():
    report = nnkit.summarize(Mixed(), [torch.zeros(4), "<b>&_%", Pair(torch.ones(4), 1)])
    page = report._repr_html_()
    assert "&lt;b&gt;&amp;_%" in page
    assert "<b>" not in page
    latex = render.as_latex(report)
    assert r"<b>\&\_\%" in latex
    assert r"\begin{tabular}{lllrr}" in latex


def test_latex_compiles_as_far_as_braces_and_columns_go(loop):
    lines = [line for line in render.as_latex(loop).splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in lines} == {4}
    assert render.as_latex(loop).count("{") == render.as_latex(loop).count("}")
