"""GraphReport -> DOT, which Graphviz draws: `dot -Tpdf resnet18.dot`."""

from collections.abc import Iterator

from nnkit.contract.requests import DrawRequest
from nnkit.contract.visible import visible
from nnkit.render.graph.flat import Drawn, Flat, flatten
from nnkit.render.graph.opening import all_open, opened_keys
from nnkit.render.graph.palette import FAMILIES, HEAT, HEAT_BORDER, TEXT, heat_level
from nnkit.render.graph.scene import Box, scene_of

MANY_EDGES = 600  # which take Graphviz minutes
DIRECTIONS = {"down": "TB", "right": "LR"}
FONT = "Helvetica"
LINE = "\\n"


def as_dot(request: DrawRequest) -> str:
    """Return a digraph in which each open group is a cluster."""
    report = request.report
    root = scene_of(report, request.constants)
    opened = opened_keys(report, root, request.opened, request.depth)
    flat = flatten(root, all_open(root) if opened is None else opened)
    if len(flat.arrows) > MANY_EDGES:
        request.progress(f"{len(flat.arrows)} edges take Graphviz minutes; --depth 2 draws fewer")
    return "\n".join([*_head(request), *_boxes(flat.drawn, request.heat, 1), *_arrows(flat), "}", ""])


def _head(request: DrawRequest) -> Iterator[str]:
    yield f"digraph {_quoted(request.report.title)} {{"
    yield f"  graph [rankdir={DIRECTIONS[request.direction]}, ranksep=0.3, nodesep=0.2]"
    yield f'  graph [fontname="{FONT}", fontsize=11, labeljust=l]'
    yield f'  node [fontname="{FONT}", fontsize=11, fontcolor="{TEXT}"]'
    yield '  node [shape=box, style="rounded,filled", height=0.3]'
    yield f'  edge [fontname="{FONT}", fontsize=9, arrowsize=0.6, color="#6f6f6f", fontcolor="#6f6f6f"]'


def _boxes(drawn: tuple[Drawn, ...], heat: str | None, level: int) -> Iterator[str]:
    indent = "  " * level
    for each in drawn:
        if each.within:
            yield f"{indent}subgraph cluster_{each.number} {{"
            yield f'{indent}  label={_quoted(" ".join(each.lines))}; style=rounded; color="#b0b0b0"'
            yield from _boxes(each.within, heat, level + 1)
            yield f"{indent}}}"
        else:
            fill, border = _colors(each.box, heat)
            attributes = [
                f"label={_quoted(*each.lines)}",
                f'fillcolor="{fill}"',
                f'color="{border}"',
            ]
            attributes += ["peripheries=2"] if each.box.times > 1 else []
            attributes += [f"tooltip={_quoted(each.box.key)}"]
            yield f"{indent}n{each.number} [{', '.join(attributes)}]"


def _colors(box: Box, heat: str | None) -> tuple[str, str]:
    if heat is None:
        return FAMILIES[box.family]
    if heat not in box.costs:
        return FAMILIES["other"]
    return HEAT[heat_level(box.costs[heat])], HEAT_BORDER


def _arrows(flat: Flat) -> Iterator[str]:
    for arrow in flat.arrows:
        label = f" [label={_quoted(f' {arrow.label}')}]" if arrow.label else ""
        yield f"  n{arrow.source} -> n{arrow.target}{label}"


def _quoted(*lines: str) -> str:
    """Return lines as DOT has them: a backslash, which would begin an escape, is doubled."""
    return f'"{LINE.join(map(_escaped, lines))}"'


def _escaped(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace('"', '\\"')
