"""The page of a picture as text: its size, its policy, its data."""

import base64
import hashlib
import html
import json
import re
from dataclasses import replace

import pytest
from pack_viewer import HERE, NAMES, mark, packed_name
from reports import chain

import nnkit
from nnkit.contract.requests import HEATS, DrawRequest
from nnkit.render.graph.data import page_data
from nnkit.render.graph.html import as_frame, as_html, inert_json
from nnkit.render.graph.scene import scene_of


def parts(page):
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1])
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)[1]
    return policy, style, json.loads(data), script


def test_a_page_is_small():
    assert len(as_html(DrawRequest(report=nnkit.graph("resnet18", optimizer="adam"))).encode()) <= 60_000


@pytest.mark.slow
def test_a_decoder_of_80_layers_is_small():
    assert (
        len(as_html(DrawRequest(report=nnkit.graph("llama", preset="70b", optimizer="adam"))).encode())
        <= 500_000
    )


def test_the_policy_allows_only_what_is_written():
    policy, style, _, script = parts(as_html(DrawRequest(report=chain(["a"]))))
    hashes = re.findall(r"'sha256-([^']+)'", policy)
    written = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert hashes == written
    assert policy.startswith("default-src 'none'; ")
    assert not any(word in policy for word in ("unsafe", "http"))


@pytest.mark.parametrize("text", ["</script>", "<!--", "&amp;", "\u2028", "\ud800", 'a"b\\', "]]>"])
def test_json_in_a_page_is_only_data(text):
    written = inert_json({"text": [text]})
    assert not set("<>&\u2028\u2029") & set(written)
    written.encode()
    assert json.loads(written) == {"text": [text]}


def test_a_frame_holds_the_page():
    frame = as_frame(chain(["a"], title='"><script>'))
    source = re.match(r'<iframe srcdoc="([^"]*)" ', frame)[1]
    assert html.unescape(source) == as_html(DrawRequest(report=chain(["a"], title='"><script>')))
    assert "<script" not in frame
    assert "allow-same-origin" not in frame


@pytest.mark.parametrize("name", NAMES)
def test_the_packed_viewer_is_of_its_source(name):
    """If it isn't: python tests/render/graph/pack_viewer.py."""
    assert (HERE / packed_name(name)).read_text(encoding="utf-8").startswith(mark(name))


def test_the_numbers_of_the_page_are_those_of_the_summary():
    report, summary = nnkit.graph("resnet18"), nnkit.summarize("resnet18")
    *_, data, _ = parts(as_html(DrawRequest(report=report)))
    assert data["totals"]["macs"] == summary.totals.macs
    columns = {name: column_of(data, name) for name in data["boxes"]}
    keys = keys_of(data)
    for row in summary.rows[1:]:
        if row.path in keys and row.kind == "module":
            at = keys.index(row.path)
            assert (columns["macs"][at], columns["params"][at]) == (row.macs, row.parameters), row.path
    assert columns["macs"][0] == summary.totals.macs


def column_of(data, name):
    column = data["boxes"][name]
    return (
        column if isinstance(column, list) else [column.get(str(i), column[""]) for i in range(data["size"])]
    )


def keys_of(data):
    """Return the keys of the boxes, which are written without what they share with the box around."""
    names, counts = column_of(data, "key"), column_of(data, "count")
    keys, around = [], []
    for name, count in zip(names, counts, strict=True):
        while around and around[-1][1] == 0:
            around.pop()
        text = data["strings"][name]
        keys.append(text[1:] if text[0] == "=" else around[-1][0] + text)
        if around:
            around[-1][1] -= 1
        around.append([keys[-1], count])
    return keys


@pytest.mark.parametrize("name", ["resnet18", "gcn", "lstm", "transformer", "vit"])
def test_every_box_is_there_under_its_key(name):
    report = nnkit.graph(name)
    root = scene_of(report)
    data = page_data(report, root, ())

    def all_keys(box):
        return [box.key, *(key for inner in box.boxes for key in all_keys(inner))]

    assert keys_of(data) == all_keys(root)
    assert len(set(keys_of(data))) == data["size"]


def test_what_results_hold_adds_up_over_the_steps():
    report = nnkit.graph("resnet18")
    leaves = [
        sum(4 * _elements(shape) for shape in node.row.output_shapes)
        for node in report.nodes
        if node.row and node.row.leaf
    ]
    assert scene_of(report).amounts[HEATS.index("output")] == sum(leaves)


@pytest.mark.parametrize("name", ["lstm", "transformer", "unet", "gcn"])
def test_the_page_and_the_pictures_in_python_have_the_same_shares(name):
    report = nnkit.graph(name, optimizer="adam")
    root = scene_of(report)
    data = page_data(report, root, ())

    def boxes(box):
        return [box, *(each for inner in box.boxes for each in boxes(inner))]

    for heat in ("macs", "params", "output", "saved"):
        whole, *_ = amounts = column_of(data, heat)
        shares = [box.costs.get(heat, 0) for box in boxes(root)]
        assert [amount / whole for amount in amounts] == pytest.approx(shares)


def test_a_module_named_like_a_repeat_has_its_cost():
    root = scene_of(chain(["a×b", "c"]))
    assert [box.costs.get("macs") for box in root.boxes if box.kind == "module"] == [0.5, 0.5]


def _elements(shape):
    size = 1
    for axis in shape:
        size *= axis
    return size


def test_the_page_of_two_models_has_the_keys_of_both():
    reports = chain(["same", "old"], title="left"), chain(["same", "new"], title="right")
    *_, data, _ = parts(as_html(DrawRequest(report=reports[0], other=reports[1])))
    keys = keys_of(data)
    assert keys[0] == ""
    assert {"a:", "a:same", "a:old", "b:", "b:same", "b:new"} <= set(keys)
    assert [model["title"] for model in data["pair"]] == ["left", "right"]


def test_a_file_that_tells_no_numbers_has_a_page(tmp_path):
    report = replace(chain(["Gemm"]), totals=None, source="onnx")
    nodes = tuple(replace(node, row=None) for node in report.nodes)
    *_, data, _ = parts(as_html(DrawRequest(report=replace(report, nodes=nodes))))
    assert (data["totals"], data["heats"]) == (None, [])
