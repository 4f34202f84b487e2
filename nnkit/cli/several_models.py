"""The command line of `bench` and `compare`: several models, and options for all of them or for one of two.

Click can't parse this line. Which options exist depends on every model that is named, and one option may be a
flag of the first model and take a value for the second. So click passes on the words it doesn't know, which
are sorted by a grammar that needs no look-up of a model, but of those in a zoo:

- A word that doesn't begin with `-` is a reference.
- `--NAME=VALUE` is an option with its value.
- `--NAME` and `--no-NAME` mean yes and no if NAME is a yes-or-no option of any installed architecture, or of
  an architecture of a zoo that is named here.
- Any other `--NAME` takes the next word as its value.
- `--left.NAME` and `--right.NAME` are options of one of two models, in each of these forms.
- `--with INPUT` and `--without INPUT` (repeatable) name optional inputs, and `--set KEY=VALUE` (repeatable)
  is an option that a zoo knows.

The references are then looked up, and each gets the options that it has.
"""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import Any

from nnkit.cli.settings import Settings
from nnkit.cli.user_code import write_assumed
from nnkit.contract.config import options_of
from nnkit.contract.settings import SETTINGS
from nnkit.contract.spec import ModelSpec, optional_inputs
from nnkit.contract.text import shorten
from nnkit.errors import NnkitError, UsageProblem
from nnkit.host.plugin_manager import PluginManager
from nnkit.models.references import Reference, look_up, names_code

SIDES = ("left", "right")
MODEL_OPTIONS = frozenset(
    {"seed", "dtype", "weights", "key", "strip_prefix", "preset"}
)  # that every architecture has
INPUT_OPTIONS = ("with", "without")  # each takes the name of an optional input
REPEATABLE = (*INPUT_OPTIONS, SETTINGS)


@dataclass
class SeveralModels:
    """What was typed: references, options for all of them, and options for the left and the right one."""

    references: list[str] = field(default_factory=list)
    common: dict[str, Any] = field(default_factory=dict)
    by_side: dict[str, dict[str, Any]] = field(default_factory=lambda: {side: {} for side in SIDES})

    def options_for(self, option: str, name: str) -> tuple[dict[str, Any], str]:
        """Return the options that `--NAME` or `--SIDE.NAME` belongs to, and its name among them."""
        side, dot, name_of_side = name.partition(".")
        if not dot:
            return self.common, name
        if side not in SIDES:
            raise UsageProblem(
                f"no such option {option}", "options for one model begin with --left. or --right."
            )
        return self.by_side[side], name_of_side


def sort_words(words: Sequence[str], manager: PluginManager) -> SeveralModels:
    """Sort what was typed into references and options, by the grammar of this module."""
    models, flags = SeveralModels(), _flags(manager, words)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            models.references.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        options, name = models.options_for(word, name)
        if name in REPEATABLE and (equals or rest):
            options.setdefault(name, []).append(value if equals else rest.pop(0))
        elif equals:
            options[_field(name)] = value
        elif name in flags:
            options[_field(name.removeprefix("no-"))] = str(not name.startswith("no-")).lower()
        elif rest:
            options[_field(name)] = rest.pop(0)
        else:
            raise UsageProblem(f"option {word} needs a value", f"for example: {word} VALUE")
    return models


def _field(name: str) -> str:
    return name.replace("-", "_")


def _flags(manager: PluginManager, words: Sequence[str]) -> frozenset[str]:
    """Return the yes-or-no options of all architectures, and of those of zoos in `words`, as typed."""
    manager.check_all()
    architectures = list(manager.architectures().values())
    for word in filter(manager.is_member, words):
        with suppress(NnkitError), redirect_stdout(sys.stderr):  # it is reported when it is looked up
            architectures.append(manager.find(word)[1])
    names = {
        option.flag.removeprefix("--")
        for architecture in architectures
        for option in options_of(architecture.config)
        if option.is_flag
    }
    return frozenset(names | {f"no-{name}" for name in names})


def specs_of(
    models: SeveralModels,
    manager: PluginManager,
    inputs: Sequence[str],
    declarations: Sequence[str],
    settings: Settings,
) -> list[ModelSpec]:
    """Return the spec of each reference, with those of the common options that it has, and with its own.

    inputs, declarations: what is declared of modules of the user's own.
    """
    if declarations and not any(map(names_code, models.references)):
        first = models.references[0]
        raise UsageProblem(
            f"--declare is for modules of your own, and {first} is none",
            f"see what it declares: nnkit info {first}",
        )
    settings.show_log()
    settings.progress(f"reading {shorten(models.references)}")
    own_code = [text for text in models.references if names_code(text)] or models.references
    with redirect_stdout(sys.stderr):  # a file of the user's own may print while it is imported
        references = [
            look_up(text, manager, inputs if text in own_code else (), declarations)
            for text in models.references
        ]
        own_options = _own_options(models)
        references = [
            reference.complete({**models.common, **own})
            for reference, own in zip(references, own_options, strict=True)
        ]
    for text, reference in zip(models.references, references, strict=True):
        write_assumed(settings, reference.architecture, text)
    _refuse_unknown(models.common, references)
    return [
        _resolve(reference, models.common, own)
        for reference, own in zip(references, own_options, strict=True)
    ]


def _own_options(models: SeveralModels) -> list[dict[str, Any]]:
    """Return the options of each model alone."""
    if len(models.references) == len(SIDES):
        return [models.by_side[side] for side in SIDES]
    if any(models.by_side.values()):
        raise UsageProblem("--left. and --right. need exactly two models", "name two, or leave them out")
    return [{} for _ in models.references]


def _refuse_unknown(options: dict[str, Any], references: Sequence[Reference]) -> None:
    """Raise UsageProblem for an option that no model has."""
    for name, value in options.items():
        for each in value if name in INPUT_OPTIONS else (value,):
            if not any(_takes(reference, name, each) for reference in references):
                references[0].resolve(None, {_key(name): each})  # raises, with the nearest name


def _resolve(reference: Reference, common: dict[str, Any], own: dict[str, Any]) -> ModelSpec:
    options = {
        name: value
        for name, value in common.items()
        if name not in INPUT_OPTIONS and _takes(reference, name, value)
    } | own
    for name in INPUT_OPTIONS:
        names = [each for each in common.get(name, ()) if _takes(reference, name, each)]
        names += options.pop(name, ())
        if names:
            options[_key(name)] = names[-1] if name in _names_of_options(reference) else names
    preset = options.pop("preset", None)
    if "seed" in options:
        options["seed"] = _integer("seed", options["seed"])
    return reference.resolve(preset, options)


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageProblem(f"--{name} takes an integer, got {text!r}", f"for example: --{name} 1") from error


def _takes(reference: Reference, name: str, value: str) -> bool:
    """Whether a model has an option, or the optional input that `--with` or `--without` names."""
    if name in _names_of_options(reference) or name in MODEL_OPTIONS:
        return True
    return name in INPUT_OPTIONS and value in optional_inputs(reference.architecture)


def _names_of_options(reference: Reference) -> set[str]:
    architecture = reference.architecture
    return {*(option.name for option in options_of(architecture.config)), *architecture.dims}


def _key(name: str) -> str:
    """Return an option as Python has it, where `with` is a keyword."""
    return "with_" if name == "with" else name
