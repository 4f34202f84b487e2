"""What a user declares of their own module beside its inputs: `--declare causal=time`. Torch-free."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nnkit.contract.architecture import Architecture
from nnkit.contract.declarations import behavior_problem
from nnkit.contract.visible import brief
from nnkit.errors import UsageProblem, did_you_mean

WORDS = ("causal", "stochastic")
LISTS = ("padding", "permutation", "pointwise", "straight_through")
KEYS = (*WORDS, *LISTS, "tied", "constraint", "unsupported", "container")
EXAMPLES = (
    "causal=time", "padding=mask", "permutation=points", "pointwise=height,width", "stochastic=training",
    "straight_through=quantizer", "tied=embedding.weight,head.weight", 'constraint="past + time <= 64"',
    'unsupported.derivative="implicit gradient"', "container.cache=tuple",
)  # fmt: skip
IN_TEXT = (*WORDS, *LISTS, "tied", "constraints", "unsupported", "containers")
OWN_OPTIONS = (*IN_TEXT, "constants", "steps")
"""Fields of Architecture that are options in Python, for a module or code of the user's own."""
HINT = f"for example: --declare {EXAMPLES[0]}"


def declare(architecture: Architecture, texts: Sequence[str]) -> Architecture:
    """Return the architecture with declarations such as `causal=time` added.

    Raises UsageProblem for one that can't be read. Whether there is a dim `time` is for `check_own`.
    """
    values: dict[str, Any] = {}
    for text in texts:
        key, name, value = _read(text)
        parts = tuple(part.strip() for part in value.split(","))
        match key:
            case "causal" | "stochastic":
                if values.get(key, value) != value:
                    raise UsageProblem(f"{key} is declared twice", "leave one out")
                values[key] = value
            case "tied":
                values["tied"] = (*values.get("tied", ()), parts)
            case "constraint":
                values["constraints"] = (*values.get("constraints", ()), value)
            case "unsupported":
                values["unsupported"] = {**values.get("unsupported", {}), name: value}
            case "container":
                values["containers"] = {**values.get("containers", {}), name: value}
            case _:
                values[key] = (*values.get(key, ()), *parts)
    typed = architecture.typed and (*architecture.typed, *_words(texts))
    return replace(architecture, **values, typed=typed)


def _words(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield from ("--declare", text)


def _read(text: str) -> tuple[str, str, str]:
    """Return the key, what follows it behind a dot, and the value."""
    typed, equals, value = text.partition("=")
    key, dot, name = typed.strip().partition(".")
    key, value = key.replace("-", "_"), value.strip()
    if key not in KEYS:
        hint = did_you_mean(key, KEYS) or f"what can be declared: {', '.join(EXAMPLES)}"
        raise UsageProblem(f"can't declare {brief(key)}", hint)
    takes_name = key in ("unsupported", "container")
    if not equals or not value or takes_name != bool(dot and name):
        example = next(each for each in EXAMPLES if each.startswith(key))
        raise UsageProblem(f"can't read the declaration {brief(text)}", f"for example: --declare {example}")
    return key, name, value


def check_own(architecture: Architecture, reference: str) -> None:
    """Raise UsageProblem where something else is declared of a module than its inputs allow."""
    if problem := behavior_problem(architecture):
        raise UsageProblem(f"{reference}: {problem}", "correct --declare, or the inputs that it is about")


def own_declarations(architecture: Architecture) -> dict[str, Any]:
    """Return what a user has declared of a module beside its inputs, as options of Python.

    Containers and constants are left out: they come with example inputs.
    """
    names = (name for name in OWN_OPTIONS if name not in ("containers", "constants"))
    return {name: value for name in names if (value := getattr(architecture, name))}


def as_texts(declarations: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the same declarations as a user types them: values of `Architecture`, or text.

    {"causal": "time", "pointwise": ("height", "width")}   ->   causal=time, pointwise=height,width
    """
    return tuple(text for key, value in declarations.items() if value for text in _texts_of(key, value))


def _texts_of(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):  # unsupported, containers
        yield from (f"{key.removesuffix('s')}.{name}={each}" for name, each in value.items())
    elif isinstance(value, str):
        yield f"{key.removesuffix('s') if key == 'constraints' else key}={value}"
    elif key == "constraints":
        yield from (f"constraint={each}" for each in value)
    elif key == "tied" and not all(isinstance(each, str) for each in value):
        yield from (f"tied={','.join(group)}" for group in value)
    else:
        yield f"{key}={','.join(value)}"
