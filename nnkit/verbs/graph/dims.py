"""Names for the axes inside a model, found by a second run in which every dim has another size.

An axis gets a name only if both runs agree: `time`, `time+1`, `2·time`, `height/2`, `batch·time`, and if no
other name of the same kind fits as well.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from typing import TypeAlias

from nnkit.contract.requests import SummaryRequest
from nnkit.contract.sizes import Dims
from nnkit.verbs.graph.assembly import Parts
from nnkit.verbs.graph.report import Axis, Edge, Node

Sizes: TypeAlias = Mapping[str, int]
At: TypeAlias = Callable[[Sizes], Parts | None]

STEP = 32  # sizes are multiples of it where they can be: most models halve an image up to five times
MOST_ADDED = 1024  # the most that an axis may be longer than a dim and still be named after it
MOST_ROWS = 4000  # nodes up to which a model runs more than once more


def name_dims(request: SummaryRequest, nodes: tuple[Node, ...], edges: tuple[Edge, ...], at: At) -> Parts:
    """Return nodes and edges with names on the axes whose sizes follow the dims.

    at: returns the nodes and edges at other sizes, None if the model fails at them.
    """
    sizes, dims = request.spec.sizes, request.spec.dims
    found = _second_run((nodes, edges), dims, sizes, at)
    if found is None:
        return nodes, edges
    others, (other_nodes, other_edges) = found
    names = _Names(sizes, others)
    return (
        tuple(
            replace(node, axes=tuple(map(names.of, node.axes, other.axes)))
            for node, other in zip(nodes, other_nodes, strict=True)
        ),
        tuple(
            replace(edge, axes=names.of(edge.shape, other.shape))
            for edge, other in zip(edges, other_edges, strict=True)
        ),
    )


def _second_run(parts: Parts, dims: Dims, sizes: Sizes, at: At) -> tuple[Sizes, Parts] | None:
    """Return other sizes at which the model makes the same calls, with those; None if there are none.

    A loop over a dim makes more calls for more of it. Then that dim keeps its size.
    """
    others = other_sizes(dims, sizes)
    if others == dict(sizes):
        return None
    again = at(others)
    if again is not None and _are_alike(parts, again):
        return others, again
    if len(dims) < 2 or len(parts[0]) > MOST_ROWS:
        return None
    free = [name for name in dims if (one := _vary(dims, sizes, [name], at)) and _are_alike(parts, one[1])]
    varied = _vary(dims, sizes, free, at)
    return varied if varied and _are_alike(parts, varied[1]) else None


def _vary(dims: Dims, sizes: Sizes, names: list[str], at: At) -> tuple[Sizes, Parts] | None:
    """Return other sizes for only some dims, with the nodes and edges at them."""
    others = {**sizes, **other_sizes(dims.free(names, sizes), {name: sizes[name] for name in names})}
    if others == dict(sizes) or dims.problem_with(others):
        return None
    again = at(others)
    return (others, again) if again else None


def other_sizes(dims: Dims, sizes: Sizes) -> dict[str, int]:
    """Return another size for each dim that may have one, none much larger.

    No two dims change by the same factor or the same number, so that what follows one doesn't follow another.
    """
    others: dict[str, int] = {}
    changes: set[Fraction | int] = set()
    for name, size in sizes.items():
        large = size >= 4 * STEP
        step = STEP if large else 4 if size % 4 == 0 else 2
        first = size // 2 // STEP * STEP if large else size + max(2, size // step * step)
        for candidate in range(first, first + 64 * step, step):
            change: set[Fraction | int] = {Fraction(candidate, size), candidate - size}
            if candidate != size and changes.isdisjoint(change) and not dims[name].problem_with(candidate):
                others[name] = candidate
                changes |= change
                break
    return dims.satisfy({**sizes, **others}) or dict(sizes)


def _are_alike(one: Parts, other: Parts) -> bool:
    """Whether two runs made the same calls with the same edges and the same number of axes."""
    return _skeleton(one) == _skeleton(other)


def _skeleton(parts: Parts) -> tuple[list[object], list[object]]:
    nodes, edges = parts
    return (
        [(node.key, node.type, tuple(map(len, node.axes))) for node in nodes],
        [(edge.source, edge.target, len(edge.shape)) for edge in edges],
    )


class _Names:
    """Finds the name of an axis from its size in two runs."""

    def __init__(self, sizes: Sizes, others: Sizes) -> None:
        self.pairs = {name: (size, others[name]) for name, size in sizes.items() if others[name] != size}
        self.name = functools.cache(self._name)

    def of(self, shape: tuple[Axis, ...], other: tuple[Axis, ...]) -> tuple[Axis, ...]:
        """Return the axes of a shape, by names where its sizes follow the dims."""
        return tuple(self.name(size, other_size) for size, other_size in zip(shape, other, strict=True))

    def _name(self, size: int, other: int) -> Axis:
        if size == other:
            return size
        for names in (self._same(size, other), self._scaled(size, other), self._sums(size, other)):
            found = list(dict.fromkeys(names))
            if found:
                return found[0] if len(found) == 1 else size
        return size

    def _same(self, size: int, other: int) -> Iterator[str]:
        return (name for name, pair in self.pairs.items() if pair == (size, other))

    def _scaled(self, size: int, other: int) -> Iterator[str]:
        """Yield the dims, and products of two, that the axis is a multiple or a part of."""
        for name, (one, two) in self.pairs.items():
            yield from _multiple(name, Fraction(size, one), Fraction(other, two))
        for (name, (one, two)), (by, (first, second)) in combinations(self.pairs.items(), 2):
            yield from _multiple(f"{name}·{by}", Fraction(size, one * first), Fraction(other, two * second))

    def _sums(self, size: int, other: int) -> Iterator[str]:
        """Yield the dims that the axis is longer or shorter than, and the sums of two."""
        for name, (one, two) in self.pairs.items():
            if size - one == other - two and abs(size - one) <= MOST_ADDED:
                yield f"{name}{size - one:+d}".replace("-", "−")
        for (name, (one, two)), (by, (first, second)) in combinations(self.pairs.items(), 2):
            if (size, other) == (one + first, two + second):
                yield f"{name}+{by}"


def _multiple(name: str, ratio: Fraction, other: Fraction) -> Iterator[str]:
    if ratio == other and ratio:
        above = f"{ratio.numerator}·{name}" if ratio.numerator > 1 else name
        yield f"{above}/{ratio.denominator}" if ratio.denominator > 1 else above
