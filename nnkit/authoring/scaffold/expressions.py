"""How an axis follows a dim, found by asking for its size at few sizes of the dim. Torch-free."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

DIVISORS, OFFSETS, FACTORS = range(1, 65), range(-128, 129), range(2, 17)

Ask: TypeAlias = Callable[[str, int], int | None]
"""Returns the size of an axis at another size of a dim, by its name; None where the model can't take it."""


@dataclass(frozen=True)
class Affine:
    """`(factor * size + offset) // divisor`: what convolutions, pooling and upsampling make of an axis."""

    factor: int = 1
    offset: int = 0
    divisor: int = 1

    def at(self, size: int) -> int:
        """Return what it makes of a size."""
        return (self.factor * size + self.offset) // self.divisor

    def named(self, name: str) -> str:
        """Return it as an expression."""
        text = name if self.factor == 1 else f"{self.factor} * {name}"
        if self.offset:
            text += f" {'+' if self.offset > 0 else '-'} {abs(self.offset)}"
        if self.divisor == 1:
            return text
        return f"{f'({text})' if ' ' in text else text} // {self.divisor}"


def find_product(
    seen: Mapping[str, Mapping[int, int]], allowed: Mapping[str, Sequence[int]], ask: Ask
) -> str:
    """Return how an axis follows the dims that move it, a factor for each, or an empty string.

    seen: for each dim, its size at some sizes of that dim; first at the size which that dim has while the
    others move. allowed: the sizes of each dim that `ask` may be called with.
    """
    plain = next(iter(next(iter(seen.values())).values()))
    # What an axis is beside the factor of one dim divides all that it is while this dim moves.
    for rests in itertools.product(*(divisors(math.gcd(*each.values())) for each in seen.values())):
        if math.prod(plain // rest for rest in rests) != plain:
            continue
        factors = [
            _find(name, rest, sizes, allowed[name], ask)
            for rest, (name, sizes) in zip(rests, seen.items(), strict=True)
        ]
        if len(factors) == 1:
            return factors[0]
        if all(factors):
            return " * ".join(f"({each})" if " " in each else each for each in factors)
    return ""


def _find(name: str, rest: int, seen: Mapping[int, int], allowed: Sequence[int], ask: Ask) -> str:
    """Return how an axis divided by `rest` follows a dim, or an empty string where no Affine does."""
    candidates = _fitting(_every(), rest, seen)
    open_questions = [size for size in allowed if size not in seen]
    while len(candidates) > 1 and open_questions:
        # The size whose answer leaves the fewest, however it turns out.
        left = {size: max(Counter(each.at(size) for each in candidates).values()) for size in open_questions}
        size = min(left, key=left.__getitem__)
        if left[size] == len(candidates):
            break
        open_questions.remove(size)
        answer = ask(name, size)
        if answer is not None:
            candidates = _fitting(candidates, rest, {size: answer})
    simplest = min(candidates, key=lambda each: (abs(each.offset), each.divisor, each.factor), default=None)
    return simplest.named(name) if simplest else ""


def _every() -> Iterator[Affine]:
    for offset in OFFSETS:
        yield from (Affine(1, offset, divisor) for divisor in DIVISORS)
        yield from (Affine(factor, offset, 1) for factor in FACTORS)


def _fitting(candidates: Iterable[Affine], rest: int, seen: Mapping[int, int]) -> list[Affine]:
    return [each for each in candidates if all(each.at(size) * rest == found for size, found in seen.items())]


def divisors(number: int) -> list[int]:
    """Return what divides a number, in order."""
    return [each for each in range(1, number + 1) if number % each == 0]
