"""What a user declares of a module's inputs -> tensor specs, dims and constants. Torch-free.

x: float32[batch, 3, height=64 min=32 multiple_of=2**levels]
tokens: int64[batch, time] < 32000 padding 0
mask: bool[batch, past + time] prefix mask of past + time ?
cache.0.key: float32[batch, 8, past, 64] = none
train = false
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnkit.contract.architecture import Dim, TensorSpec
from nnkit.contract.axes import names_in
from nnkit.contract.signature import prefixes_of
from nnkit.contract.visible import brief
from nnkit.errors import UsageProblem, did_you_mean

LARGEST = 2**63 - 1
NAME = r"[A-Za-z_]\w*(\.\w+)*"
TENSOR = re.compile(
    rf"\s*(?P<name>{NAME})\s*:\s*(?P<dtype>\w+)\s*\[(?P<axes>[^\]]*)\](?P<values>.*?)"
    r"(?P<optional>\?|=\s*none)?\s*",
    re.DOTALL,
)
CONSTANT = re.compile(rf"\s*(?P<name>{NAME})\s*=\s*(?P<value>.*\S)\s*", re.DOTALL)
BOUNDS = ("min", "max", "multiple_of")
AXIS = re.compile(r"(?P<name>[A-Za-z]\w*)(=(?P<size>[^\s=]+))?(?P<bounds>(\s+\w+=[^\s=]+)*)")
KINDS = (
    "normal", "uniform", "positive", "unit", "angles", "zeros", "sorted", "mask", "keep", "adjacency",
)  # fmt: skip
MARKS = {"lengths": "lengths", "prefix mask": "prefix", "padding mask": "suffix"}
SIZE = r"\w+|\([^)]*\)"
CLAUSE = re.compile(
    r"(?P<mark>lengths|(prefix|padding)\s+mask)\s+of\s+(?P<of>[^<?=]+)"
    rf"|<\s*(?P<limit>{SIZE})"
    rf"|in\s+(?P<least>-?\d+)\s*\.\.\s*(?P<most>{SIZE})"
    r"|padding\s+(?P<padding>-?\d+)"
    rf"|(?P<kind>{'|'.join(KINDS)})\b"
)
WORDS = ("in", "padding", "prefix", "lengths", *KINDS)

HINT = 'for example: --input "x: float32[batch, 3, 224, 224]"'
AXES_HINT = 'for example: "x: float32[batch, 3, height=64 min=32 multiple_of=32, past + time]"'
VALUES_HINT = (
    'for example: "ids: int64[batch, time] < 100 padding 0", "lengths: int64[batch] in 1..time", '
    '"mask: bool[batch, time] prefix mask of time ?"'
)
CONSTANT_HINT = 'write true, false, none, a number or "text"; a tensor is declared as x: float32[batch, 8]'


@dataclass(frozen=True)
class DeclaredInputs:
    """What was declared.

    tensors: in order. dims: those that the axes name. sized: the dims that were given a size or bounds.
    constants: the arguments that are no tensors, by dotted name.
    """

    tensors: tuple[TensorSpec, ...] = ()
    dims: Mapping[str, Dim] = field(default_factory=dict)
    sized: frozenset[str] = frozenset()
    constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of tensors and constants."""
        return (*(tensor.name for tensor in self.tensors), *self.constants)


def parse_inputs(texts: Sequence[str]) -> DeclaredInputs:
    """Read declarations like `x: float32[batch, 3, time=32]` and `train = false`.

    Dotted names are for tensors in dicts, lists and tuples: `cache.0.key`. An axis is a size, a dim, or
    arithmetic of dims and options (`past + time`). A dim may state its default size and which sizes it takes:
    `height=64 min=32 multiple_of=2**levels`. What follows the axes says how values are drawn:

        < 1000, < vocabulary     integers from 0 to below a number, a dim or an option
        in 1..time               integers of this range, one of them the largest
        padding 0                after `<`: the integer that fills what lies behind the end of a sequence
        lengths of time          the lengths of sequences, at least 1
        prefix mask of time      true up to the end of each sequence; `padding mask of time`: true behind it
        sorted                   ascending along the last axis
        positive, unit, angles   numbers above 0, vectors of length 1, from -π to π; also uniform, zeros, keep

    A `?` at the end means that the input may be left out, `= none` that it is, unless it is asked for.
    Raises UsageProblem for invalid declarations.
    """
    tensors: list[TensorSpec] = []
    dims: dict[str, Dim] = {}
    sized: set[str] = set()
    constants: dict[str, Any] = {}
    for text in texts:
        if match := TENSOR.fullmatch(text):
            axes = [axis for axis in map(str.strip, match["axes"].split(",")) if axis]
            shape = tuple(_axis(axis, text, dims, sized) for axis in axes)
            tensors.append(_tensor(match, shape, text))
        elif match := CONSTANT.fullmatch(text):
            constants[match["name"]] = _constant(match["value"], text)
        else:
            raise UsageProblem(f"can't read the input {brief(text)}", HINT)
        _refuse_clash(match["name"], [tensor.name for tensor in tensors], constants)
    return DeclaredInputs(tuple(tensors), dims, frozenset(sized), constants)


def _refuse_clash(name: str, tensors: Sequence[str], constants: Mapping[str, Any]) -> None:
    others = [*tensors, *constants]
    others.remove(name)
    if name in others:
        raise UsageProblem(f"the input {name!r} is declared twice", "leave one out")
    for other in others:
        short, long = sorted((name, other), key=len)
        if short in prefixes_of(long):
            raise UsageProblem(f"the input {short!r} can't be a value and hold {long!r}", "leave one out")


