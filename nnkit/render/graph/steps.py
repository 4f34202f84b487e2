"""GraphReport -> a tree of steps: what a picture shows, before its wires are known.

Left out, unless asked for, are values that come from no input, and functions that lead to no output, if no
parameters are in them. Folded are

- trains: cheap functions called one after another that take one tensor and give one,
- repeats: blocks that are alike, from the second on, and calls and stretches of calls, from the third on.

Each is an interval of the calls of its group, so what is folded never makes a cycle.
"""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from nnkit.render.graph.families import family_of
from nnkit.verbs.graph.report import Edge, GraphReport, Node

Kind = Literal["input", "output", "module", "function", "constant", "group", "repeat"]

LONGEST_LOOP = 32  # steps in the body of a loop
LIGHT = ("shape", "math", "other")  # families of functions in a train
LONGEST_TRAIN = 32  # functions in a train
LONG_TRAIN = 10  # functions in a train that may take or give a second tensor


@dataclass(eq=False)
class Step:
    """A box that is being made. node: -1 for what was folded from several. likeness: 0 until known."""

    node: int
    key: str
    title: str
    subtitle: str
    kind: Kind
    type: str
    steps: list["Step"] = field(default_factory=list)
    times: int = 1
    likeness: int = 0
    parameters: int = 0
    parent: "Step | None" = None

    def leaves(self) -> Iterator["Step"]:
        """Yield the steps that have none inside, in order."""
        if not self.steps:
            yield self
        for step in self.steps:
            yield from step.leaves()


def tree_of(report: GraphReport, shown: set[int], edges: list[Edge]) -> Step:
    """Return the model as a step, with its inputs and outputs inside. edges: between the shown nodes."""
    steps = [_step(report, index, node) for index, node in enumerate(report.nodes)]
    at_top = [step for step, node in zip(steps, report.nodes, strict=True) if node.parent is None]
    model = next((step for step in at_top if step.kind not in ("input", "output")), None)
    for index, node in enumerate(report.nodes):
        if node.parent is not None and index in shown:
            steps[node.parent].steps.append(steps[index])
    root = Step(model.node if model else -1, model.key if model else "", report.title, "", "group", "")
    for step in at_top:
        if step is model and step.steps:
            root.steps += step.steps
            root.subtitle, root.type = step.type, step.type
        elif step.node in shown:
            root.steps.append(step)
    _fold(root, report, _Trains(report, edges), {}, is_root=True)
    for step in _all(root):
        for inner in step.steps:
            inner.parent = step
    return root


def shown_nodes(report: GraphReport, constants: bool) -> set[int]:
    """Return the nodes that a picture has."""
    if constants:
        return set(range(len(report.nodes)))
    taken: dict[int, list[int]] = {}
    for edge in report.edges:
        taken.setdefault(edge.source, []).append(edge.target)
    parents = {node.parent for node in report.nodes}
    shown: set[int] = set()
    for index, node in reversed(list(enumerate(report.nodes))):
        has_parameters = bool(node.row and node.row.parameters)
        is_free = node.kind == "constant" or node.from_no_input
        is_call = node.kind not in ("function", "constant") or index in parents
        if has_parameters or (not is_free and (is_call or not shown.isdisjoint(taken.get(index, ())))):
            shown.add(index)
    return shown


def _step(report: GraphReport, index: int, node: Node) -> Step:
    kind: Kind = "group" if node.kind == "container" else node.kind
    if node.kind in ("function", "constant"):
        return Step(index, node.key, node.type, "", kind, node.type)
    return Step(index, node.key, title_of(node.path), _subtitle(node), kind, node.type)


def _subtitle(node: Node) -> str:
    if node.kind in ("input", "output"):
        return ""
    kernel = "×".join(map(str, node.row.kernel)) if node.row and node.row.kernel else ""
    return f"{node.type} {kernel}".rstrip()


def title_of(path: str) -> str:
    """Return the end of a dotted name that means something: `layer1.0` of `net.layer1.0`, or `conv`."""
    names = path.split(".")
    first = len(names) - 1
    while first > 0 and names[first].isdigit():
        first -= 1
    return ".".join(names[first:])


def _all(step: Step) -> Iterator[Step]:
    yield step
    for inner in step.steps:
        yield from _all(inner)


@dataclass
class _Trains:
    """Finds functions that can be drawn as one."""

    report: GraphReport
    edges: list[Edge]

    def __post_init__(self) -> None:
        self.taken: dict[int, set[tuple[int, int]]] = {}
        self.readers: dict[tuple[int, int], set[int]] = {}
        for edge in self.edges:
            self.taken.setdefault(edge.target, set()).add((edge.source, edge.tensor))
            self.readers.setdefault((edge.source, edge.tensor), set()).add(edge.target)
        self.given: dict[int, list[tuple[int, int]]] = {}
        for tensor in self.readers:
            self.given.setdefault(tensor[0], []).append(tensor)

    def fold(self, steps: list[Step]) -> list[Step]:
        """Return the steps of a group with each train as one step."""
        folded: list[Step] = []
        start = 0
        while start < len(steps):
            end = self._end(steps, start)
            folded.append(_train(steps[start:end]) if end - start > 1 else steps[start])
            start = end
        return folded

    def _end(self, steps: list[Step], start: int) -> int:
        """Return where the longest train that begins at `start` ends."""
        end = start + 1
        longest = start
        while longest < len(steps) and longest - start < LONGEST_TRAIN and self._is_light(steps[longest]):
            longest += 1
        inside: set[int] = set()
        for last in range(start, longest):
            inside.add(steps[last].node)
            taken = {tensor for node in inside for tensor in self.taken.get(node, ())}
            given = [tensor for node in inside for tensor in self.given.get(node, ())]
            comes_in = [tensor for tensor in taken if tensor[0] not in inside]
            goes_out = [tensor for tensor in given if not self.readers[tensor] <= inside]
            ends = len(comes_in) + len(goes_out)
            if goes_out and ends <= (3 if len(inside) >= LONG_TRAIN else 2):
                end = last + 1
        return end if end - start < len(steps) else start + 1

    def _is_light(self, step: Step) -> bool:
        if step.kind != "function" or family_of(step.type) not in LIGHT:
            return False
        row = self.report.nodes[step.node].row
        return row is None or not (row.macs or row.parameters)


