"""GraphReport -> one HTML file that needs no network: the picture, the table, the memory of a training step.

The page can load nothing: its policy allows only its own script and style, by the hashes of what is written.
What the model says is data, never markup. viewer.js and viewer.css are written by hand; the page has them as
viewer.min.js and viewer.min.css, which `tests/render/graph/pack_viewer.py` makes of them.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from nnkit.contract.visible import visible
from nnkit.render.graph.data import page_data
from nnkit.render.graph.opening import all_open, fitting, inside, opened_keys
from nnkit.render.graph.scene import Box, scene_of
from nnkit.verbs.graph.report import GraphReport

HERE = Path(__file__).parent
MOST_AT_FIRST = 24  # boxes that are drawn at first, unless the user asks for more
FRAME_HEIGHT = 620  # pixels of a picture in a notebook


def as_html(
    report: GraphReport,
    patterns: Sequence[str] = (),
    heat: str | None = None,
    constants: bool = False,
    direction: str = "down",
    depth: int | None = None,
) -> str:
    """Return the page of a report. patterns: the groups that are open at first; depth: or levels."""
    root = scene_of(report, constants)
    opened = opened_keys(report, root, patterns, depth)
    if opened is None:
        opened = fitting(root, all_open(root), lambda keys: _count(root, keys) <= MOST_AT_FIRST)
    return page(page_data(report, root, sorted(opened), heat, direction))


def as_frame(report: GraphReport) -> str:
    """Return the page in a frame of its own, for notebooks."""
    source = html.escape(as_html(report), quote=True)
    return (
        f'<iframe srcdoc="{source}" title="{html.escape(visible(report.title), quote=True)}" '
        'sandbox="allow-scripts allow-downloads allow-popups" allow="clipboard-write" '
        f'style="width:100%;height:{FRAME_HEIGHT}px;border:1px solid #8884;border-radius:8px"></iframe>'
    )


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
