"""Formats of pictures: those of plugins beside core's, what can't be drawn, and what is written."""

from dataclasses import replace
from pathlib import Path

import pytest

import nnkit
from nnkit.contract.contributions import CORE_PICTURES, Picture
from nnkit.contract.requests import DrawRequest
from nnkit.errors import NnkitError, PluginProblem, UsageProblem
from nnkit.render.graph import pictures

PLUGIN = """
from nnkit import Picture, hookimpl
NNKIT_PLUGIN_API = "1.1"
@hookimpl
def nnkit_pictures():
    return [Picture(name="{name}", suffix="{suffix}", summary="drawn here", draw="{draw}", {more})]
"""
CODE = """
def draw(request):
    {draw}
"""


@pytest.fixture(scope="module")
def report():
    return nnkit.graph("simple-cnn")


@pytest.fixture
def plugin(plugins_from, tmp_path):
    """Make a manager with a plugin that draws by these lines."""

    def make(draw="return ''", name="list", suffix=".list", more="", function="picture_code:draw"):
        (tmp_path / "picture_code.py").write_text(CODE.format(draw=draw))
        return plugins_from(drawer=PLUGIN.format(name=name, suffix=suffix, draw=function, more=more))

    yield make
    import sys

    sys.modules.pop("picture_code", None)


def drawn(manager, report, path="net.list"):
    picture = pictures.find(Path(path), manager.pictures())
    return pictures.draw(picture, DrawRequest(report=report, heat="macs", depth=2))


def test_a_plugin_draws_text_or_bytes_from_the_whole_request(plugin, report):
    lines = "return f'{len(request.report.edges)} {request.heat} {request.depth}'"
    assert drawn(plugin(lines), report) == f"{len(report.edges)} macs 2".encode()


def test_a_plugin_may_draw_bytes(plugin, report):
    assert drawn(plugin("return bytes([0, 255])"), report) == b"\x00\xff"


@pytest.mark.parametrize("lines", ["return 3", "raise ValueError('no')", "return request.nothing"])
def test_a_plugin_that_fails_is_named(plugin, report, lines):
    with pytest.raises(PluginProblem, match="picture list failed to draw: "):
        drawn(plugin(lines), report)


def test_an_error_with_a_hint_of_a_plugin_s_own_stays(plugin, report):
    with pytest.raises(UsageProblem) as raised:
        drawn(
            plugin("from nnkit import UsageProblem; raise UsageProblem('too big', 'add --depth 1')"), report
        )
    assert (raised.value.message, raised.value.hint) == ("too big", "add --depth 1")


def test_a_package_that_is_missing_is_said_before_anything_is_drawn(plugin, report):
    manager = plugin(more="requires={'not_there': 'pip install not-there'}")
    with pytest.raises(PluginProblem, match="needs the package not_there") as raised:
        drawn(manager, report)
    assert (raised.value.hint, raised.value.exit_code) == ("install it: pip install not-there", 3)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ({"name": "svg"}, "already taken"),
        ({"suffix": ".svg"}, "the suffix .svg is already taken"),
        ({"suffix": "list"}, "a suffix starts with a dot"),
        ({"name": "My List"}, "lower-case words"),
    ],
)
def test_a_declaration_that_can_t_be_used_is_refused(plugin, how, problem):
    manager = plugin(**how)
    assert manager.pictures() == []
    assert problem in manager.failures[0].message


def test_two_models_need_a_format_that_draws_two(report):
    with pytest.raises(UsageProblem, match="picture in svg shows only one model"):
        pictures.draw(pictures.find_name("svg", ()), nnkit.DrawRequest(report=report, other=report))


@pytest.mark.parametrize("name", CORE_PICTURES)
def test_a_format_is_found_by_its_suffix_in_any_case(name):
    suffix = CORE_PICTURES[name]
    if name == "png":
        pytest.importorskip("resvg_py")
    assert pictures.find(Path(f"a.b{suffix.upper()}"), ()).name == name


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("net.htm", "did you mean .html?"),
        ("net.jsn", "did you mean .json?"),
        ("net", "the formats are: .html, "),
        (".svg", "the formats are: .html, "),
    ],
)
def test_an_unknown_suffix_has_a_way_out(path, hint):
    with pytest.raises(UsageProblem) as raised:
        pictures.find(Path(path), ())
    assert raised.value.hint.startswith(hint)


@pytest.mark.parametrize("heat", ["saved", "time"])
def test_a_cost_that_was_not_measured_is_an_error(report, heat, tmp_path):
    with pytest.raises(UsageProblem, match=f"the report has no {heat}"):
        report.save(tmp_path / "net.dot", heat=heat)
    assert not any(tmp_path.iterdir())


def test_a_report_saves_itself_and_keeps_what_is_there(tmp_path):
    report, path = nnkit.graph("resnet18"), tmp_path / "net.dot"
    report.save(path, opened="Sequential", direction="right")
    text = path.read_text()
    assert text.startswith('digraph "resnet18" {')
    assert "rankdir=LR" in text
    assert 'label="layer1 BasicBlock ×2"' in text
    with pytest.raises(UsageProblem, match="already exists"):
        report.save(path)
    assert path.read_text() == text
    report.save(path, force=True)
    assert "rankdir=TB" in path.read_text()
    with pytest.raises(NnkitError):
        report.save(tmp_path / "none" / "net.dot")


def test_core_s_declarations_are_complete():
    assert {picture.name: picture.suffix for picture in pictures.CORE} == CORE_PICTURES
    assert all(isinstance(picture, Picture) and picture.summary for picture in pictures.CORE)


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("resnet18", "see the groups: nnkit graph vision/resnet18"),
        ("simple-cnn", "nothing in it can be opened: leave the pattern out"),
    ],
)
def test_a_pattern_like_nothing_leads_to_the_groups(model, hint):
    with pytest.raises(UsageProblem) as caught:
        pictures.check(DrawRequest(report=nnkit.graph(model), opened=("zzz",)))
    assert caught.value.hint == hint


def test_groups_that_no_command_shows_are_named():
    report = replace(nnkit.graph("resnet18"), spec=None)
    with pytest.raises(UsageProblem) as caught:
        pictures.check(DrawRequest(report=report, opened=("zzz",)))
    assert caught.value.hint.startswith("the groups are: BasicBlock, Sequential, downsample, layer1, ")
