"""GraphReport -> SVG: text as text, light and dark by the system's setting, for papers and READMEs."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from xml.sax.saxutils import escape, quoteattr

from nnkit.contract.requests import DrawRequest
from nnkit.contract.visible import visible
from nnkit.render.graph.grid import Line, Point
from nnkit.render.graph.opening import of_each_type, opened_keys
from nnkit.render.graph.palette import HEAT, HEAT_BORDER, heat_level
from nnkit.render.graph.place import Picture, PlacedBox, place
from nnkit.render.graph.scene import Box, scene_of
from nnkit.render.graph.sizes import (
    LABEL,
    PAD,
    STACK,
    SUBTITLE,
    SYMBOLS,
    TITLE,
    TURN,
    badge_width,
    is_symbol,
)
from nnkit.render.graph.text import shortened, width_of

LEGEND = 26.0  # the height of the legend of heat
MOST_BOXES = 60  # that are drawn, unless the user asks for more
FONTS = "Helvetica, Arial, 'Liberation Sans', sans-serif"
HEAT_NAMES = {
    "macs": "MACs",
    "params": "parameters",
    "output": "output bytes",
    "saved": "saved bytes",
    "time": "time",
}

# The fill and the frame of each family, light and dark.
COLORS = {
    "conv": ("#e7eff9", "#7ea2cf", "#1f3047", "#5f86b8"),
    "norm": ("#eaf4ea", "#8fba8f", "#203524", "#6a996c"),
    "activation": ("#fdf1e1", "#dcaa62", "#3d2f1a", "#b98a48"),
    "attention": ("#f1eaf8", "#a98bcb", "#33274a", "#9274b8"),
    "linear": ("#e3f3f2", "#6fb0ad", "#173534", "#4f9390"),
    "pool": ("#f4f0e2", "#b9aa74", "#35301d", "#978a58"),
    "embedding": ("#fbecee", "#d6949f", "#3f262b", "#b37580"),
    "recurrent": ("#f9e9f2", "#cb8ab2", "#402638", "#a96c93"),
    "shape": ("#f3f4f6", "#b8bfc9", "#2a2f37", "#6d7683"),
    "math": ("#f3f4f6", "#b8bfc9", "#2a2f37", "#6d7683"),
    "other": ("#ffffff", "#a9b2bf", "#22272e", "#76808d"),
}
INK, QUIET, WIRE, RAIL = (
    ("#1d2530", "#e6e9ee"),
    ("#5a6573", "#a3adba"),
    ("#77818e", "#8a94a1"),
    ("#4f7cc0", "#6f9ce0"),
)
FRAME = ("#f8f9fb", "#c9d0da"), ("#1b2026", "#454e5a")
HOT = (HEAT, ("#3a3426", "#54421f", "#75501c", "#98521f", "#b8402c"))
SHARES = ("", "1.2%", "3.7%", "11%", "33%")  # at which the levels of heat begin


def as_svg(request: DrawRequest) -> str:
    """Return an SVG picture of a report. If nothing is asked to be open, one group of each kind is."""
    report, heat = request.report, request.heat
    root = _to_show(scene_of(report, request.constants), heat)
    keys = opened_keys(report, root, request.opened, request.depth)
    opened = of_each_type(root, MOST_BOXES) if keys is None else keys
    picture = place(root, lambda box: box.key in opened, "right" if request.direction == "right" else "down")
    return _Drawing(picture, visible(report.title), heat).text()


def _to_show(box: Box, heat: str | None) -> Box:
    """Return a box with texts that can be printed and aren't too long, and with its share of heat."""
    inside = tuple(_to_show(inner, heat) for inner in box.boxes)
    title, subtitle = shortened(visible(box.title)), shortened(visible(box.subtitle))
    share = box.costs.get(heat, 0.0) if heat else 0.0
    if subtitle and share >= 0.0005:
        subtitle = f"{subtitle} · {share:.1%}"
    return replace(box, boxes=inside, title=title, subtitle=subtitle)


