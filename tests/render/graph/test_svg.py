"""SVG and PNG: text is text, names are harmless, and pixels have their letters."""

import re
import struct
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import nnkit
from nnkit.contract.requests import DrawRequest
from nnkit.errors import NnkitError
from nnkit.render.graph import fonts, png
from nnkit.render.graph.svg import as_svg
from nnkit.verbs.graph.report import GraphReport

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def report() -> GraphReport:
    return nnkit.graph("resnet18")


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_text_is_text(report: GraphReport) -> None:
    shown = texts(as_svg(DrawRequest(report=report)))
    assert {"image", "conv1", "Conv2d 7×7", "layer1", "×2", "BasicBlock", "+", "fc", "logits"} <= set(shown)


def test_it_has_colors_for_light_and_dark_and_names_a_font(report: GraphReport) -> None:
    svg = as_svg(DrawRequest(report=report))
    assert "@media (prefers-color-scheme:dark)" in svg
    assert "font-family:Helvetica, Arial," in svg
    assert not re.search(r"href|url\(|@import|<script", svg)


def test_it_opens_what_is_asked_for(report: GraphReport) -> None:
    closed = texts(as_svg(DrawRequest(report=report, depth=1)))
    assert "BasicBlock" in closed  # the type of layer1, which is a repeat of it
    assert "bn2" not in closed
    assert "downsample" in texts(as_svg(DrawRequest(report=report, opened=("layer3.0",))))


def test_heat_says_each_share(report: GraphReport) -> None:
    shown = texts(as_svg(DrawRequest(report=report, depth=1, heat="macs")))
    assert "Conv2d 7×7 · 6.5%" in shown  # 118,013,952 of 1,813,561,344
    assert {"share of MACs:", "below 1.2%", "from 33%"} <= set(shown)


def test_a_box_is_as_hot_as_its_share(report: GraphReport) -> None:
    svg = as_svg(DrawRequest(report=report, depth=1, heat="macs"))
    names = [element.attrib.get("class") for element in ElementTree.fromstring(svg).iter(f"{SVG}rect")]
    # From conv1 to fc: 6.5 %; nothing; layer1 to layer4, of which the first is drawn as two; nothing; 0.03 %.
    hot = [name for name in names if name and name.startswith("q")]
    assert hot == ["q2", "q3", "q3", "q3", "q3", "q3", "q0", *(f"q{level}" for level in range(5))]


def test_it_runs_to_the_right(report: GraphReport) -> None:
    def size(direction: str) -> tuple[float, float]:
        root = ElementTree.fromstring(as_svg(DrawRequest(report=report, direction=direction)))
        return float(root.attrib["width"]), float(root.attrib["height"])

    down, right = size("down"), size("right")
    assert down[0] < down[1]
    assert right[0] > right[1]


def test_names_do_no_harm(report: GraphReport) -> None:
    name = "</text><script>alert(1)</script>&\x1b[31m\u202e"
    first = replace(report.nodes[0], path=name)
    hostile = replace(report, title=name, nodes=(first, *report.nodes[1:]))
    svg = as_svg(DrawRequest(report=hostile))
    assert "<script" not in svg
    assert any("<script>alert(1)</script>&" in text for text in texts(svg))  # it parses, and is only a text
    assert "\x1b" not in svg


def test_a_picture_in_pixels_has_letters(report: GraphReport) -> None:
    pytest.importorskip("resvg_py")
    content = png.as_png(DrawRequest(report=report, depth=1))
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    root = ElementTree.fromstring(as_svg(DrawRequest(report=report, depth=1)))
    width, height = struct.unpack(">II", content[16:24])
    assert abs(width - 2 * float(root.attrib["width"])) <= 2
    assert abs(height - 2 * float(root.attrib["height"])) <= 2
    other = replace(report, nodes=(replace(report.nodes[0], path="photo"), *report.nodes[1:]))
    assert png.as_png(DrawRequest(report=other, depth=1)) != content


def test_a_letter_that_no_font_has_is_an_error(report: GraphReport, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    other = replace(report, nodes=(replace(report.nodes[0], path="\U000f0000"), *report.nodes[1:]))
    with pytest.raises(NnkitError, match="has no glyph for"):
        png.as_png(DrawRequest(report=other))
    monkeypatch.setattr(fonts, "FOLDERS", ())
    with pytest.raises(NnkitError, match="none was found"):
        png.as_png(DrawRequest(report=report))


def test_a_font_of_the_users_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fonts.VARIABLE, str(tmp_path / "none.ttf"))
    with pytest.raises(NnkitError, match="no such file"):
        fonts.find_font("a")
    (tmp_path / "bad.ttf").write_bytes(b"\0" * 100)
    monkeypatch.setenv(fonts.VARIABLE, str(tmp_path / "bad.ttf"))
    with pytest.raises(NnkitError, match="isn't a font"):
        fonts.find_font("a")


def test_the_letters_of_a_font_are_those_that_another_library_finds() -> None:
    truetype = pytest.importorskip("PIL.ImageFont").truetype
    file = fonts.find_font("aé×").files[0]
    _, letters = fonts._read(file)
    font = truetype(str(file), 40)
    missing = bytes(font.getmask("\U000f0000"))
    for letter in "aZ9é×·…–→−∂Ωж":
        assert (letter in letters) == (bytes(font.getmask(letter)) != missing)


def test_more_pixels_than_fit_are_an_error(report: GraphReport, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    monkeypatch.setattr(png, "MOST_PIXELS", 1_000)
    with pytest.raises(NnkitError, match="million pixels"):
        png.as_png(DrawRequest(report=report))
