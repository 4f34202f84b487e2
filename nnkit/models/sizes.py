"""The sizes to check a model at, to trace it at, and the other sizes to prove it at. Torch-free.

Every assignment satisfies the constraints of the dims, where any does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import count, islice, product
from math import prod

from nnkit.contract.architecture import ResolvedDim
from nnkit.contract.axes import names_in_constraint
from nnkit.contract.sizes import Dims

Sizes = dict[str, int]
BATCH = 4  # samples that a check needs at least
ENOUGH = 64  # what a default size is cut to: a check needs no more
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
OTHERS = 4  # at least this many assignments in addition to the traced one
FURTHER = 8  # times the traced size
TOGETHER = (16, 32, 64, 128, 256)  # sizes near which all dims are at once
EQUAL = (4, 8, 16, 32, 33, 64, 128)  # sizes that all dims have at once
SMALL = 41  # below this, each size is tried
ROUND = (50, 60, 80, 100, 150, 200, 300, 400, 500, 1000, 2000, 4000)
MOST_TRIED = 20_000  # assignments tried to find one to trace at
HIGHEST = 2**13  # up to here, the largest size that the constraints allow is searched for
PICTURES = (48, 96, 112, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448, 512, 640)


def checked_sizes(dims: Dims, wanted: Mapping[str, int]) -> Sizes:
    """Return the wanted sizes with large defaults cut and several samples in a batch."""
    sizes = {name: _reduce_default(dims[name], size) for name, size in wanted.items()}
    if "batch" in sizes:
        samples = max(BATCH, sizes["batch"])
        if not dims["batch"].problem_with(samples):
            sizes["batch"] = samples
    chosen = [name for name, size in wanted.items() if size != dims[name].default]
    return dims.satisfy(sizes, fixed=chosen) or dims.satisfy(sizes) or dict(wanted)


def _reduce_default(dim: ResolvedDim, size: int) -> int:
    """Return a size cut to what the checks need, unless the user chose it."""
    if size != dim.default or size <= ENOUGH:
        return size
    return max(dim.least, ENOUGH - ENOUGH % dim.multiple_of)


def rechecked_sizes(dims: Dims, checked: Mapping[str, int]) -> Sizes | None:
    """Return other sizes to check at, primes where possible; None where no others are allowed."""
    fitting = [dims.satisfy(sizes) for sizes in reversed(other_sizes(dims, checked))]
    return next((sizes for sizes in fitting if sizes and sizes != checked), None)


def traced_sizes(dims: Dims, wanted: Mapping[str, int]) -> Sizes:
    """Return the wanted sizes, moved where needed: at least 2, no two equal, and as the constraints allow.

    A size of 0 or 1 is treated as a constant while tracing, and two equal sizes as one.
    """
    chosen: Sizes = {}
    for name, dim in dims.items():
        chosen[name] = _fit(dim, max(wanted.get(name, dim.default), 2), set(chosen.values()))
    if not dims.problem_with(chosen):
        return chosen
    return _find_traceable(dims, chosen) or dims.satisfy(chosen) or chosen


def _find_traceable(dims: Dims, near: Sizes) -> Sizes | None:
    """Return the sizes nearest to these that are at least 2 and satisfy the constraints, or None.

    Sizes that differ are preferred.
    """
    moved = [name for name in dims if name in set().union(*map(names_in_constraint, dims.constraints))]
    choices = [allowed_sizes(dims[name], {*PRIMES, 4, near[name]}) for name in moved]
    allowed = []
    for chosen in islice(product(*choices), MOST_TRIED):
        sizes = {**near, **dict(zip(moved, chosen, strict=True))}
        if min(chosen) >= 2 and not dims.problem_with(sizes):
            allowed.append(sizes)

    def cost(sizes: Sizes) -> tuple[int, int]:
        return -len(set(sizes.values())), sum(abs(sizes[name] - near[name]) for name in moved)

    return min(allowed, key=cost, default=None)


def other_sizes(dims: Dims, traced: Mapping[str, int]) -> list[Sizes]:
    """Return assignments to prove at: each dim at its minimum, one larger than traced, and primes.

    Primes are added up to OTHERS assignments.
    """
    if not dims:
        return []
    lowest = _lowest(dims)
    larger: Sizes = {}
    for name, dim in dims.items():
        larger[name] = _fit(dim, traced[name] + traced[name] // 4 + 1, set(larger.values()))
    assignments = [_around(dims, {name: dim.least}) for name, dim in dims.items()]
    if len(set(lowest.values())) == len(lowest):
        assignments.append(_satisfy(dims, lowest))
    assignments.append(_satisfy(dims, larger))
    unique = {tuple(sizes.items()): sizes for sizes in assignments if _is_other(dims, sizes, traced)}
    for start in range(1, len(PRIMES)):
        if len(unique) >= OTHERS:
            break
        sizes = _around(dims, {}, start)
        if _is_other(dims, sizes, traced):
            unique[tuple(sizes.items())] = sizes
    return list(unique.values())


def _is_other(dims: Dims, sizes: Sizes, traced: Mapping[str, int]) -> bool:
    return sizes != dict(traced) and not dims.problem_with(sizes)


def complete(dims: Dims, fixed: Mapping[str, int]) -> Sizes:
    """Return an assignment with some sizes given and small ones for the other dims.

    The given ones are moved only where the constraints allow no others with them.
    """
    return _around(dims, {name: size for name, size in fixed.items() if name in dims})


def ladders(
    dims: Dims, traced: Mapping[str, int], images: Iterable[tuple[str, str]] = ()
) -> tuple[list[list[Sizes]], list[list[Sizes]]]:
    """Return ways up from small sizes, each a list of assignments that grow: coarse ones, and fine ones.

    There is a ladder for each dim, with the others small, one for each pair of dims that span an image, one
    for all dims growing together and one for all dims equal. images: those pairs.
    """
    limited = {name: replace(dim, max=_largest(dims, name)) for name, dim in dims.items()}

    def ladder_of_each(steps: Callable[[int], Iterable[int]]) -> list[list[Sizes]]:
        return [
            [complete(dims, {name: size}) for size in _nearby_allowed(dim, steps(traced[name]))]
            for name, dim in limited.items()
        ]

    pictures = [
        [complete(dims, dict.fromkeys(pair, size)) for size in PICTURES if _all_allow(limited, pair, size)]
        for pair in images
    ]
    coarse = [*ladder_of_each(_coarse), *pictures]
    if len(dims) > 1:
        together = [_together(dims, dict.fromkeys(dims, size)) for size in TOGETHER]
        together.append(_together(dims, {name: FURTHER * traced[name] for name in dims}))
        coarse.append(sorted(together, key=lambda sizes: prod(sizes.values())))
        coarse.append([dict.fromkeys(dims, size) for size in EQUAL if _all_allow(dims, dims, size)])
    return _without_broken(dims, coarse), _without_broken(dims, ladder_of_each(_fine))


def _without_broken(dims: Dims, ladders: list[list[Sizes]]) -> list[list[Sizes]]:
    return [[sizes for sizes in ladder if not dims.problem_with(sizes)] for ladder in ladders]


def _largest(dims: Dims, name: str) -> int | None:
    """Return the largest size of a dim that goes with some sizes of the others; None where there is none.

    Under a constraint it is found by bisection, up to HIGHEST.
    """
    dim = dims[name]
    if not any(name in names_in_constraint(constraint) for constraint in dims.constraints):
        return dim.max

    def fits(steps: int) -> bool:
        sizes = {**_lowest(dims), name: dim.least + steps * dim.multiple_of}
        return dims.satisfy(sizes, fixed={name}) is not None

    most = HIGHEST if dim.max is None else min(dim.max, HIGHEST)
    low, high = 0, max(most - dim.least, 0) // dim.multiple_of
    if fits(high):
        return dim.max
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return dim.least + low * dim.multiple_of


def _lowest(dims: Dims) -> Sizes:
    return {name: dim.least for name, dim in dims.items()}


def _coarse(traced: int) -> Iterable[int]:
    """Return powers of two with their neighbors, and several times the traced size."""
    powers = (2**power + step for power in range(3, 13) for step in (-1, 0, 1))
    return {*powers, FURTHER * traced, FURTHER * traced + 1}


def _fine(traced: int) -> Iterable[int]:
    """Return each small size, round numbers, and sizes of pictures."""
    return {*range(1, SMALL), *PICTURES, *ROUND}


def _nearby_allowed(dim: ResolvedDim, wanted: Iterable[int]) -> list[int]:
    """Return the allowed sizes next to the wanted ones and to the maximum, ascending."""
    step = dim.multiple_of
    sizes = list(wanted) if dim.max is None else [*wanted, dim.max]
    rounded_down = {size // step * step for size in sizes}
    return allowed_sizes(dim, rounded_down | {size + step for size in rounded_down})


def _all_allow(dims: Mapping[str, ResolvedDim], names: Iterable[str], size: int) -> bool:
    return not any(dims[name].problem_with(size) for name in names)


def _together(dims: Dims, wanted: Mapping[str, int]) -> Sizes:
    sizes: Sizes = {}
    for name, dim in dims.items():
        sizes[name] = _fit(dim, wanted[name], set(sizes.values()))
    return _satisfy(dims, sizes)


def allowed_sizes(dim: ResolvedDim, wanted: Iterable[int]) -> list[int]:
    """Return the wanted sizes that a dim allows and its smallest, ascending."""
    return sorted({dim.least, *(size for size in wanted if not dim.problem_with(size))})


def _around(dims: Dims, fixed: Mapping[str, int], start: int = 0) -> Sizes:
    """Return an assignment with some sizes given and, where allowed, a different prime for each other dim.

    start: the index of the first prime to use.
    """
    sizes: Sizes = dict(fixed)
    for index, (name, dim) in enumerate(dims.items(), start):
        if name not in sizes:
            wanted = max(PRIMES[index % len(PRIMES)], dim.min + index)
            sizes[name] = _fit(dim, wanted, set(sizes.values()))
    return _satisfy(dims, {name: sizes[name] for name in dims}, fixed)


def _satisfy(dims: Dims, sizes: Sizes, fixed: Mapping[str, int] | None = None) -> Sizes:
    """Return sizes near these that satisfy the constraints; the fixed ones stay if they can."""
    return dims.satisfy(sizes, fixed or ()) or dims.satisfy(sizes) or sizes


def _fit(dim: ResolvedDim, wanted: int, taken: set[int]) -> int:
    """Return the first allowed size from `wanted` up that isn't taken, or the largest allowed."""
    for size in count(max(wanted, dim.min)):
        if dim.max is not None and size > dim.max:
            return dim.max - dim.max % dim.multiple_of
        if size not in taken and not dim.problem_with(size):
            return size
    raise AssertionError("count() doesn't end")
