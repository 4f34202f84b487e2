"""GraphReport -> PNG: the SVG in pixels, by resvg, light on white."""

import html
import re

from nnkit.contract.requests import DrawRequest
from nnkit.errors import NnkitError
from nnkit.render.graph.fonts import find_font
from nnkit.render.graph.svg import as_svg

MOST_PIXELS = 80_000_000
ZOOMS = (2.0, 1.5, 1.0)  # pixels for each unit of the SVG; a smaller one only for what is large


def as_png(request: DrawRequest) -> bytes:
    """Return a PNG picture of a report. Raises NnkitError if it is too large, or no font has its letters."""
    import resvg_py

    svg = as_svg(request)
    width, height = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)"', svg)[:2])
    fitting = [zoom for zoom in ZOOMS if width * height * zoom**2 <= MOST_PIXELS]
    if not fitting:
        pixels = f"{width * height / 1e6:,.0f} million pixels"
        raise NnkitError(
            f"the picture would have {pixels}; at most {MOST_PIXELS / 1e6:.0f} million fit",
            "draw fewer groups open, or an SVG: -o FILE.svg",
        )
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    font = find_font(html.unescape("".join(texts)))
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            zoom=fitting[0],
            background="white",
            skip_system_fonts=True,
            font_files=[str(path) for path in font.files],
            font_family=font.family,
            sans_serif_family=font.family,
        )
    )
