"""Finds what is wrong with the inputs, outputs and constants that a plugin declares. Torch-free.

Tensors that depend on the config are not checked here: that would run a plugin's function to list its name.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from nnkit.contract.architecture import OF_NUMBERS, SAMPLES, Architecture, TensorSpec, bounded
from nnkit.contract.axes import names_in
from nnkit.contract.config import options_of
from nnkit.contract.signature import CONTAINERS, Container, prefixes_of
from nnkit.errors import did_you_mean

ALONG_A_DIM = ("lengths", "prefix", "suffix")
MARKS = (*ALONG_A_DIM, "keep")


def inputs_of(architecture: Architecture) -> Sequence[TensorSpec]:
    """Return the inputs, or none if they depend on the config."""
    return () if callable(architecture.inputs) else bounded(architecture.inputs, "inputs")


def outputs_of(architecture: Architecture) -> Sequence[TensorSpec]:
    """Return the outputs, or none if they depend on the config."""
    return () if callable(architecture.outputs) else bounded(architecture.outputs, "outputs")


def shape_problems(architecture: Architecture) -> Iterator[str]:
    """Yield what is wrong with the shapes."""
    known = {
        *(option.name for option in options_of(architecture.config)),
        *bounded(architecture.dims, "dims"),
    }
    tensors = [*inputs_of(architecture), *outputs_of(architecture)]
    for tensor in tensors:
        for axis in bounded(tensor.shape, "a shape"):
            if problem := _arithmetic_problem(axis, known):
                yield f"a shape names {problem}"
    if not callable(architecture.inputs):
        yield from _underivable(architecture)
    for tensor in tensors:
        if tensor.index_of is not None and (problem := _arithmetic_problem(tensor.index_of, known)):
            yield f"index_of of {tensor.name!r} names {problem}"


def _arithmetic_problem(axis: int | str, known: set[str]) -> str:
    if type(axis) is not int and not isinstance(axis, str):
        return f"{axis!r}: a size is an integer, a name, or arithmetic of both as text"
    if type(axis) is int and axis < 0:
        return f"{axis}: no size is negative"
    try:
        unknown = sorted(names_in(axis) - known)
    except ValueError as error:
        return f"{axis!r}: {error}"
    return f"{unknown[0]!r}, which is neither a dim nor a config field" if unknown else ""


def _underivable(architecture: Architecture) -> Iterator[str]:
    """Yield the dims that appear only in arithmetic: of `past + time` alone, neither size can be read."""
    axes = [axis for tensor in inputs_of(architecture) for axis in tensor.shape]
    for axis in axes:
        for name in sorted(names_in(axis)):
            if name in architecture.dims and name not in axes:
                yield (
                    f"the shape of an input names {axis!r}, but no input has {name!r} as an axis of its own, "
                    "which shows its size"
                )


def name_problems(architecture: Architecture) -> Iterator[str]:
    """Yield what is wrong with the names of inputs, outputs and constants."""
    inputs = [tensor.name for tensor in inputs_of(architecture)]
    outputs = [tensor.name for tensor in outputs_of(architecture)]
    constants = () if callable(architecture.constants) else architecture.constants
    if not callable(architecture.constants) and not isinstance(architecture.constants, Mapping):
        yield "constants is not a dict of names and values"
        return
    for kind, group in (("input", inputs), ("output", outputs), ("constant", constants)):
        for name in group:
            if not _is_dotted(name):
                yield f"{kind} {name!r}: a name is an identifier; parts of it are joined by dots: cache.0.key"
    for kind, names in (("input", [*inputs, *constants]), ("output", outputs)):
        yield from _clashes(kind, names)
    for name in sorted(set(inputs) & set(outputs)):
        yield f"{name!r} is both an input and an output; give the output a name of its own"


def _is_dotted(name: object) -> bool:
    if not isinstance(name, str):
        return False
    first, *others = name.split(".")
    return first.isidentifier() and all(part.isidentifier() or part.isdecimal() for part in others)


def _clashes(kind: str, names: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield f"{kind} {name!r} is declared twice"
        seen.add(name)
    for name in names:
        for holder in list(prefixes_of(name))[:-1]:
            if holder in seen:
                yield f"{kind} {holder!r} can't be a value and hold {name!r}"


def value_problems(architecture: Architecture) -> Iterator[str]:
    """Yield what is wrong with how values are drawn."""
    for tensor in inputs_of(architecture):
        for find in (_sample_problem, _mark_problem):
            if problem := find(tensor):
                yield f"input {tensor.name!r} {problem}"


def _sample_problem(tensor: TensorSpec) -> str:
    sample = tensor.sample
    if callable(sample) or (isinstance(sample, str) and ":" in sample):
        return ""
    if sample not in SAMPLES:
        near = did_you_mean(str(sample), SAMPLES) or f"the ways are {', '.join(SAMPLES)}, or module:function"
        return f"is drawn in the unknown way {sample!r}; {near}"
    is_sorted_numbers = sample == "sorted" and "int" not in tensor.dtype
    if sample in ("index", "sorted", *ALONG_A_DIM) and tensor.index_of is None and not is_sorted_numbers:
        return f"is drawn as {sample}, but doesn't say of what: set index_of to a dim, a field or a number"
    return ""


def _mark_problem(tensor: TensorSpec) -> str:
    if tensor.sample in ("prefix", "suffix") and tensor.index_of not in tensor.shape:
        return f"is a {tensor.sample} mask along {tensor.index_of!r}, which is not one of its axes"
    if tensor.padding is None:
        return ""
    if type(tensor.padding) is not int or "int" not in tensor.dtype:
        return f"has padding {tensor.padding!r}; only integers are padded, by one of them"
    if tensor.sample in (*MARKS, "mask", "adjacency", *OF_NUMBERS[:-1]) or not tensor.shape:
        return "has a padding value; only integers that are drawn as index, sorted or zeros have an end"
    return ""


def optional_problems(architecture: Architecture) -> Iterator[str]:
    """Yield what is wrong with what may be left out."""
    for tensor in inputs_of(architecture):
        if not tensor.given and not tensor.optional:
            yield f"input {tensor.name!r} is not given (given=False), but it isn't optional"
    for tensor in outputs_of(architecture):
        if tensor.optional or not tensor.given:
            yield (
                f"output {tensor.name!r} is optional; outputs follow the config: "
                "make outputs a function that leaves it out"
            )


def container_problems(architecture: Architecture) -> Iterator[str]:
    """Yield what is wrong with the containers of dotted names."""
    if not isinstance(architecture.containers, Mapping):
        yield "containers is not a dict of paths and containers"
        return
    for path, container in architecture.containers.items():
        if not _is_container(container):
            kinds = f"{', '.join(CONTAINERS)}, 'module:Class' or a class"
            yield f"containers[{path!r}] is {container!r}; it is {kinds}"
    if callable(architecture.inputs) or callable(architecture.constants):
        return
    names = [*(tensor.name for tensor in inputs_of(architecture)), *architecture.constants]
    holders = {holder for name in names for holder in list(prefixes_of(name))[:-1]}
    for path in architecture.containers:
        if not any(fnmatchcase(holder, path) for holder in holders):
            yield f"containers names {path!r}, which holds no input"


def _is_container(container: Container) -> bool:
    if isinstance(container, str):
        return container in CONTAINERS or ":" in container
    return isinstance(container, type)


def marks_padding(tensor: TensorSpec) -> bool:
    """Whether a tensor can show what is padding: a mask, lengths, or integers with a padding value."""
    return tensor.sample in MARKS or tensor.padding is not None
