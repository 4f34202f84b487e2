"""Draw the graphs of architectures, as SVG that is light or dark as the page is.

`docs/generate.py` writes the pictures and checks that they are fresh.
"""

import functools
import re
from collections.abc import Collection
from pathlib import Path

from nnkit import api
from nnkit.contract.requests import DrawRequest
from nnkit.render.graph.svg import as_svg

FOLDER = Path(__file__).parent / "pictures" / "graphs"
FIGURE = FOLDER.with_name("figure.svg")
"""What the README shows: nnkit graph transformer --depth 1 --direction right -o figure.svg"""


@functools.cache
def picture(name: str) -> str:
    """Return what `nnkit graph NAME -o FILE.svg` draws."""
    return as_svg(DrawRequest(report=api.graph(name)))


def figure() -> str:
    """Return the figure of the README."""
    return as_svg(DrawRequest(report=api.graph("transformer"), direction="right", depth=1))


def file_name(name: str) -> str:
    """Return the name of the file of an architecture's picture."""
    return f"{name.partition('/')[2]}.svg"


def distinct(names: Collection[str]) -> list[str]:
    """Return the architectures whose pictures have other types of layers than those before them."""
    found: dict[frozenset[str], str] = {}
    for name in names:
        found.setdefault(types(picture(name)), name)
    return list(found.values())


def types(svg: str) -> frozenset[str]:
    """Return what a picture names beneath the titles of its boxes, without sizes of kernels."""
    return frozenset(
        re.sub(r"[\d×]+", "", subtitle).strip()
        for subtitle in re.findall(r'<text class="s"[^>]*>([^<]*)<', svg)
    )
