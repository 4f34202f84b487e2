"""The options of an architecture: typed by a user -> a config, and back. Torch-free.

A config is a frozen, keyword-only dataclass whose fields carry their bounds and description:
`Annotated[int, Meta(ge=1, description="…")]`. msgspec validates and converts.
"""

import functools
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

from nnkit.contract.settings import SETTINGS, settings_text
from nnkit.contract.visible import brief
from nnkit.errors import UsageProblem, did_you_mean

RESERVED_SINCE = {
    (1, 0): "against all all_formats batch_max check color columns compile contents csv depth device dtype "
    "executor exit_code external_data fix float32_io force format fsdp full functional google_benchmark help "
    "input input_names jobs json junit left max_shard_size memory memory_limit meta nproc only onnx opset "
    "optimize optimizer output output_names parallel preset pt2 quiet results right rounds safetensors seed "
    "set shard simulate spec static stats strict threads time_limit training unfold verbose verify version "
    "weights",
    (1, 1): "constants declare direction heat key model open strip_prefix with without",
}
"""Names of core options, present and planned, by the version of the API that reserved them.

A config field or dim of that name would hide one. It is refused for a plugin of that version or a later one;
for an earlier plugin its own option keeps the name, and core's is typed `--core-NAME`.
"""

RESERVED = frozenset(name for names in RESERVED_SINCE.values() for name in names.split())


def reserved_names(api: tuple[int, ...]) -> frozenset[str]:
    """Return the names that a plugin of this version of the API may not give its options."""
    return frozenset(
        name for since, names in RESERVED_SINCE.items() if since <= api for name in names.split()
    )


REQUIRED = msgspec.UNSET
"""The default of a config field that has to be given."""


@dataclass(frozen=True)
class Option:
    """One field of a config as a user sees it.

    Attributes:
        name: The name of the field.
        kind: The values it takes, as the help text shows them: `integer >= 1`, `tanh|relu`, `flag`.
        default: Its default value.
        description: What it does.
        choices: The possible values, if they are few.
        optional: Whether it may be None.
        required: Whether it has no default, as only parameters of a user's own class may.
    """

    name: str
    kind: str
    default: Any
    description: str
    choices: tuple[str, ...] = ()
    optional: bool = False
    required: bool = False

    @property
    def is_flag(self) -> bool:
        """Whether the field is a yes or no."""
        return self.kind == "flag"

    @property
    def flag(self) -> str:
        """The option as typed: `--num-classes`."""
        return "--" + self.name.replace("_", "-")


def options_of(config_type: type) -> tuple[Option, ...]:
    """Return the options of a config type, in the order of its fields.

    The default of a required option is REQUIRED. Raises TypeError if it isn't a dataclass whose fields all
    have defaults.
    """
    return _options_of(config_type)


@functools.lru_cache(maxsize=256)  # each check of a smoke-run asks twice, for the command that repeats it
def _options_of(config_type: type) -> tuple[Option, ...]:
    if not is_dataclass(config_type):
        raise TypeError(f"config {config_type.__name__} is not a dataclass")
    info = inspect.type_info(config_type)
    if not isinstance(info, inspect.DataclassType):
        raise TypeError(f"config {config_type.__name__} is not a dataclass")
    return tuple(_option(field, config_type) for field in info.fields)


def _option(field: inspect.Field, config_type: type) -> Option:
    if field.required:
        raise TypeError(f"field {field.name} of {config_type.__name__} has no default")
    required = field.default is field.default_factory is msgspec.NODEFAULT  # so it reads REQUIRED
    default = REQUIRED if required else field.default
    if default is msgspec.NODEFAULT:
        default = field.default_factory()
    description, kind = "", field.type
    if isinstance(kind, inspect.Metadata):
        description = (kind.extra_json_schema or {}).get("description", "")
        kind = kind.type
    choices = kind.values if isinstance(kind, inspect.LiteralType) else ()
    optional = isinstance(kind, inspect.UnionType) and kind.includes_none
    shown = tuple(map(str, choices))
    return Option(field.name, _describe_type(kind), default, description, shown, optional, required)


