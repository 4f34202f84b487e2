"""Which sizes to trace a model at, and at which others to prove what was traced. Torch-free."""

from collections.abc import Iterable, Mapping
from itertools import count

from nnkit.architecture import Dim

Sizes = dict[str, int]
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
OTHERS = 4  # at least this many assignments beside the traced one


def traced_sizes(dims: Mapping[str, Dim], wanted: Mapping[str, int]) -> Sizes:
    """Return the wanted sizes, moved up where needed: at least 2, and no two equal.

    A size of 0 or 1 is treated as a constant while tracing, and two equal sizes as one.
    """
    chosen: Sizes = {}
    for name, dim in dims.items():
        chosen[name] = _fit(dim, max(wanted.get(name, dim.default), 2), set(chosen.values()))
    return chosen


def other_sizes(dims: Mapping[str, Dim], traced: Mapping[str, int]) -> list[Sizes]:
    """Return assignments to prove at: each dim at its minimum, primes, and one larger than traced."""
    if not dims:
        return []
    lowest = {name: dim.least for name, dim in dims.items()}
    larger: Sizes = {}
    for name, dim in dims.items():
        larger[name] = _fit(dim, traced[name] + traced[name] // 4 + 1, set(larger.values()))
    assignments = [_around(dims, {name: dim.least}) for name, dim in dims.items()]
    if len(set(lowest.values())) == len(lowest):
        assignments.append(lowest)
    assignments.append(larger)
    unique = {tuple(sizes.items()): sizes for sizes in assignments if sizes != dict(traced)}
    for start in range(1, len(PRIMES)):
        if len(unique) >= OTHERS:
            break
        sizes = _around(dims, {}, start)
        if sizes != dict(traced):
            unique[tuple(sizes.items())] = sizes
    return list(unique.values())


def allowed_sizes(dim: Dim, wanted: Iterable[int]) -> list[int]:
    """Return the wanted sizes that a dim takes, ascending, and its smallest."""
    return sorted({dim.least, *(size for size in wanted if not dim.problem_with(size))})


def _around(dims: Mapping[str, Dim], fixed: Mapping[str, int], start: int = 0) -> Sizes:
    """Return an assignment with some sizes fixed and the others different primes, where allowed."""
    sizes: Sizes = dict(fixed)
    for place, (name, dim) in enumerate(dims.items(), start):
        if name not in sizes:
            sizes[name] = _fit(dim, max(PRIMES[place % len(PRIMES)], dim.min + place), set(sizes.values()))
    return {name: sizes[name] for name in dims}


def _fit(dim: Dim, wanted: int, taken: set[int]) -> int:
    """Return the first allowed size from `wanted` up that isn't taken, or the largest allowed."""
    for size in count(max(wanted, dim.min)):
        if dim.max is not None and size > dim.max:
            return dim.max - dim.max % dim.multiple_of
        if size not in taken and not dim.problem_with(size):
            return size
    raise AssertionError("count() doesn't end")
