"""What a picture shows, before anything has a place: a tree of boxes, and wires between those of one group.

Every form is drawn from a scene: HTML, SVG, Mermaid, DOT and the tree on a terminal. Here it is decided

- what a box is called (`layer1.0 BasicBlock`, never a bare `0`),
- that repeated blocks are one box `×80`,
- that chains of values that come from no input are one box, or none,
- which tensor enters and leaves a group, and where its shape has changed and is worth a label.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ENTRY = -1
"""The source of a wire that comes into its group from outside."""

Kind = Literal["input", "output", "module", "function", "constant", "group", "repeat"]


@dataclass(frozen=True)
class Box:
    """A step, or a group of steps that can be opened.

    key: unique, the fragment of a deep link; that of the node. title, subtitle: `layer1.0` and `BasicBlock`.
    kind: `group` has boxes inside; `repeat` has the blocks that are alike, all of them, and is drawn as the
    first one with `×times` until it is unfolded. node: the index of the node in the report (a repeat's is
    the first of its blocks), -1 for what was folded from several.
    times: 80 for a repeat of 80 blocks, else 1. like: the key of an earlier block in the same repeat that
    has the same boxes and wires inside, by keys that begin with its own key; then `boxes` and `wires` are
    empty here. family: a color family of the type: conv, norm, activation, attention, linear, pool,
    embedding, recurrent, shape (views), math, other.
    costs: share of the whole by each kind of heat that is known: macs, params, output, saved, time.
    """

    key: str
    title: str
    subtitle: str
    kind: Kind
    node: int
    boxes: tuple["Box", ...] = ()
    wires: tuple["Wire", ...] = ()
    times: int = 1
    like: str = ""
    family: str = "other"
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wire:
    """One tensor inside one group: from a box, or from outside, to the boxes that take it, or out.

    source: the index of a box of the group, or ENTRY. targets: indices of its boxes, in order, each once;
    the number of boxes means that it leaves the group. tensor: the same number for one tensor in every
    group that it crosses. label: its shape, with named dims; every wire has it. changes: whether it differs
    from what went into the box that made it, and so deserves to be read.
    """

    source: int
    targets: tuple[int, ...]
    tensor: int
    label: str
    changes: bool