class _Drawing:
    def __init__(self, picture: Picture, title: str, heat: str | None) -> None:
        self.picture, self.title, self.heat = picture, title, heat

    def text(self) -> str:
        """Return the SVG."""
        picture = self.picture
        legend, legend_width = _legend(self.heat, picture.height) if self.heat else ([], 0.0)
        width = _n(max(picture.width, legend_width))
        height = _n(picture.height + (LEGEND if legend else 0.0))
        labels = (
            f'<text class="l" x="{_n(at.x)}" y="{_n(at.y)}">{_text(at.text)}</text>' for at in picture.labels
        )
        body = [*self._frames(), *self._lines(), *self._boxes(), *labels, *legend]
        used = set(re.findall(r'class="(c-[a-z]+|q[0-9])', "".join(body)))
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-label={quoteattr(self.title)}>',
            f"<title>{escape(self.title)}</title>",
            f"<style>{_style(used)}</style>",
            *body,
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _frames(self) -> Iterator[str]:
        for placed in self.picture.boxes:
            if placed.is_open:
                box = placed.box
                yield _rect(placed, "f", 8)
                x, y = placed.title_at, placed.y + 17
                yield f'<text class="t b" x="{_n(x)}" y="{_n(y)}">{_text(box.title)}</text>'
                if box.subtitle:
                    yield f'<text class="s" x="{_n(x)}" y="{_n(y + 13)}">{_text(box.subtitle)}</text>'
                if box.times > 1:
                    right = x + width_of(box.title, TITLE, bold=True) + 6
                    yield from _badge(box.times, right, y)

    def _lines(self) -> Iterator[str]:
        for is_rail in (True, False):
            ways = [_way(line.points) for line in self.picture.lines if line.is_rail is is_rail]
            heads = [_head(line) for line in self.picture.lines if line.is_rail is is_rail and line.has_head]
            name = "r" if is_rail else "w"
            if ways:
                yield f'<path class="{name}" d="{"".join(ways)}"/>'
            if heads:
                yield f'<path class="h{name}" d="{"".join(heads)}"/>'

    def _boxes(self) -> Iterator[str]:
        for placed in self.picture.boxes:
            if not placed.is_open:
                yield from _closed(placed, self.heat)


def _closed(placed: PlacedBox, heat: str | None) -> Iterator[str]:
    box = placed.box
    x, y, width, height = placed.x, placed.y, placed.width, placed.height
    middle = x + width / 2
    family = f"c-{box.family}" if heat is None else _heat_class(box, heat)
    if is_symbol(box):
        yield f'<circle class="{family}" cx="{_n(middle)}" cy="{_n(y + height / 2)}" r="{_n(height / 2)}"/>'
        yield _centered("t", middle, y + height / 2 + 4.5, SYMBOLS[box.title])
        return
    if box.times > 1:
        x, width, height = x + STACK, width - 2 * STACK, height - STACK
        placed = replace(placed, x=x, width=width, height=height)
        yield _rect(replace(placed, x=x + STACK, y=y + STACK), family, 6)
    is_round = box.kind in ("function", "input", "output", "constant")
    yield _rect(placed, "c-end" if box.kind in ("input", "output") else family, height / 2 if is_round else 6)
    badge = badge_width(box)
    title = y + (17 if box.subtitle else height / 2 + 4)
    yield _centered("t b" if box.subtitle else "t", middle - badge / 2, title, box.title)
    if badge:
        yield from _badge(
            box.times, middle - badge / 2 + width_of(box.title, TITLE, bold=True) / 2 + 6, title
        )
    if box.subtitle:
        yield _centered("s" if heat is None else "s n", middle, y + 31, box.subtitle)


def _heat_class(box: Box, heat: str) -> str:
    share = box.costs.get(heat, 0.0)
    return f"q{heat_level(share)}" if share else "c-other"


def _legend(heat: str, top: float) -> tuple[list[str], float]:
    """Return what the colors of heat are, and how wide that is."""
    text = f"share of {HEAT_NAMES[heat]}:"
    baseline = top + LEGEND - 20
    parts = [f'<text class="s" x="{_n(PAD)}" y="{_n(baseline)}">{text}</text>']
    x = PAD + width_of(text, SUBTITLE) + 10
    for level, share in enumerate(SHARES):
        words = f"from {share}" if share else f"below {SHARES[1]}"
        where = f'x="{_n(x)}" y="{_n(baseline - 9)}" width="14" height="10" rx="3"'
        parts.append(f'<rect class="q{level}" {where}/>')
        parts.append(f'<text class="s" x="{_n(x + 18)}" y="{_n(baseline)}">{words}</text>')
        x += 18 + width_of(words, SUBTITLE) + 12
    return parts, x + PAD


