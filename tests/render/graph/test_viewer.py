"""The page of a picture in a real browser."""

import json
import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest
from browser import axe_source, chromium, opener
from reports import chain

import nnkit
from nnkit.contract.requests import DrawRequest
from nnkit.render.graph.html import as_frame, as_html

pytestmark = pytest.mark.slow

HOSTILE = [
    "</script><script>hacked()</script>",
    '<img src=x onerror="hacked()">',
    '"><svg onload=hacked()>',
    "]]>--><!--",
    "__proto__",
    "constructor",
    "a b#c%20d/é漢字",
    "\u202egnp.exe",
    "${hacked()}`",
    "line\u2028separator",
    "x" * 500,
]
REPORTS = {
    "resnet18": lambda: nnkit.graph("resnet18", optimizer="adam"),
    "googlenet": lambda: nnkit.graph("googlenet"),
    "llama": lambda: nnkit.graph("llama", layers=80),
    "gcn": lambda: nnkit.graph("gcn"),
    "transformer": lambda: nnkit.graph("transformer"),
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return what writes the page of a model, once."""
    folder = tmp_path_factory.mktemp("pages")

    def write(name):
        file = folder / f"{name}.html"
        if not file.exists():
            file.write_text(as_html(DrawRequest(report=REPORTS[name]())), encoding="utf-8", newline="")
        return file

    return write


@pytest.fixture
def visit(browser, files):
    """Open a page; when the test is done, nothing has left it and nothing went wrong."""
    opened = []
    go = opener(browser)

    def to(name, **how):
        opened.append(go(files(name) if isinstance(name, str) else name, **how))
        return opened[-1]

    yield to
    for one in opened:
        outside = [url for url in one.requests if not url.startswith(("file:", "data:", "blob:", "about:"))]
        assert (one.errors, outside) == ([], [])
        one.page.context.close()


def titles(watched):
    return watched.page.locator(".picture .title").all_text_contents()


def rows(watched):
    return watched.page.locator("#body tr:not(.padding)")


@pytest.mark.parametrize("size", ["wide", "notebook", "narrow"])
def test_the_table_fits_its_panel(visit, size):
    page = visit("llama", size=size).page
    assert page.evaluate(
        "document.querySelector('#rows').scrollWidth <= document.querySelector('#rows').clientWidth"
    )
    name = page.locator("#body td.step .name").first  # which isn't cut to nothing
    assert name.evaluate("name => name.getBoundingClientRect().width") > 50


def test_it_begins_at_a_size_that_can_be_read(visit):
    watched = visit("resnet18")
    assert {"image", "conv1", "layer1", "layer2"} <= set(titles(watched))
    scale = float(
        re.search(r"scale\(([\d.]+)", watched.page.locator("#picture > g").get_attribute("transform"))[1]
    )
    assert scale >= 0.8
    assert watched.page.title() == "resnet18"


def test_a_group_opens_and_closes_with_its_skip_as_a_rail(visit):
    watched = visit("resnet18")
    assert watched.page.locator(".line.far").count() == 0
    watched.toggle("layer1")
    assert watched.box("layer1.0.conv1").is_visible()
    assert watched.page.locator(".line.far").count() == 1
    watched.toggle("layer1")
    assert watched.box("layer1.0.conv1").count() == 0


def test_the_blocks_of_a_repeat_unfold(visit):
    watched = visit("llama", fragment="#model.layers")
    assert "×80" in watched.page.locator(".picture").text_content()
    watched.page.get_by_role("button", name="Unfold all 80").click()
    watched.page.keyboard.press("0")
    inside = watched.page.evaluate("document.querySelectorAll('[role=treeitem]').length")
    assert inside >= 80


def test_box_and_row_are_selected_together(visit):
    watched = visit("resnet18")
    watched.box("conv1").click()
    assert rows(watched).locator("nth=1").get_attribute("aria-selected") == "true"
    assert watched.page.locator(".line.lit").count() == 2
    watched.page.locator("#body tr", has_text="layer1.1").first.click()
    watched.page.locator("#body tr.selected + tr").click()
    assert watched.box("layer1.1.conv1").get_attribute("aria-selected") == "true"
    assert watched.page.evaluate("location.hash") == "#layer1.1.conv1"
    assert watched.page.locator("#about h2").inner_text() == "layer1.1.conv1"


def test_what_comes_before_and_after_is_named_across_the_border_of_a_group(visit):
    watched = visit("resnet18", fragment="#layer1.0.conv1")
    chips = watched.page.locator("#about .chip").all_inner_texts()
    assert chips == ["maxpool", "bn1"]
    watched.page.locator("#about .chip").first.click()
    assert watched.page.locator("#about h2").inner_text() == "maxpool"


def test_search_finds_paths_types_and_shapes(visit):
    watched = visit("resnet18")
    for query, count in [("layer3.0 conv", 3), ("batchnorm2d", 20), ("256×14×14 add", 2), ("nothing", 0)]:
        watched.page.fill("#search", query)
        assert watched.page.locator("#found").inner_text().startswith(f"{count} of"), query
    watched.page.fill("#search", "layer4.1.conv2")
    watched.page.press("#search", "Enter")
    assert watched.box("layer4.1.conv2").get_attribute("aria-selected") == "true"
    watched.page.press("#search", "Escape")
    assert watched.page.locator("#found").inner_text() == "86 steps"


def test_the_table_sorts_by_its_numbers(visit):
    watched = visit("resnet18")
    report = REPORTS["resnet18"]()
    most = sorted((node.row.macs, node.path) for node in report.nodes if node.row and node.row.leaf)[-1]
    watched.page.get_by_role("button", name="MACs").click()
    assert watched.page.locator("th[aria-sort=descending]").inner_text().startswith("MACs")
    first = rows(watched).first
    first.click()
    assert f"{most[0]:,}" in watched.page.locator("#about").inner_text()
    watched.page.get_by_role("button", name="MACs").click()
    assert watched.page.locator("th[aria-sort=ascending]").count() == 1
    watched.page.get_by_role("button", name="MACs").click()
    assert watched.page.locator("th[aria-sort=none]").count() == 4


def test_totals_and_memory_are_the_reports(visit):
    watched = visit("resnet18")
    report = REPORTS["resnet18"]()
    text = watched.page.locator("#model").inner_text()
    assert f"{report.totals.parameters:,}" in text
    assert f"{report.totals.macs:,}" in text
    assert f"{report.memory.training_peak / 2**20:.0f} MiB" in text
    parts = watched.page.locator(".parts b").all_inner_texts()
    assert parts[:4] == ["42.7 MiB", "42.7 MiB", "85.3 MiB", "20.6 MiB"]


def test_the_keyboard_walks_opens_and_closes(visit):
    watched = visit("resnet18")
    page = watched.page
    page.focus("#graph")
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    assert page.evaluate("location.hash") == "#layer1"
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("location.hash") == "#layer1.0.conv1"
    active = page.locator("#graph").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-label").startswith("conv1 Conv2d 3×3")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert watched.box("layer1.0").get_attribute("aria-expanded") == "false"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.focus("#body [tabindex='0']")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"


@pytest.mark.parametrize("key", ["model.layers.57.mlp.up_proj", "model.layers.0.self_attn.q_proj"])
def test_a_deep_link_opens_what_is_around_it(visit, key):
    watched = visit("llama", fragment=f"#{key}")
    assert watched.box(key).is_visible()
    assert watched.box(key).get_attribute("aria-selected") == "true"
    box, view = watched.box(key).bounding_box(), watched.page.locator("#graph").bounding_box()
    assert view["y"] <= box["y"] <= view["y"] + view["height"] - box["height"]


def test_light_and_dark_follow_the_system(visit):
    colors = {
        color: visit("resnet18", color=color).page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        for color in ("light", "dark")
    }
    assert colors["light"] != colors["dark"]
    luminance = {name: sum(map(int, re.findall(r"\d+", pair[0]))) for name, pair in colors.items()}
    assert luminance["dark"] < 100 < luminance["light"]


def test_heat_shows_other_costs(visit):
    watched = visit("resnet18")
    before = watched.page.locator("#most").inner_text()
    watched.page.select_option("#heat", "params")
    assert watched.page.locator("#most").inner_text() != before
    assert watched.page.locator(".heat").count() > 4
    watched.page.select_option("#heat", "saved")
    assert watched.page.get_by_role("button", name="Saved").is_visible()


def test_left_to_right_runs_to_the_right(visit):
    watched = visit("resnet18")
    watched.page.get_by_role("button", name="Switch direction").click()
    first, second = (watched.box(key).bounding_box() for key in ("image", "conv1"))
    assert second["x"] >= first["x"] + first["width"]
    assert abs(second["y"] + second["height"] / 2 - first["y"] - first["height"] / 2) < 2


def test_path_and_link_are_copied(visit):
    watched = visit("resnet18", fragment="#layer1.1.bn2")
    read = "navigator.clipboard.readText()"
    watched.page.get_by_role("button", name="Copy path").click()
    watched.page.wait_for_selector("#toast.on")
    assert watched.page.evaluate(read) == "layer1.1.bn2"
    watched.page.get_by_role("button", name="Copy link").click()
    watched.page.locator("#toast", has_text="link").wait_for()
    assert watched.page.evaluate(read).endswith("resnet18.html#layer1.1.bn2")


def saved(watched, name):
    watched.page.locator(".tools summary").click()
    with watched.page.expect_download() as download:
        watched.page.get_by_role("button", name=name).click()
    return download.value.path().read_bytes()


def test_the_picture_is_saved_as_svg_and_png(visit):
    watched = visit("resnet18")
    drawing = ElementTree.fromstring(saved(watched, "Save as SVG"))
    texts = {"".join(text.itertext()) for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {"image", "fc", "batch×64×height/2×width/2"} <= texts
    assert "var(" not in ElementTree.tostring(drawing, encoding="unicode")
    pixels = saved(watched, "Save as PNG")
    assert pixels[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(pixels[at : at + 4]) for at in (16, 20))
    assert (width, height) == tuple(2 * int(drawing.get(side)) for side in ("width", "height"))


def test_the_picture_is_copied_as_svg(visit):
    watched = visit("resnet18")
    watched.page.locator(".tools summary").click()
    watched.page.get_by_role("button", name="Copy as SVG").click()
    watched.page.wait_for_selector("#toast.on")
    assert watched.page.evaluate("navigator.clipboard.readText()").startswith("<svg")


def test_the_picture_is_copied_as_png(visit):
    watched = visit("resnet18")
    watched.page.locator(".tools summary").click()
    watched.page.get_by_role("button", name="Copy as PNG").click()
    watched.page.locator("#toast", has_text="PNG").wait_for()
    kinds = "navigator.clipboard.read().then((all) => all.flatMap((one) => one.types))"
    assert watched.page.evaluate(kinds) == ["image/png"]


def test_paper_gets_the_whole_picture_and_all_rows(visit):
    watched = visit("resnet18")
    shown = rows(watched).count()
    watched.page.emulate_media(media="print")
    watched.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown < rows(watched).count() == 86
    assert "fc" in titles(watched)
    assert not watched.page.locator(".search").is_visible()
    watched.page.evaluate("dispatchEvent(new Event('afterprint'))")
    watched.page.emulate_media(media="screen")
    assert watched.page.pdf()[:4] == b"%PDF"


def test_wheel_and_fingers_move_and_scale(visit):
    watched = visit("resnet18", size="narrow")
    page = watched.page
    scale = "document.querySelector('#picture > g').getAttribute('transform').match(/scale.([0-9.]+)/)[1] * 1"
    before = page.evaluate(scale)
    session = page.context.new_cdp_session(page)
    for kind, apart in [("touchStart", 40), ("touchMove", 60), ("touchMove", 100), ("touchEnd", None)]:
        points = (
            []
            if apart is None
            else [{"x": 195 - apart, "y": 250, "id": 0}, {"x": 195 + apart, "y": 250, "id": 1}]
        )
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    pinched = page.evaluate(scale)
    assert pinched > 1.5 * before
    page.mouse.move(195, 250)
    page.keyboard.down("Control")
    page.mouse.wheel(0, 50)
    page.keyboard.up("Control")
    assert page.evaluate(scale) < pinched


def test_hostile_names_stay_names(visit, tmp_path):
    file = tmp_path / "hostile.html"
    file.write_text(
        as_html(DrawRequest(report=chain(HOSTILE, title=HOSTILE[0]))), encoding="utf-8", newline=""
    )
    watched = visit(file)
    page = watched.page
    assert page.evaluate("typeof hacked") == "undefined"
    assert (page.locator("script").count(), page.locator("img").count()) == (2, 0)
    assert page.title() == HOSTILE[0] == page.locator("h1").inner_text()
    shown = set(page.locator(".picture title").all_text_contents())
    assert {HOSTILE[1], "__proto__", "\\u202egnp.exe"} <= shown
    page.evaluate("location.hash = encodeURIComponent('a b#c%20d/é漢字')")
    page.wait_for_selector("#about h2")
    assert page.locator("#about h2").inner_text() == "a b#c%20d/é漢字"
    drawing = saved(watched, "Save as SVG")
    for element in ElementTree.fromstring(drawing).iter():
        assert element.tag.rpartition("}")[2] in {
            "svg",
            "g",
            "path",
            "rect",
            "circle",
            "text",
            "title",
            "style",
        }
        assert not any(name.startswith("on") for name in element.attrib)


def test_the_policy_lets_nothing_in_or_out(visit):
    watched = visit("resnet18")
    page = watched.page
    page.evaluate(
        """() => {
            const script = document.createElement('script')
            script.textContent = 'window.hacked = true'
            document.body.append(script)
            document.body.insertAdjacentHTML('beforeend', '<img src="https://example.org/x.png" onerror="window.hacked = 1">')
        }"""
    )
    blocked = page.evaluate("fetch('https://example.org/').then(() => 'out', (error) => error.name)")
    assert blocked == "TypeError"
    assert page.evaluate("window.hacked") is None
    refused = [error for error in watched.errors if "Content Security Policy" in error]
    assert len(watched.errors) == len(refused) >= 3
    watched.errors.clear()


def test_two_models_show_what_differs(visit, tmp_path):
    file = tmp_path / "pair.html"
    request = DrawRequest(report=nnkit.graph("resnet18"), other=nnkit.graph("resnet34"))
    file.write_text(as_html(request), encoding="utf-8", newline="")
    watched = visit(file)
    page = watched.page
    marked = page.locator(".changed .title").all_text_contents()
    assert marked == ["layer1", "layer2", "layer3", "layer4"] * 2
    assert "11,181,642 → 21,289,802" in page.locator("#model").inner_text()
    page.get_by_label("Only what differs").check()
    names = rows(watched).locator(".name").all_inner_texts()
    assert names[:2] == ["layer1.2.conv1", "layer1.2.bn1"]
    assert not any(name.startswith(("conv1", "layer1.0", "layer2.1")) for name in names)
    page.evaluate("location.hash = 'a:layer1'")
    page.locator("#about .chip", has_text="×3, BasicBlock").click()
    assert page.evaluate("location.hash") == "#b%3Alayer1"


def test_it_works_in_a_frame_of_a_notebook(visit, browser, tmp_path):
    file = tmp_path / "notebook.html"
    frame = as_frame(replace(chain(["first", "second"]), title="<net>"))
    file.write_text(f"<!doctype html><body data-ready='x'>{frame}", encoding="utf-8")
    watched = visit(file)
    inside = watched.page.frame_locator("iframe")
    inside.locator("body[data-ready=true]").wait_for()
    inside.locator("#body tr", has_text="second").first.click()
    assert inside.locator("#about h2").inner_text() == "second"
    assert inside.locator("h1").inner_text() == "<net>"


@pytest.mark.parametrize("direction", ["down", "right"])
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "gcn", "transformer", "llama"])
def test_nothing_is_drawn_over_anything_else(visit, name, direction):
    """Boxes are beside or within each other, no line runs through a box, no label is on a box or label."""
    watched = visit(name)
    if direction == "right":
        watched.page.get_by_role("button", name="Switch direction").click()
    for _ in range(4):
        watched.page.keyboard.press("e")
    drawing = ElementTree.fromstring(saved(watched, "Save as SVG"))
    boxes, frames, lines, labels = _shapes(drawing)
    assert len(boxes) > 10
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        assert not _overlap(a, b), (one, other)
    for name_, label in labels:
        on = [key for key, box in boxes.items() if _overlap(label, box)]
        assert not on, (name_, on)
    for (one, a), (other, b) in combinations(labels, 2):
        assert not _overlap(a, b), (one, other)
    for points in lines:
        for key, box in boxes.items():
            inner = (box[0] + 3, box[1] + 3, box[2] - 3, box[3] - 3)
            assert not any(inner[0] < x < inner[2] and inner[1] < y < inner[3] for x, y in points), key
    for key, (left, top, right, bottom) in boxes.items():
        around = [frame for name_, frame in frames.items() if name_ and key.startswith(f"{name_}.")]
        for frame in around:
            assert frame[0] <= left <= right <= frame[2], key
            assert frame[1] <= top <= bottom <= frame[3], key


SVG = "{http://www.w3.org/2000/svg}"


def _at(element):
    found = re.match(r"translate\(([-\d.]+),([-\d.]+)\)", element.get("transform", ""))
    return (float(found[1]), float(found[2])) if found else (0.0, 0.0)


def _shapes(drawing):
    boxes, frames, lines, labels = {}, {}, [], []
    for group in drawing.iter(f"{SVG}g"):
        style = group.get("class", "").split(" ")[0]
        x, y = _at(group)
        if style in ("card", "frame"):
            back = next(each for each in group.iter(f"{SVG}rect") if each.get("class") == "back")
            rect = (x, y, x + float(back.get("width")), y + float(back.get("height")))
            (boxes if style == "card" else frames)[group.find(f"{SVG}title").text] = rect
        elif style == "line":
            lines.append([(x + a, y + b) for a, b in _points(group.find(f"{SVG}path").get("d"))])
    for text in drawing.iter(f"{SVG}text"):
        if text.get("class") == "shape":
            x, y = _at(text)
            left, base = x + float(text.get("x")), y + float(text.get("y"))
            labels.append((text.text, (left, base - 9, left + 5.5 * len(text.text), base + 1)))
    return boxes, frames, lines, labels


def _points(way):
    """Yield points of a path, ten of each piece."""
    here = (0.0, 0.0)
    for letter, numbers in re.findall(r"([MLC])([^MLC]*)", way):
        values = [float(number) for number in re.findall(r"-?[\d.]+", numbers)]
        ends = list(zip(values[::2], values[1::2], strict=True))
        for step in range(1, 11) if letter != "M" else ():
            t = step / 10
            if letter == "L":
                yield tuple(a + (b - a) * t for a, b in zip(here, ends[0], strict=True))
            else:
                weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
                yield tuple(
                    sum(w * p[i] for w, p in zip(weights, (here, *ends), strict=True)) for i in (0, 1)
                )
        here = ends[-1]


def _overlap(a, b):
    return a[0] < b[2] - 0.5 and b[0] < a[2] - 0.5 and a[1] < b[3] - 0.5 and b[1] < a[3] - 0.5


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    return axe_source(tmp_path_factory.mktemp("axe"))


@pytest.mark.parametrize("color", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "narrow"])
def test_axe_finds_no_violation(visit, axe, size, color):
    watched = visit("resnet18", size=size, color=color)
    page = watched.page
    page.evaluate(axe)
    for prepare in ("0", "location.hash = 'layer1.0.conv1'", "document.querySelector('details').open = true"):
        page.evaluate(prepare)
        page.wait_for_timeout(100)
        found = page.evaluate("axe.run()")["violations"]
        told = [
            (one["id"], [(node["html"][:120], node["failureSummary"]) for node in one["nodes"][:3]])
            for one in found
        ]
        assert not told, json.dumps(told, indent=1)
