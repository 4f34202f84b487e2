"""What a user types after `--input` -> tensor specs and dims. Torch-free.

x: float32[batch, 3, height=64 min=32 multiple_of=32]
tokens: int64[batch, time] < 32000
lengths: int64[batch] in 1..time
"""

import re
from collections.abc import Sequence

from nnkit.contract.architecture import Dim, TensorSpec
from nnkit.contract.visible import brief
from nnkit.errors import UsageProblem

LARGEST = 2**63 - 1
INPUT = re.compile(
    r"\s*(?P<name>[A-Za-z_]\w*)\s*:\s*(?P<dtype>\w+)\s*\[(?P<axes>[^\]]*)\]\s*"
    r"(<\s*(?P<limit>\w+)\s*|in\s+(?P<least>-?\d+)\s*\.\.\s*(?P<most>\w+)\s*)?"
)
AXIS = re.compile(r"(?P<name>[A-Za-z]\w*)(=(?P<size>\d+))?(?P<bounds>(\s+(min|max|multiple_of)=\d+)*)")
BOUND = re.compile(r"(min|max|multiple_of)=(\d+)")
HINT = 'for example: --input "x: float32[batch, 3, 224, 224]"'
BOUNDS_HINT = 'for example: --input "ids: int64[batch, time] < 100", or "lengths: int64[batch] in 1..time"'


def parse_inputs(texts: Sequence[str]) -> tuple[tuple[TensorSpec, ...], dict[str, Dim]]:
    """Read declarations like `x: float32[batch, 3, time=32]` into tensor specs and dims.

    A dim may state its default size and which sizes it takes: `height=64 min=32 multiple_of=32`.
    Integers may state an upper bound, a number or a dim (`tokens: int64[batch, time] < 32000`), or a range
    (`lengths: int64[batch] in 1..time`); then one of them is the largest.
    Raises UsageProblem for invalid declarations.
    """
    specs: dict[str, TensorSpec] = {}
    dims: dict[str, Dim] = {}
    for text in texts:
        match = INPUT.fullmatch(text)
        if match is None:
            raise UsageProblem(f"can't read the input {brief(text)}", HINT)
        if match["name"] in specs:
            raise UsageProblem(f"the input {match['name']!r} is declared twice", "leave one out")
        shape = tuple(_axis(axis, text, dims) for axis in map(str.strip, match["axes"].split(",")) if axis)
        specs[match["name"]] = _tensor(match, shape, text)
    return tuple(specs.values()), dims


def sized_axes(texts: Sequence[str]) -> set[str]:
    """Return the names of axes with a size or bounds: `time` of `x: float32[batch, time=32]`."""
    axes = (axis for text in texts for axis in AXIS.finditer(text.partition("[")[2]))
    return {axis["name"] for axis in axes if axis["size"] or axis["bounds"]}


def _axis(axis: str, text: str, dims: dict[str, Dim]) -> int | str:
    """Return an axis as a shape has it; the dim that it names is added to `dims`."""
    if axis.isdecimal():
        return _integer(axis, text)
    named = AXIS.fullmatch(axis)
    if named is None:
        raise UsageProblem(f"can't read the axis {brief(axis)} in {brief(text)}", HINT)
    name = named["name"]
    dim = _dim(name, named["size"], named["bounds"], text)
    if name in dims and (named["size"] or named["bounds"]) and dims[name] != dim:
        raise UsageProblem(f"{name} is declared twice, the second time in {brief(text)}", "declare it once")
    dims.setdefault(name, dim)
    return name


def _dim(name: str, size: str | None, bounds: str, text: str) -> Dim:
    """Return a declared dim. Its default is the smallest valid size: from 1 for `batch`, else from 8."""
    given = {key: _integer(value, text) for key, value in BOUND.findall(bounds)}
    step, least = given.get("multiple_of", 1), given.get("min", 1)
    usual = 1 if name == "batch" else 8
    try:
        default = _integer(size, text) if size else max(-(-max(usual, least) // step) * step, least)
        return Dim(default=default, min=least, max=given.get("max"), multiple_of=step)
    except ValueError as error:
        raise UsageProblem(f"{name} in {brief(text)}: {error}", HINT) from error
    except ZeroDivisionError as error:
        raise UsageProblem(f"{name} in {brief(text)}: multiple_of must be at least 1, got 0", HINT) from error


def _tensor(match: re.Match[str], shape: tuple[int | str, ...], text: str) -> TensorSpec:
    name, dtype = match["name"], match["dtype"]
    if limit := match["limit"]:
        return TensorSpec(name, shape, dtype, "index", _bound(limit, text))
    if most := match["most"]:
        least = _integer(match["least"], text)
        return TensorSpec(name, shape, dtype, "lengths", _bound(most, text), least=least)
    return TensorSpec(name, shape, dtype, _sampling_of(dtype))


def _sampling_of(dtype: str) -> str:
    if dtype.startswith(("float", "bfloat", "complex")):
        return "normal"
    # What the integers index is unknown, and 0 is the one index that every table has.
    return "mask" if dtype == "bool" else "zeros"


def _bound(word: str, text: str) -> int | str:
    if word.isdecimal():
        return _integer(word, text)
    if word.isidentifier():
        return word
    raise UsageProblem(f"can't read the bound {brief(word)} in {brief(text)}", BOUNDS_HINT)


def _integer(digits: str, text: str) -> int:
    number = int(digits) if len(digits) <= len(str(LARGEST)) else LARGEST + 1
    if number > LARGEST:
        raise UsageProblem(f"{brief(digits)} in {brief(text)} is too large", f"the largest is {LARGEST:,}")
    return number