def _axis(axis: str, text: str, dims: dict[str, Dim], sized: set[str]) -> int | str:
    """Return an axis as a shape has it; the dim that it names is added to `dims`."""
    if axis.isdecimal():
        return _integer(axis, text)
    named = AXIS.fullmatch(axis)
    if named is None:
        return _arithmetic(axis, text, "the axis")
    name = named["name"]
    dim = _dim(name, named["size"], named["bounds"].split(), text)
    if named["size"] or named["bounds"]:
        if name in sized and dims[name] != dim:
            raise UsageProblem(
                f"{name} is declared twice, the second time in {brief(text)}", "declare it once"
            )
        sized.add(name)
        dims[name] = dim
    dims.setdefault(name, dim)
    return name


def _dim(name: str, size: str | None, bounds: Sequence[str], text: str) -> Dim:
    """Return a declared dim. Its default is the smallest valid size: from 1 for `batch`, else from 8."""
    given: dict[str, int | str] = {}
    for key, _, value in (bound.partition("=") for bound in bounds):
        if key not in BOUNDS:
            near = did_you_mean(key, BOUNDS) or f"a dim has {', '.join(BOUNDS)}"
            raise UsageProblem(f"{name} has an unknown bound {key!r} in {brief(text)}", near)
        given[key] = _size(value, text, f"{key} of {name}")
    step, least = given.get("multiple_of", 1), given.get("min", 1)
    usual = 1 if name == "batch" else 8
    if step == 0:
        raise UsageProblem(f"{name} in {brief(text)}: multiple_of must be at least 1, got 0", AXES_HINT)
    if size:
        default = _size(size, text, f"the size of {name}")
    elif isinstance(step, int) and isinstance(least, int):
        default = max(-(-max(usual, least) // step) * step, least)
    else:
        default = usual
    try:
        return Dim(default=default, min=least, max=given.get("max"), multiple_of=step)
    except ValueError as error:
        raise UsageProblem(f"{name} in {brief(text)}: {error}", AXES_HINT) from error


def _tensor(match: re.Match[str], shape: tuple[int | str, ...], text: str) -> TensorSpec:
    values = _values(match["values"], text)
    optional, dtype = match["optional"], match["dtype"]
    sample = values.pop("sample", None) or usual_sample(dtype)
    return TensorSpec(
        match["name"],
        shape,
        dtype,
        sample,
        optional=optional is not None,
        given=optional in (None, "?"),
        **values,
    )


def _values(clauses: str, text: str) -> dict[str, Any]:
    """Return the fields of a TensorSpec that say how its values are drawn."""
    found: dict[str, str] = {}
    rest = clauses.strip()
    while rest:
        clause = CLAUSE.match(rest)
        if clause is None:
            first = rest.split()[0]
            near = "" if first in WORDS else did_you_mean(first, WORDS)
            raise UsageProblem(f"can't read the values {brief(rest)} in {brief(text)}", near or VALUES_HINT)
        given = {key: value for key, value in clause.groupdict().items() if value is not None}
        if twice := sorted(given.keys() & found.keys()):
            raise UsageProblem(
                f"two values are declared in {brief(text)}: {brief(given[twice[0]])}", VALUES_HINT
            )
        found |= given
        rest = rest[clause.end() :].strip()
    return _fields_of(found, text)


def _fields_of(found: Mapping[str, str], text: str) -> dict[str, Any]:
    ways = [key for key in ("mark", "most", "limit", "kind") if key in found]
    is_sorted = found.get("kind") == "sorted"
    if len(ways) > 1 and not (is_sorted and ways == ["limit", "kind"]):
        raise UsageProblem(f"the values in {brief(text)} are declared in two ways", VALUES_HINT)
    if "padding" in found and "limit" not in found:
        raise UsageProblem(f"padding in {brief(text)} needs a limit for the other values", VALUES_HINT)
    padding = {"padding": int(found["padding"])} if "padding" in found else {}
    match ways:
        case ["mark"]:
            sample = MARKS[" ".join(found["mark"].split())]
            return {"sample": sample, "index_of": _size(found["of"].strip(), text, found["mark"])}
        case ["most"]:
            most = _size(found["most"], text, "the range")
            return {"sample": "lengths", "index_of": most, "least": _integer(found["least"], text)}
        case ["limit", *_]:
            limit = _size(found["limit"], text, "the limit")
            return {"sample": "sorted" if is_sorted else "index", "index_of": limit, **padding}
        case ["kind"]:
            return {"sample": found["kind"]}
    return {}


def usual_sample(dtype: str) -> str:
    """Return how values of a dtype are drawn if nothing is declared of them."""
    if dtype.startswith(("float", "bfloat", "complex")):
        return "normal"
    # What the integers index is unknown, and 0 is the one index that every table has.
    return "mask" if dtype == "bool" else "zeros"


def _constant(value: str, text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return words[value.lower()]
    try:
        constant = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        constant = ...
    if not _is_plain(constant):
        raise UsageProblem(f"can't read the value {brief(value)} in {brief(text)}", CONSTANT_HINT)
    return constant


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _size(word: str, text: str, what: str) -> int | str:
    """Return a size: a number, a name, or arithmetic of both."""
    return _integer(word, text) if word.isdecimal() else _arithmetic(word, text, what)


def _arithmetic(expression: str, text: str, what: str) -> str:
    try:
        names_in(expression)
    except ValueError as error:
        raise UsageProblem(f"can't read {what} {brief(expression)} in {brief(text)}", AXES_HINT) from error
    return expression


def _integer(digits: str, text: str) -> int:
    number = int(digits) if len(digits) <= len(str(LARGEST)) else LARGEST + 1
    if number > LARGEST:
        raise UsageProblem(f"{brief(digits)} in {brief(text)} is too large", f"the largest is {LARGEST:,}")
    return number