def _train(steps: list[Step]) -> Step:
    names = list(dict.fromkeys(step.title for step in steps))
    title = " · ".join(names) if len(names) < 3 else f"{names[0]} … {steps[-1].title}"
    many = f"{len(steps)} functions" if len(names) < len(steps) or len(names) > 2 else ""
    return Step(-1, f"{steps[0].key}…", title, many, "group", steps[-1].type, steps)


def _fold(
    step: Step, report: GraphReport, trains: _Trains, seen: dict[Hashable, int], is_root: bool = False
) -> None:
    """Fold what is inside a step, from the inside out."""
    for inner in step.steps:
        _fold(inner, report, trains, seen)
    if step.steps:
        step.kind = "group"
        step.steps = trains.fold(step.steps)
        for inner in step.steps:
            if not inner.likeness:
                _classify(inner, report, seen)
        step.steps = list(_repeats(step.steps))
        if len(step.steps) == 1 and step.steps[0].kind == "repeat" and not is_root:
            _merge(step, step.steps[0])
    _classify(step, report, seen)


def _merge(group: Step, repeat: Step) -> None:
    """Make a group that holds nothing but a repeat the repeat itself: `layers` of 80 blocks."""
    group.kind, group.times, group.steps = "repeat", repeat.times, repeat.steps
    group.subtitle = repeat.subtitle or repeat.title


def _classify(step: Step, report: GraphReport, seen: dict[Hashable, int]) -> None:
    """Give a step the number of its likeness: equal for steps that look alike and cost the same MACs."""
    own: Hashable = ()
    if step.node >= 0:
        node = report.nodes[step.node]
        row = node.row
        own = (node.kind, node.type, (row.macs, row.kernel, str(row.outputs)) if row else str(node.axes))
        step.parameters = row.parameters if row else 0
    else:
        step.parameters = sum(inner.parameters for inner in step.steps)
    length = len(step.key)
    beneath = tuple(
        (inner.likeness, inner.key[length:] if inner.key.startswith(step.key) else "") for inner in step.steps
    )
    step.likeness = seen.setdefault((step.kind, step.times, own, beneath), len(seen) + 1)


def _repeats(steps: list[Step]) -> Iterator[Step]:
    start = 0
    while start < len(steps):
        period, times = _repetition(steps, start)
        first, end = steps[start], start + period * times
        if times == 1:
            yield first
        elif period == 1:
            yield _repeat(first, steps[start:end])
        else:
            rounds = [_round(steps[at : at + period]) for at in range(start, end, period)]
            yield _repeat(rounds[0], rounds)
        start = end


def _repeat(first: Step, steps: list[Step]) -> Step:
    title, last = first.title, steps[-1].title
    number = re.search(r"\d+$", last)
    if number and title != last and first.node >= 0:
        title = f"{title}–{number[0]}"
    return Step(
        first.node,
        f"{first.key}×{len(steps)}",
        title,
        first.subtitle,
        "repeat",
        first.type,
        steps,
        len(steps),
    )


def _round(steps: list[Step]) -> Step:
    names = [step.title for step in steps]
    title = " · ".join(names) if len(names) < 3 else f"{names[0]} … {names[-1]}"
    are_outputs = all(step.kind == "output" for step in steps)
    subtitle = "outputs" if are_outputs else f"{len(steps)} steps"
    return Step(-1, f"{steps[0].key}…", title, subtitle, "group", steps[0].type, steps)


def _repetition(steps: list[Step], start: int) -> tuple[int, int]:
    """Return how many steps from `start` on repeat, and how often; (1, 1) if none do."""
    for period in range(1, LONGEST_LOOP + 1):
        times = 1
        while _alike(steps, start, start + times * period, period):
            times += 1
        if times > 2 or (times == 2 and period == 1 and steps[start].steps):
            return period, times
    return 1, 1


def _alike(steps: list[Step], start: int, other: int, count: int) -> bool:
    if other + count > len(steps):
        return False
    pairs = zip(steps[start : start + count], steps[other : other + count], strict=True)
    return all(a.likeness == b.likeness and _same_place(a, b) for a, b in pairs)


def _same_place(a: Step, b: Step) -> bool:
    """Whether two steps that look alike are members of one list, or calls of one module or function."""
    is_one = a.key.partition("~")[0] == b.key.partition("~")[0]
    return _pattern(a.key) == _pattern(b.key) and (is_one or a.parameters == b.parameters)


def _pattern(key: str) -> str:
    """Return a key without the numbers of list members and of calls."""
    return re.sub(r"\d+", "#", re.sub(r"~\d+", "", key))