def _badge(times: int, x: float, baseline: float) -> Iterator[str]:
    text = f"×{times}"
    width = width_of(text, SUBTITLE) + 8
    yield f'<rect class="badge" x="{_n(x)}" y="{_n(baseline - 11)}" width="{_n(width)}" height="14" rx="7"/>'
    yield _centered("s n", x + width / 2, baseline - 0.5, text)


def _centered(name: str, x: float, y: float, text: str) -> str:
    return f'<text class="{name} m" x="{_n(x)}" y="{_n(y)}">{_text(text)}</text>'


def _rect(placed: PlacedBox, name: str, radius: float) -> str:
    return (
        f'<rect class="{name}" x="{_n(placed.x)}" y="{_n(placed.y)}" width="{_n(placed.width)}" '
        f'height="{_n(placed.height)}" rx="{_n(radius)}"/>'
    )


def _way(points: Iterable[Point]) -> str:
    """Return a path with rounded corners."""
    first, *rest = points
    parts = [f"M{_n(first[0])} {_n(first[1])}"]
    before = first
    for number, at in enumerate(rest):
        after = rest[number + 1] if number + 1 < len(rest) else None
        if after is None:
            parts.append(f"L{_n(at[0])} {_n(at[1])}")
        else:
            radius = min(TURN, _distance(before, at) / 2, _distance(at, after) / 2)
            begin, end = _toward(at, before, radius), _toward(at, after, radius)
            parts.append(f"L{_n(begin[0])} {_n(begin[1])}Q{_n(at[0])} {_n(at[1])} {_n(end[0])} {_n(end[1])}")
        before = at
    return "".join(parts)


def _head(line: Line) -> str:
    """Return the arrow at the end of a line."""
    (x0, y0), (x, y) = line.points[-2:]
    if abs(x - x0) < abs(y - y0):
        back = -6 if y > y0 else 6
        return f"M{_n(x)} {_n(y)}l-3.2 {back}h6.4z"
    back = -6 if x > x0 else 6
    return f"M{_n(x)} {_n(y)}l{back} -3.2v6.4z"


def _distance(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _toward(start: Point, end: Point, by: float) -> Point:
    distance = _distance(start, end) or 1.0
    return start[0] + (end[0] - start[0]) * by / distance, start[1] + (end[1] - start[1]) * by / distance


def _style(used: Collection[str]) -> str:
    """Return the rules of the classes that are used, light and dark."""
    rules = [
        f"text{{font-family:{FONTS};font-size:{_n(TITLE)}px}}",
        f".s{{font-size:{_n(SUBTITLE)}px}}.l{{font-size:{_n(LABEL)}px}}.m{{text-anchor:middle}}",
        ".b{font-weight:bold}.w,.r{fill:none;stroke-width:1.2}rect,circle{stroke-width:1}",
    ]
    light, dark = _theme(0, used), _theme(1, used)
    return "\n".join([*rules, *light, "@media (prefers-color-scheme:dark){", *dark, "}"])


def _theme(theme: int, used: Collection[str]) -> Iterator[str]:
    for family, colors in COLORS.items():
        if f"c-{family}" in used:
            yield f".c-{family}{{fill:{colors[2 * theme]};stroke:{colors[2 * theme + 1]}}}"
    yield f".t{{fill:{INK[theme]}}}.s,.l{{fill:{QUIET[theme]}}}.n{{fill:{INK[theme]}}}"
    for name, color in (("w", WIRE[theme]), ("r", RAIL[theme])):
        yield f".{name}{{stroke:{color}}}.h{name}{{fill:{color}}}"
    fill, stroke = FRAME[theme]
    yield f".f{{fill:{fill};stroke:{stroke}}}.badge{{fill:{stroke};stroke:none}}"
    for level, hot in enumerate(HOT[theme] if "q0" in used else ()):
        yield f".q{level}{{fill:{hot};stroke:{HEAT_BORDER}}}"
    yield f".c-end{{fill:{INK[1 - theme]};stroke:{QUIET[theme]}}}"


def _text(text: str) -> str:
    return escape(visible(text))


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
