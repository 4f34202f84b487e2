"""GraphReport -> a tree of the calls for a terminal, with bars that show where the cost is.

Example, a part of resnet18:

    step                      shape       MACs 1.81G   params 11.7M  output 9.5 MiB
    x input                   3×224×224
    conv1 Conv2d              64×112×112  ▌        7%            0%  ███▏       33%
    layer1 Sequential         64×56×56    █▊      25%            1%  ██         21%
    ╰─ layer1.0 BasicBlock ×2 64×56×56    █▊      25%            1%  ██         21%
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nnkit.contract.requests import HEATS
from nnkit.contract.text import format_amount, format_bytes, format_shape, shorten
from nnkit.contract.visible import visible
from nnkit.render.document import Line
from nnkit.render.dtypes import describe_dtypes
from nnkit.render.graph.flat import titled
from nnkit.render.graph.opening import all_open, inside, opened_keys
from nnkit.render.graph.scene import Box, scene_of
from nnkit.render.table import cut, paragraph, terminal_width
from nnkit.verbs.graph.report import GraphReport
from nnkit.verbs.summary.report import Shape

STANDARD = ("macs", "params", "output")
TITLES = {"macs": "MACs", "params": "params", "output": "output", "saved": "saved", "time": "time"}
GAP = "  "
PERCENT = 5  # characters of ` 100%`
LONGEST_BAR = 12
LEAST_STEP, LEAST_SHAPE = 24, 11  # characters that stay of them
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
HEAT = ("\x1b[34m", "\x1b[36m", "\x1b[32m", "\x1b[33m", "\x1b[31m")
"""From cold to hot. Each terminal shows these in its own scheme, dark or light."""


@dataclass(frozen=True)
class Signs:
    """What a tree is drawn with. parts: of one character of a bar, from the least to all of it."""

    branch: str
    last: str
    trunk: str
    parts: str

    @property
    def all(self) -> str:
        """Every sign, to try whether a stream can encode them."""
        return self.branch + self.last + self.trunk + self.parts


UNICODE = Signs("├─ ", "╰─ ", "│  ", "▏▎▍▌▋▊▉█")
ASCII = Signs("|- ", "`- ", "|  ", "#")


@dataclass(frozen=True)
class Step:
    """A line of the tree.

    lines: what is drawn before the title. shares: of the whole, by kind of cost; a step that is drawn for
    those of several blocks has the shares of all of them. is_open: whether steps follow beneath.
    """

    box: Box
    lines: str
    shape: str
    shares: Mapping[str, float]
    is_open: bool

    @property
    def title(self) -> str:
        return titled(self.box)[0]

    @property
    def subtitle(self) -> str:
        return " ".join(titled(self.box)[1:])


@dataclass(frozen=True)
class Widths:
    """The characters of each column, and the names of the columns for which there is no room."""

    step: int
    shape: int
    bars: dict[str, int]
    left_out: tuple[str, ...]


def as_tree(
    report: GraphReport,
    heat: str | None = None,
    opened: Sequence[str] = (),
    depth: int | None = None,
    constants: bool = False,
    terminal: bool = False,
    color: bool = False,
    signs: Signs = UNICODE,
) -> str:
    """Return the tree and the totals; on a terminal it fits the width.

    heat: the kind of cost whose bars come first. opened, depth: which groups have their steps beneath, by
    patterns of their path or type, or by level; all, if neither is given.
    """
    root = scene_of(report, constants)
    keys = opened_keys(report, root, opened, depth)
    open_keys = all_open(root) if keys is None else keys
    headings = {name: _heading(report, root, name) for name in _columns(root, heat)}
    room = terminal_width() if terminal else None
    steps = list(_steps(report, root, open_keys, signs, named=True))
    widths = _fit(steps, headings, room)
    if any(len(step.shape) > widths.shape for step in steps):  # sizes are shorter than the names of dims
        steps = list(_steps(report, root, open_keys, signs, named=False))
        widths = _fit(steps, headings, room)
    hottest = {
        name: max((step.shares.get(name, 0.0) for step in steps if not step.is_open), default=0.0)
        for name in widths.bars
    }
    lines = [_head(headings, widths)]
    lines += [_line(step, widths, hottest, color, signs) for step in steps]
    notes = [("no room for", ", ".join(widths.left_out))] if widths.left_out else []
    notes += [("warning", text) for text in report.warnings]
    return "\n".join(
        [
            visible(_title(report)),
            "",
            *lines,
            "",
            *(paragraph(label, text, terminal) for label, text in [*_totals(report), *notes]),
        ]
    )


def _title(report: GraphReport) -> str:
    dtypes = ""
    if report.spec and report.totals:
        dtypes = describe_dtypes(report.spec, report.totals.dtypes)
    sizes = (f"{name} {size:,}" for name, size in report.sizes.items())
    return " · ".join(filter(None, (report.title, *sizes, dtypes)))


def _totals(report: GraphReport) -> Iterator[Line]:
    if totals := report.totals:
        yield "parameters", f"{totals.parameters:,} ({format_bytes(totals.parameter_bytes)})"
        yield "MACs", f"{'at least ' if totals.missed else ''}{totals.macs:,}"
    if memory := report.memory:
        peaks = f"{format_bytes(memory.training_peak)}, inference {format_bytes(memory.inference_peak)}"
        yield "training", f"{peaks}, by {memory.optimizer} on {memory.device}"


# What the lines show


def _steps(
    report: GraphReport, root: Box, opened: Collection[str], signs: Signs, named: bool
) -> Iterator[Step]:
    """Yield the boxes in order, each before those within it; the boxes of the model itself have no lines.

    named: whether shapes have the names of dims: `batch×512`, or sizes: `1×512`.
    """

    def walk(boxes: Sequence[Box], lines: str, level: int, times: int) -> Iterator[Step]:
        for box in boxes:
            is_last = box is boxes[-1]
            own = lines + (signs.last if is_last else signs.branch) if level else ""
            shares = {name: share * times for name, share in box.costs.items()}
            yield Step(box, own, _shape(report, box, named), shares, box.key in opened)
            if box.key in opened:
                below = lines + (" " * len(signs.trunk) if is_last else signs.trunk) if level else ""
                yield from walk(inside(box), below, level + 1, times * box.times)

    return walk(root.boxes, "", 0, 1)


def _shape(report: GraphReport, box: Box, named: bool) -> str:
    """Return the shapes that a step returns; those of the last one, if it is several."""
    while box.boxes and (box.node < 0 or report.nodes[box.node].kind == "container"):
        box = box.boxes[-1]
    if box.node < 0:
        return ""
    node = report.nodes[box.node]
    sizes = node.row.output_shapes if node.row else _sizes_of_end(report, box.node)
    shapes = node.axes if named or not sizes else sizes
    return visible(shorten([format_shape(shape) for shape in shapes], 2))


def _sizes_of_end(report: GraphReport, node: int) -> tuple[Shape, ...]:
    """Return the shape of an input or output, which has no row: that of the tensor at it."""
    return tuple(edge.shape for edge in report.edges if node in (edge.source, edge.target))[:1]


def _columns(root: Box, heat: str | None) -> list[str]:
    """Return the kinds of cost to show, three at most of those that are known, the chosen one first."""
    known = {name for box in (root, *root.boxes) for name in box.costs}
    chosen = [name for name in dict.fromkeys([heat, *STANDARD]) if name in known]
    return [name for name in chosen if name is not None][: len(STANDARD)]


def _heading(report: GraphReport, root: Box, name: str) -> str:
    """Return `MACs 1.81G`: the kind of cost, and all of it."""
    return f"{TITLES[name]} {_whole(report, root, name)}".rstrip()


def _whole(report: GraphReport, root: Box, name: str) -> str:
    amount = root.amounts[HEATS.index(name)]
    if name in ("macs", "params"):
        return format_amount(int(amount)) if report.totals else ""
    if name == "time":
        return f"{amount * 1e3:.3g} ms"
    return "" if _has_open_sizes(report) else format_bytes(int(amount))


def _has_open_sizes(report: GraphReport) -> bool:
    """Whether a file leaves the size of an axis open."""
    rows = (node.row for node in report.nodes if node.row)
    return any(size < 0 for row in rows for shape in row.output_shapes for size in shape)


# How they are drawn


def _fit(steps: Sequence[Step], headings: dict[str, str], room: int | None) -> Widths:
    """Return the widths of the columns: bars are left out where there is no room, and then the shape."""
    step = max(4, *(len(each.lines) + len(f"{each.title} {each.subtitle}".rstrip()) for each in steps))
    shape = max(5, *(len(each.shape) for each in steps))
    bars = {name: max(len(heading), 3 + PERCENT) for name, heading in headings.items()}
    if room is None:
        return Widths(step, shape, {name: max(width, 10 + PERCENT) for name, width in bars.items()}, ())
    left_out: list[str] = []

    def least() -> int:
        return min(step, LEAST_STEP) + sum(
            len(GAP) + width for width in (min(shape, LEAST_SHAPE), *bars.values())
        )

    while least() > room and len(bars) > 1:
        left_out.insert(0, list(bars)[-1])
        del bars[left_out[0]]
    if least() > room:
        shape = 0
        left_out.insert(0, "shape")
    free = room - sum(len(GAP) + width for width in bars.values())
    shape_width = min(shape, max(LEAST_SHAPE, free - step - len(GAP))) if shape else 0
    step_width = max(min(step, free - (shape_width + len(GAP) if shape else 0)), 1)
    free -= step_width + (shape_width + len(GAP) if shape else 0)
    more = max(free, 0) // max(len(bars), 1)
    longest = LONGEST_BAR + PERCENT
    bars = {name: max(width, min(width + more, longest)) for name, width in bars.items()}
    return Widths(step_width, shape_width, bars, tuple(TITLES.get(name, name) for name in left_out))


def _head(headings: dict[str, str], widths: Widths) -> str:
    cells = ["step".ljust(widths.step)]
    cells += ["shape".ljust(widths.shape)] if widths.shape else []
    cells += [headings[name].ljust(width) for name, width in widths.bars.items()]
    return GAP.join(cells).rstrip()


def _line(step: Step, widths: Widths, hottest: dict[str, float], color: bool, signs: Signs) -> str:
    cells = [_name(step, widths.step, color)]
    cells += [cut(step.shape, widths.shape).ljust(widths.shape)] if widths.shape else []
    for name, width in widths.bars.items():
        share = step.shares.get(name)
        heat = _heat(share or 0.0, hottest[name]) if color and not step.is_open else ""
        cells.append(_bar(share, width, heat, signs))
    return GAP.join(cells).rstrip()


def _name(step: Step, width: int, color: bool) -> str:
    """Return the title and the type in so many characters; the type gives way first."""
    room = max(width - len(step.lines), 1)
    title = cut(step.title, room)
    subtitle = cut(step.subtitle, room - len(title) - 1) if room - len(title) > 3 else ""
    padding = " " * (room - len(title) - len(subtitle) - 1)
    if not color:
        return f"{step.lines}{title} {subtitle}{padding}"[:width].ljust(width)
    if step.is_open:
        title = f"{BOLD}{title}{PLAIN}"
    space = " " if room > len(cut(step.title, room)) else ""
    return f"{DIM}{step.lines}{PLAIN}{title}{space}{DIM}{subtitle}{PLAIN}{padding}"


def _bar(share: float | None, width: int, heat: str, signs: Signs) -> str:
    """Return `████▌      45%`; nothing for a cost that isn't known, a bar of no length for none."""
    if share is None:
        return " " * width
    length = width - PERCENT
    parts = len(signs.parts)
    filled = min(round(share * length * parts), length * parts)
    whole, rest = divmod(filled, parts)
    bar = signs.parts[-1] * whole + (signs.parts[rest - 1] if rest else "")
    padding = " " * (length - len(bar))
    bar = f"{heat}{bar}{PLAIN}" if heat and bar else bar
    return f"{bar}{padding}{_percent(share):>{PERCENT}}"


def _percent(share: float) -> str:
    """Return a share in whole percent; `<1%` for some that would round to none."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}" if share else ""


def _heat(share: float, hottest: float) -> str:
    """Return the color of a share, against the hottest step."""
    if not share or not hottest:
        return ""
    return HEAT[min(int(share / hottest * len(HEAT)), len(HEAT) - 1)]
