"""Where the boxes of one group stand relative to each other: ranks, lanes and rails, but no sizes.

The calls of a group are in an order that topology allows, and whatever is folded is an interval of it. So no
edge ever runs backward, and no cycle has to be broken.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The cells of a group's boxes, and the rails of its wires.

    ranks: for each box its row; a wire always runs to a later one. lanes: for each box its column: 0 is the
    main line, negative ones are to its left. No two boxes share a cell. entries: for each wire that comes
    from outside, in the order of the wires, the lane at which it comes in.
    rails: for each wire the lane of its trunk, a free column in which it runs past the ranks between; None
    if all its targets are in the next rank. No rail runs through a box.
    """

    ranks: tuple[int, ...]
    lanes: tuple[int, ...]
    rails: tuple[int | None, ...]
