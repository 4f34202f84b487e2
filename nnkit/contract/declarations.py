"""Finds what is wrong with a declaration. Torch-free; imports msgspec, which `nnkit list` does without."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from nnkit.contract.api_version import CURRENT, PLUGIN_API
from nnkit.contract.architecture import NAME, VERBS, Architecture, Dim, Stochastic, TrainingStep, bounded
from nnkit.contract.axes import names_in_constraint
from nnkit.contract.config import REQUIRED, options_of, reserved_names
from nnkit.contract.declared_tensors import (
    container_problems,
    inputs_of,
    marks_padding,
    name_problems,
    optional_problems,
    outputs_of,
    shape_problems,
    value_problems,
)
from nnkit.contract.namespace import MEMBER
from nnkit.contract.settings import SETTINGS
from nnkit.errors import did_you_mean, first_line

RESERVED_PAGE = "docs/contract.md"


def inputs_problem(architecture: Architecture) -> str:
    """Return what is wrong with the inputs of a module of the user's own, or an empty string."""
    finders = (_bound_problems, shape_problems, value_problems)
    return next((problem for find in finders for problem in find(architecture)), "")


def behavior_problem(architecture: Architecture) -> str:
    """Return what is wrong with what is declared beside the inputs, or an empty string."""
    return next(_behavior_problems(architecture, CURRENT), "")


def declaration_problem(architecture: Architecture, api: str = PLUGIN_API) -> str:
    """Return what is wrong with a declaration, or an empty string.

    api: the version that its plugin states. What an earlier version let pass, and worked in part, still does.
    """
    return next(_problems(architecture, tuple(int(part) for part in api.split("."))), "")


def _problems(architecture: Architecture, api: tuple[int, ...]) -> Iterator[str]:
    if architecture.namespace and not MEMBER.fullmatch(architecture.name):
        yield "a name in a zoo has only letters, digits, '_', '-', '.' and '+'"
    if not architecture.namespace and not NAME.fullmatch(architecture.name):
        yield "a name is lower-case words joined by hyphens"
    yield from _option_problems(architecture, api)
    yield from _bound_problems(architecture)
    yield from shape_problems(architecture)
    if unknown_verbs := set(architecture.handlers) - set(VERBS):
        yield f"handlers has an unknown verb {unknown_verbs.pop()!r}; the verbs are {', '.join(VERBS)}"
    if api >= (1, 1):
        yield from name_problems(architecture)
        yield from value_problems(architecture)
    yield from optional_problems(architecture)
    yield from _behavior_problems(architecture, api)


def _behavior_problems(architecture: Architecture, api: tuple[int, ...]) -> Iterator[str]:
    yield from container_problems(architecture)
    yield from _text_problems(architecture)
    yield from _constraint_problems(architecture)
    yield from _invariance_problems(architecture, api)
    yield from _training_problems(architecture)


def _option_problems(architecture: Architecture, api: tuple[int, ...]) -> Iterator[str]:
    try:
        names = [option.name for option in options_of(architecture.config)]
    except Exception as error:
        yield f"{error}"
        return
    if api >= (1, 1) and (problem := _default_problem(architecture)):
        yield problem
    for name in [*names, *architecture.dims]:
        if name in reserved_names(api) and not (architecture.namespace and name == SETTINGS):
            hidden = f"the core option --{name.replace('_', '-')}"
            yield f"option {name!r} would hide {hidden}; rename it (reserved names: {RESERVED_PAGE})"
    if both := set(names) & set(architecture.dims):
        yield f"{both.pop()!r} is both a config field and a dim"
    for name, dim in architecture.dims.items():
        if not isinstance(dim, Dim):
            yield f"dims[{name!r}] is {dim!r}, not a Dim; write Dim(default=8), for example"
        if not name.isidentifier():
            yield f"dim {name!r}: a name is an identifier"


def _default_problem(architecture: Architecture) -> str:
    try:
        architecture.config()
    except Exception as error:  # from the author's own check
        return f"its config refuses its own defaults: {first_line(error)}"
    return ""


