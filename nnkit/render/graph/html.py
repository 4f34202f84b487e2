"""GraphReport -> one HTML file that needs no network: the picture, the table, the memory of a training step.

The page can load nothing: its policy allows only its own script and style, by the hashes of what is written.
What the model says is data, never markup. viewer.js and viewer.css are written by hand; the page has them as
viewer.min.js and viewer.min.css, which `tests/render/graph/pack_viewer.py` makes of them.
"""

import base64
import hashlib
import html
import json
from pathlib import Path
from string import Template
from typing import Any

from nnkit.contract.requests import DrawRequest
from nnkit.contract.visible import visible
from nnkit.render.graph.data import page_data, pair_data
from nnkit.render.graph.opening import all_open, fitting, inside, opened_keys
from nnkit.render.graph.scene import Box, scene_of
from nnkit.verbs.graph.report import GraphReport

HERE = Path(__file__).parent
MOST_AT_FIRST = 24  # boxes that are drawn at first, unless the user asks for more
FRAME_HEIGHT = 620  # pixels of a picture in a notebook


def as_html(request: DrawRequest) -> str:
    """Return the page of a report, or of two beside each other."""
    report, other = request.report, request.other
    root = scene_of(report, request.constants)
    if other is None:
        data = page_data(report, root, _opened(request, report, root))
    else:
        second = scene_of(other, request.constants)
        opened = _opened(request, report, root), _opened(request, other, second)
        data = pair_data((report, other), (root, second), opened)
    heat = request.heat if request.heat in data["heats"] else next(iter(data["heats"]), "macs")
    return page({**data, "heat": heat, "direction": request.direction})


def as_frame(report: GraphReport) -> str:
    """Return the page in a frame of its own, for notebooks."""
    source = html.escape(as_html(DrawRequest(report=report)), quote=True)
    return (
        f'<iframe srcdoc="{source}" title="{html.escape(visible(report.title), quote=True)}" '
        'sandbox="allow-scripts allow-downloads" allow="clipboard-write" '
        f'style="width:100%;height:{FRAME_HEIGHT}px;border:1px solid #8884;border-radius:8px"></iframe>'
    )


def _opened(request: DrawRequest, report: GraphReport, root: Box) -> frozenset[str]:
    """Return the keys of the groups that are open at first: those that were asked for, or a few."""
    asked = opened_keys(report, root, request.opened, request.depth)
    if asked is not None:
        return asked
    return fitting(root, all_open(root), lambda keys: _count(root, keys) <= MOST_AT_FIRST)


def page(data: dict[str, Any]) -> str:
    """Return a page around the data."""
    script, style = _asset("viewer.min.js"), _asset("viewer.min.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_asset("viewer.html")).substitute(
        policy=policy,
        title=html.escape(data["title"]),
        style=style,
        data=inert_json(data),
        script=script,
    )


def inert_json(data: Any) -> str:
    """Return JSON that can't end the element it is in, and that is text wherever it is pasted."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode(errors="backslashreplace").decode()


def _asset(name: str) -> str:
    """Return a file of this folder. Newlines are read as they are hashed and written: one character each."""
    return (HERE / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _count(root: Box, opened: frozenset[str]) -> int:
    """Return how many boxes are drawn with these groups open."""
    return sum(1 + (_count(box, opened) if box.key in opened else 0) for box in inside(root))
