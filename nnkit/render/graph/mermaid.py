"""GraphReport -> Mermaid, which GitHub and GitLab draw from text in a README.

Mermaid gets slow and then refuses: 225 edges took 20 s, and 500 are its limit. So groups are folded, from
the inside out, until there are few enough; the file and stderr say which.
"""

from collections.abc import Iterator

from nnkit.contract.requests import DrawRequest
from nnkit.contract.text import plural, shorten
from nnkit.contract.visible import visible
from nnkit.render.graph.flat import Drawn, Flat, flatten, in_stretches, is_stretch
from nnkit.render.graph.opening import all_open, fitting, opened_keys
from nnkit.render.graph.palette import FAMILIES, HEAT, HEAT_BORDER, TEXT, heat_level
from nnkit.render.graph.scene import Box, scene_of

MOST_EDGES = 80
MOST_STRETCHES = 40  # of a model that has too many steps, and no groups to fold
DIRECTIONS = {"down": "TB", "right": "LR"}
SHAPES = {"input": ("([", "])"), "output": ("([", "])"), "function": ("(", ")"), "repeat": ("[[", "]]")}
ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "#": "35", "`": "96", "%": "37"}
LOOK_ALIKES = {"\\": "＼", "$": "＄"}
UNSAFE = str.maketrans({letter: f"#{name};" for letter, name in ENTITIES.items()} | LOOK_ALIKES)
"""What Mermaid would take for markup, an end, a new line or mathematics; the last two even as entities."""


def as_mermaid(request: DrawRequest) -> str:
    """Return a flowchart of at most about 80 edges."""
    report = request.report
    root = scene_of(report, request.constants)
    if not _fits(root, frozenset()):
        root = in_stretches(root, MOST_STRETCHES)
    wanted = opened_keys(report, root, request.opened, request.depth)
    if wanted is None:
        wanted = all_open(root)
    opened = fitting(root, wanted, lambda keys: _fits(root, keys))
    flat = flatten(root, opened)
    folded = [" ".join(drawn.lines) for drawn in flat.all() if drawn.box.key in wanted - opened]
    folded += [" ".join(drawn.lines) for drawn in flat.all() if is_stretch(drawn.box)]
    notes = []
    if folded:
        names = shorten(list(dict.fromkeys(folded)), 6)
        limit = f"GitHub draws no more than some {MOST_EDGES} edges in time"
        notes.append(f"folded to {plural(len(flat.arrows), 'edge')}, because {limit}: {names}")
    for note in notes:
        request.progress(note)
    lines = [
        *_head(request, notes),
        *_boxes(flat.drawn, request.heat, 1),
        *_arrows(flat),
        *_classes(flat, request.heat),
    ]
    return "\n".join([*lines, ""])


def _fits(root: Box, keys: frozenset[str]) -> bool:
    return len(flatten(root, keys).arrows) <= MOST_EDGES


def _head(request: DrawRequest, notes: list[str]) -> Iterator[str]:
    yield f"flowchart {DIRECTIONS[request.direction]}"
    yield f"    accTitle: {_comment(request.report.title)}"
    yield f"    accDescr: {_comment(_described(request))}"
    for note in notes:
        yield f"    %% {_comment(note)}"


def _described(request: DrawRequest) -> str:
    sizes = ", ".join(f"{name} {size}" for name, size in request.report.sizes.items())
    return f"The graph of {request.report.title}{f' at {sizes}' if sizes else ''}, drawn by nnkit."


def _boxes(drawn: tuple[Drawn, ...], heat: str | None, level: int) -> Iterator[str]:
    indent = "    " * level
    for each in drawn:
        if each.within:
            yield f'{indent}subgraph n{each.number} ["{_text(" ".join(each.lines))}"]'
            yield from _boxes(each.within, heat, level + 1)
            yield f"{indent}end"
        else:
            begin, end = SHAPES.get(each.box.kind, ("[", "]"))
            lines = "<br>".join(map(_text, each.lines))
            yield f'{indent}n{each.number}{begin}"{lines}"{end}:::{_class(each.box, heat)}'


def _arrows(flat: Flat) -> Iterator[str]:
    for arrow in flat.arrows:
        label = f'|"{_text(arrow.label)}"|' if arrow.label else ""
        yield f"    n{arrow.source} -->{label} n{arrow.target}"


def _class(box: Box, heat: str | None) -> str:
    if heat is None:
        return box.family
    return f"heat{heat_level(box.costs[heat])}" if heat in box.costs else "cold"


def _classes(flat: Flat, heat: str | None) -> Iterator[str]:
    """Yield the colors that are used, with the text dark on them in GitHub's dark scheme too."""
    used = sorted({_class(drawn.box, heat) for drawn in flat.all() if not drawn.within})
    styles = {name: (fill, border) for name, (fill, border) in FAMILIES.items()}
    styles |= {f"heat{level}": (fill, HEAT_BORDER) for level, fill in enumerate(HEAT)}
    styles["cold"] = FAMILIES["other"]
    for name in used:
        fill, border = styles[name]
        yield f"    classDef {name} fill:{fill},stroke:{border},color:{TEXT}"
    if frames := [f"n{drawn.number}" for drawn in flat.all() if drawn.within]:
        yield "    classDef frame fill:none,stroke:#8c8c8c"
        yield f"    class {','.join(frames)} frame"


def _text(text: str) -> str:
    return text.translate(UNSAFE)


def _comment(text: str) -> str:
    """Return a text for a line of its own, without what Mermaid would take for a directive or an end."""
    return visible(text).translate(str.maketrans("{};#%", "(),  "))