def _bound_problems(architecture: Architecture) -> Iterator[str]:
    """Yield the dims whose bounds follow anything but integer fields of the config, or allow no size."""
    numbers = _integer_fields(architecture)
    for name, dim in bounded(architecture.dims.items(), "dims"):
        for followed in sorted(dim.depends_on - numbers.keys()):
            near = did_you_mean(followed, numbers)
            why = "a dim; hold dims together by constraints" if followed in architecture.dims else ""
            why = why or f"no integer field of the config{near and f'; {near}'}"
            yield f"the bounds of dim {name!r} follow {followed!r}, which is {why}"
            return
        try:
            if REQUIRED not in numbers.values():
                dim.resolve(numbers)
        except ValueError as error:
            yield f"dim {name!r} has no size under the default config: {error}"


def _integer_fields(architecture: Architecture) -> dict[str, Any]:
    """Return the integer fields of the config, with their defaults."""
    return {
        option.name: option.default
        for option in options_of(architecture.config)
        if type(option.default) is int or (option.default is REQUIRED and option.kind.startswith("integer"))
    }


def _text_problems(architecture: Architecture) -> Iterator[str]:
    """Yield the fields that are one text where several are meant: a type checker lets that pass."""
    for field in ("constraints", "padding", "permutation", "pointwise", "tied", "straight_through"):
        value = getattr(architecture, field)
        if isinstance(value, str) or not isinstance(value, Sequence):
            yield f"{field} is {value!r}; it is a tuple, as in {field}=({_example_of(value)},)"
        elif field != "tied" and (other := [each for each in value if not isinstance(each, str)]):
            yield f"{field} has {other[0]!r}, which is not text"


def _example_of(value: object) -> str:
    return repr(value) if isinstance(value, str) else '"…"'


def _constraint_problems(architecture: Architecture) -> Iterator[str]:
    known = {*architecture.dims, *_integer_fields(architecture)}
    for constraint in bounded(architecture.constraints, "constraints"):
        try:
            names = names_in_constraint(constraint)
        except ValueError as error:
            yield f"constraint {constraint!r}: {error}"
            return
        if not names & set(architecture.dims):
            yield f"constraint {constraint!r} names no dim"
        for name in sorted(names - known):
            near = did_you_mean(name, known)
            yield (
                f"constraint {constraint!r} names {name!r}, which is neither a dim nor an integer field of "
                f"the config{near and f'; {near}'}"
            )


def _invariance_problems(architecture: Architecture, api: tuple[int, ...]) -> Iterator[str]:
    dims = architecture.dims
    named = {"permutation": architecture.permutation, "pointwise": architecture.pointwise}
    if architecture.causal and api >= (1, 1):
        named["causal"] = (architecture.causal,)
    for field, names in named.items():
        for name in names:
            if name not in dims:
                yield f"{field} names {name!r}, which is no dim; {_offer(name, dims)}"
    inputs = {tensor.name: tensor for tensor in inputs_of(architecture)}
    for name in () if callable(architecture.inputs) else architecture.padding:
        if name not in inputs:
            yield f"padding names {name!r}, which is no input; {_offer(name, inputs)}"
        elif not marks_padding(inputs[name]):
            yield (
                f"padding names {name!r}, which doesn't show where padding is: "
                "draw it as keep, prefix, suffix or lengths, or give it a padding value"
            )
    if architecture.stochastic not in get_args(Stochastic):
        yield f"stochastic is {architecture.stochastic!r}; it is 'training', 'always', or left out"


def _training_problems(architecture: Architecture) -> Iterator[str]:
    for group in architecture.tied:
        if isinstance(group, str) or len(group) < 2 or not all(isinstance(each, str) for each in group):
            yield f'tied has {group!r}, not a group of names: tied=[("embedding.weight", "head.weight")]'
    if not isinstance(architecture.steps, Mapping):
        yield "steps is not a dict of names and TrainingSteps"
        return
    outputs = [tensor.name for tensor in outputs_of(architecture)]
    for name, step in architecture.steps.items():
        if not isinstance(step, TrainingStep):
            yield f"steps[{name!r}] is {step!r}, not a TrainingStep"
            return
        for part in ("outputs", "trains"):
            value = getattr(step, part)
            if isinstance(value, str) or not value:
                example = f"{part}=({_example_of(value)},)"
                yield f"{part} of step {name!r} is {value!r}; it is a tuple, as in {example}"
                return
        unknown = [each for each in step.outputs if each not in outputs]
        if unknown and not callable(architecture.outputs):
            yield f"step {name!r} names {unknown[0]!r}, which is no output; {_offer(unknown[0], outputs)}"


def _offer(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    return did_you_mean(name, known) or f"there is {', '.join(known) or 'none'}"
