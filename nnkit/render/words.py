"""Numbers, shapes and sizes as people read them."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from nnkit.contract.spec import AS_BUILT, ModelSpec

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def count(number: int) -> str:
    """Return `11,689,512`."""
    return f"{number:,}"


def counted(number: int, thing: str) -> str:
    """Return `1 dim`, `2 dims`."""
    return f"{number} {thing}{'s'[: number != 1]}"


def size(number: int) -> str:
    """Return bytes as `44.6 MiB`."""
    amount, unit = float(number), 0
    while amount >= 1024 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{number} B" if unit == 0 else f"{amount:.1f} {UNITS[unit]}"


def shape(axes: Sequence[int | str]) -> str:
    """Return `64×8×8`; a scalar is `1`."""
    return "×".join(map(str, axes)) or "1"


def shapes(several: Sequence[Sequence[int]]) -> str:
    """Return `64×8×8, 10`."""
    return ", ".join(map(shape, several))


def gathered(several: Sequence[str]) -> str:
    """Return `1×128, 28 of 1×64`: the same one after another is told once."""
    told = []
    for text, same in groupby(several):
        times = len(list(same))
        told += [f"{times} of {text}"] if times > 2 else [text] * times
    return ", ".join(told)


def sizes(assignment: Mapping[str, int]) -> str:
    """Return `nodes=7 edges=0`."""
    return " ".join(f"{name}={value}" for name, value in assignment.items()) or "no dims"


def dtypes(spec: ModelSpec, elements: Mapping[str, int]) -> str:
    """Return `float32`, or of a mixed model `bfloat16 4,160 · float32 64`.

    elements: of its parameters, by dtype. Of a model without any, what was asked for, if anything was.
    """
    if not elements:
        return "" if spec.dtype == AS_BUILT else spec.dtype
    if len(elements) == 1:
        return next(iter(elements))
    return " · ".join(f"{dtype} {number:,}" for dtype, number in elements.items())


def percent(share: float) -> str:
    """Return a share as `99.9 %`, rounded down, so that 100 % is all."""
    return f"{int(share * 1000) / 10:g} %"
