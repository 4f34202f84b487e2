"""Find how an axis depends on a dim, from the size of the axis at a few sizes of the dim. Torch-free."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

DIVISORS, OFFSETS, FACTORS = range(1, 65), range(-128, 129), range(2, 17)

Ask: TypeAlias = Callable[[str, int], int | None]
"""Takes a dim and its size; returns the size of the axis, or None where the model doesn't allow it."""


@dataclass(frozen=True)
class Affine:
    """`(factor * size + offset) // divisor`: what convolutions, pooling and upsampling do to an axis."""

    factor: int = 1
    offset: int = 0
    divisor: int = 1

    def at(self, size: int) -> int:
        """Return the value at a size."""
        return (self.factor * size + self.offset) // self.divisor

    def format(self, name: str) -> str:
        """Return the expression, with the dim called `name`."""
        text = name if self.factor == 1 else f"{self.factor} * {name}"
        if self.offset:
            text += f" {'+' if self.offset > 0 else '-'} {abs(self.offset)}"
        if self.divisor == 1:
            return text
        return f"{f'({text})' if ' ' in text else text} // {self.divisor}"


def find_product(
    seen: Mapping[str, Mapping[int, int]], allowed: Mapping[str, Sequence[int]], ask: Ask
) -> str:
    """Return an axis as a product of one factor for each dim that changes it, or an empty string.

    For example `((height + 1) // 2) * width`, for an image that is halved in height and then flattened.

    seen: for each dim, the size of the axis by the size of that dim, with the others at their first size; the
    first entry is the dim's own first size. allowed: the sizes of each dim that `ask` may be called with.
    """
    first_sizes = next(iter(seen.values()))
    plain = next(iter(first_sizes.values()))
    # While one dim changes, the product of the other factors, the rest, is constant and divides every size.
    possible_rests = [divisors(math.gcd(*sizes.values())) for sizes in seen.values()]
    for rests in itertools.product(*possible_rests):
        if math.prod(plain // rest for rest in rests) != plain:
            continue
        factors = [
            _find(name, rest, sizes, allowed[name], ask)
            for rest, (name, sizes) in zip(rests, seen.items(), strict=True)
        ]
        if len(factors) == 1:
            return factors[0]
        if all(factors):
            return " * ".join(f"({factor})" if " " in factor else factor for factor in factors)
    return ""


def find_sum(
    seen: Mapping[str, Mapping[int, int]], ask_all: Callable[[Mapping[str, int]], int | None]
) -> str:
    """Return an axis as a sum with one term for each dim that changes it, or an empty string.

    For example `past + time`, or `2 * time + 1`. seen: as in find_product. ask_all: takes a size for each of
    these dims, and returns the size of the axis or None.
    """
    factors = {}
    for name, sizes in seen.items():
        (first, plain), *others = sizes.items()
        slopes = {divmod(size - plain, at - first) for at, size in others}
        if len(slopes) != 1 or (slope := slopes.pop())[1] or slope[0] < 1:
            return ""
        factors[name] = slope[0]
    firsts = {name: next(iter(sizes)) for name, sizes in seen.items()}
    offset = next(iter(next(iter(seen.values())).values()))
    offset -= sum(factor * firsts[name] for name, factor in factors.items())
    other = {name: list(sizes)[1] for name, sizes in seen.items()}
    if ask_all(other) != offset + sum(factor * other[name] for name, factor in factors.items()):
        return ""
    terms = " + ".join(name if factor == 1 else f"{factor} * {name}" for name, factor in factors.items())
    return f"{terms} {'+' if offset > 0 else '-'} {abs(offset)}" if offset else terms


def _find(name: str, rest: int, seen: Mapping[int, int], allowed: Sequence[int], ask: Ask) -> str:
    """Return how an axis divided by `rest` depends on a dim, or an empty string where no Affine fits."""
    candidates = _filter(_generate(), rest, seen)
    untried = [size for size in allowed if size not in seen]
    while len(candidates) > 1 and untried:
        # Ask for the size whose answer leaves the fewest candidates in the worst case.
        left = {}
        for size in untried:
            predictions = Counter(candidate.at(size) for candidate in candidates)
            left[size] = max(predictions.values())
        size = min(left, key=left.__getitem__)
        if left[size] == len(candidates):
            break
        untried.remove(size)
        answer = ask(name, size)
        if answer is not None:
            candidates = _filter(candidates, rest, {size: answer})
    simplest = min(
        candidates, key=lambda affine: (abs(affine.offset), affine.divisor, affine.factor), default=None
    )
    return simplest.format(name) if simplest else ""


def _generate() -> Iterator[Affine]:
    for offset in OFFSETS:
        yield from (Affine(1, offset, divisor) for divisor in DIVISORS)
        yield from (Affine(factor, offset, 1) for factor in FACTORS)


def _filter(candidates: Iterable[Affine], rest: int, seen: Mapping[int, int]) -> list[Affine]:
    """Return the candidates that predict every size of the axis, by the size of the dim."""
    return [
        candidate
        for candidate in candidates
        if all(candidate.at(dim_size) * rest == axis_size for dim_size, axis_size in seen.items())
    ]


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, in ascending order."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