def _describe_type(kind: inspect.Type) -> str:
    """Return a type as the help text shows it: `integer >= 1`, `tanh|relu`."""
    match kind:
        case inspect.Metadata():
            return _describe_type(kind.type)
        case inspect.BoolType():
            return "flag"
        case inspect.IntType() | inspect.FloatType():
            word = "integer" if isinstance(kind, inspect.IntType) else "number"
            signs = {">": kind.gt, ">=": kind.ge, "<": kind.lt, "<=": kind.le}
            bounds = [f"{sign} {bound}" for sign, bound in signs.items() if bound is not None]
            bounds += [f"multiple of {kind.multiple_of}"] if kind.multiple_of is not None else []
            return " and ".join([f"{word} {bounds[0]}", *bounds[1:]]) if bounds else word
        case inspect.LiteralType():
            return "|".join(map(str, kind.values))
        case inspect.VarTupleType():
            return f"{_describe_type(kind.item_type)},…"
        case inspect.UnionType():
            return " or ".join(_describe_type(member) for member in kind.types)
        case inspect.NoneType():
            return "none"
        case inspect.StrType():
            return "text"
        case inspect.AnyType():
            return "value"
    return type(kind).__name__.removesuffix("Type").lower()


def make_config(config_type: type, values: Mapping[str, Any]) -> Any:
    """Return a config with `values` instead of the defaults, each validated and converted.

    Values may be text, as typed on a command line: `"16"`, `"16,32"`, `"none"`. Raises UsageProblem for an
    unknown name, with the closest one, and for a value of the wrong type or out of range.
    """
    known = {option.name: option for option in options_of(config_type)}
    converted = {}
    for name, value in values.items():
        if name not in known:
            offered = ", ".join(known) or "none"
            raise UsageProblem(
                f"unknown option {brief(name)}", did_you_mean(name, known) or f"the options are: {offered}"
            )
        converted[name] = _convert(config_type, known[name], value)
    if missing := [option for option in known.values() if option.required and option.name not in values]:
        named = ", ".join(f"{option.flag} ({option.kind})" for option in missing)
        raise UsageProblem(
            f"required options are missing: {named}",
            f"for example: {' '.join(_example_of(option) for option in missing)}",
        )
    try:
        return config_type(**converted)
    except Exception as error:  # options that are valid, but not together: the author's own words
        message = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
        hint = "see the options' descriptions: nnkit info ARCH"
        raise UsageProblem(message or type(error).__name__, hint) from error


def _example_of(option: Option) -> str:
    if option.is_flag:
        return option.flag
    examples = {"integer": "8", "number": "0.5", "text": "NAME", "value": "8"}
    word = option.kind.split()[0].removesuffix(",…")
    return f"{option.flag} {option.choices[0] if option.choices else examples.get(word, 'VALUE')}"


def _convert(config_type: type, option: Option, value: Any) -> Any:
    if option.name == SETTINGS:
        value = (
            settings_text(value)
            if isinstance(value, Mapping)
            else (value,)
            if isinstance(value, str)
            else value
        )
    given, is_text = value, isinstance(value, str)
    if is_text and option.kind == "value":
        return _read_value(value)
    if is_text and option.optional and value.lower() == "none":
        value = None
    elif is_text and option.kind.endswith(",…"):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        # The field alone: the author's own checks are for all options together.
        kind = get_type_hints(config_type, include_extras=True)[option.name]
        converted = msgspec.convert(value, kind, strict=not is_text)
        if isinstance(converted, int) and abs(converted) >= 2**63:
            raise ValueError("torch has integers of 64 bits")
        return converted
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        wanted = f"one of {', '.join(option.choices)}" if option.choices else f"{option.kind}"
        raise UsageProblem(
            f"option {option.flag} takes {wanted}, got {brief(given)}",
            f"{option.flag}: {option.description or f'by default {as_text(option.default)}'}",
        ) from error


def _read_value(text: str) -> Any:
    """Return what a parameter without an annotation is given: a number, yes or no, none, or the text."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def typed_words(config: Any) -> list[str]:
    """Return the words of a command line for the values of a config that aren't the defaults."""
    words = []
    for option in options_of(type(config)):
        value = getattr(config, option.name)
        if value == option.default:
            continue
        if option.name == SETTINGS:
            words += [word for setting in value for word in (option.flag, setting)]
        elif option.is_flag:
            words.append(option.flag if value else f"--no-{option.flag[2:]}")
        else:
            words += [option.flag, as_text(value)]
    return words


def as_text(value: Any) -> str:
    """Return the value of an option as a user types it: `16`, `16,32`, `none`."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def config_values(config: Any) -> dict[str, Any]:
    """Return the values of a config as plain data, which JSON preserves: numbers, text, lists, None."""
    values: dict[str, Any] = _plain(msgspec.to_builtins(config))
    return values


def _plain(value: Any) -> Any:
    """Replace tuples by lists, and infinities and NaN by text: JSON has none of them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # msgspec converts it back to the number
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
