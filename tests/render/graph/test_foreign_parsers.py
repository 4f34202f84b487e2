"""Mermaid's own parser and Graphviz read what nnkit writes, and find what is meant."""

import html
import json
import re

import npm
import pytest
from browser import chromium
from test_flat_forms import HOSTILE, hostile_report, report_of

from nnkit.contract.requests import DrawRequest
from nnkit.contract.visible import visible
from nnkit.render.graph.dot import as_dot
from nnkit.render.graph.flat import flatten
from nnkit.render.graph.mermaid import as_mermaid
from nnkit.render.graph.opening import all_open
from nnkit.render.graph.scene import scene_of

pytestmark = pytest.mark.slow

MODELS = ["resnet18", "googlenet", "densenet121", "gcn", "lstm", "transformer", "unet", "vit"]
MERMAID = """
import { JSDOM } from "jsdom";
import fs from "fs";
const dom = new JSDOM("<!DOCTYPE html><body></body>");
globalThis.window = dom.window;
globalThis.document = dom.window.document;
const mermaid = (await import("mermaid")).default;
const answers = {};
for (const [name, text] of Object.entries(JSON.parse(fs.readFileSync(process.argv[2], "utf8")))) {
  await mermaid.parse(text);
  const { db } = await mermaid.mermaidAPI.getDiagramFromText(text);
  answers[name] = {
    edges: db.getEdges().map((edge) => [edge.start, edge.end]),
    boxes: [...db.getVertices().values()].map((box) => [box.id, box.text]),
    groups: db.getSubGraphs().map((group) => [group.id, group.title]),
  };
}
process.stdout.write(JSON.stringify(answers));
"""
GRAPHVIZ = """
import { instance } from "@viz-js/viz";
import fs from "fs";
const viz = await instance();
const answers = {};
for (const [name, text] of Object.entries(JSON.parse(fs.readFileSync(process.argv[2], "utf8")))) {
  const result = viz.render(text, { format: "svg" });
  answers[name] = { status: result.status, errors: result.errors, svg: result.output };
}
process.stdout.write(JSON.stringify(answers));
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return npm.install(
        tmp_path_factory.mktemp("npm"), "mermaid@11.17.0", "jsdom@29.0.0", "@viz-js/viz@3.31.0"
    )


def ask(packages, script, texts):
    file = packages / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    return json.loads(npm.run(packages, script, str(file)))


def test_mermaid_reads_the_arrows_and_the_names(packages):
    reports = {name: report_of(name) for name in MODELS} | {"hostile": hostile_report()}
    texts = {name: as_mermaid(DrawRequest(report=report)) for name, report in reports.items()}
    answers = ask(packages, MERMAID, texts)
    for name, text in texts.items():
        arrows = re.findall(r"^ +(n\d+) -->(?:\|.*\|)? (n\d+)$", text, re.MULTILINE)
        assert [tuple(edge) for edge in answers[name]["edges"]] == arrows, name
        assert len(arrows) <= 80
        assert len(answers[name]["groups"]) == text.count("subgraph ")
    titles = [decoded(title) for _, title in answers["hostile"]["groups"]]
    look_alikes = str.maketrans("\\$", "＼＄")
    assert sorted(titles) == sorted(f"{visible(name).translate(look_alikes)} Sequential" for name in HOSTILE)


def test_a_browser_shows_hostile_names_as_they_are(packages):
    """Mermaid's parser isn't enough: what draws may still find mathematics, or a new line, in a name."""
    text = as_mermaid(DrawRequest(report=hostile_report()))
    library = (packages / "node_modules" / "mermaid" / "dist" / "mermaid.min.js").read_text("utf-8")
    draw = "async text => { document.body.innerHTML = (await mermaid.render('graph', text)).svg }"
    with chromium() as browser:
        page = browser.new_page()
        page.set_content("<body></body>")
        page.add_script_tag(content=library)
        page.evaluate(draw, text)
        shown = [each.inner_text().split("\n") for each in page.locator(".node .nodeLabel").all()]
        assert page.locator("script, math, .katex").count() == 1  # the library itself
    look_alikes = str.maketrans("\\$", "＼＄")
    for name in HOSTILE:
        assert [f"{visible(name).translate(look_alikes)}.0", "Linear"] in shown, name


def decoded(text):
    """Return a text as Mermaid shows it: its parser keeps entities in a form of its own."""
    text = re.sub(r"ﬂ°°(\d+)¶ß", r"&#\1;", text)
    return html.unescape(re.sub(r"ﬂ°(\w+)¶ß", r"&\1;", text))


def test_graphviz_draws_every_box_and_arrow(packages):
    reports = {name: report_of(name) for name in MODELS} | {"hostile": hostile_report()}
    texts = {name: as_dot(DrawRequest(report=report)) for name, report in reports.items()}
    answers = ask(packages, GRAPHVIZ, texts)
    for name, report in reports.items():
        assert answers[name]["status"] == "success"
        assert not [error for error in answers[name]["errors"] if error["level"] == "error"], name
        flat = flatten(root := scene_of(report), all_open(root))
        svg = answers[name]["svg"]
        assert svg.count('class="edge"') == len(flat.arrows)
        assert svg.count('class="node"') == sum(not each.within for each in flat.all())
        assert svg.count('class="cluster"') == sum(bool(each.within) for each in flat.all())
    shown = html.unescape(re.sub(r"\s+", " ", answers["hostile"]["svg"])).replace("\xa0", " ")
    for name in HOSTILE:
        assert f">{visible(name)} Sequential<" in shown, name
