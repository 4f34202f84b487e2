"""The words of a command that takes several models: references, and options of all or of one of two."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from nnkit.contract.config import options_of
from nnkit.contract.spec import ModelSpec
from nnkit.errors import UsageProblem
from nnkit.host.plugin_manager import PluginManager
from nnkit.models.references import Reference, look_up

SIDES = ("left", "right")


@dataclass
class Words:
    """What was typed: the references, and the options of all and of one side, by name."""

    references: list[str] = field(default_factory=list)
    common: dict[str, Any] = field(default_factory=dict)
    own: dict[str, dict[str, Any]] = field(default_factory=lambda: {side: {} for side in SIDES})


def sort_words(words: Sequence[str], manager: PluginManager) -> Words:
    """Sort what was typed into references and options; only flags of an architecture's have no value."""
    typed, flags = Words(), _flags(manager)
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            typed.references.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        side, dot, own = name.partition(".")
        if dot and side not in SIDES:
            raise UsageProblem(f"no such option {word}", "one side's options begin with --left. or --right.")
        options, name = (typed.own[side], own) if dot else (typed.common, name)
        if equals:
            options[_field(name)] = value
        elif name in flags:
            options[_field(name.removeprefix("no-"))] = str(not name.startswith("no-")).lower()
        elif rest:
            options[_field(name)] = rest.pop(0)
        else:
            raise UsageProblem(f"option {word} needs a value", f"write it so: {word} VALUE")
    return typed


def _field(name: str) -> str:
    return name.replace("-", "_")


def _flags(manager: PluginManager) -> frozenset[str]:
    """Return the options of any architecture that are a plain yes or no, as they are typed."""
    names = {
        option.flag.removeprefix("--")
        for architecture in manager.architectures().values()
        for option in options_of(architecture.config)
        if option.is_flag
    }
    return frozenset(names | {f"no-{name}" for name in names})


def specs_of(typed: Words, manager: PluginManager, inputs: Sequence[str]) -> list[ModelSpec]:
    """Return what each reference stands for, with the options of all that have them, and with its own."""
    with redirect_stdout(sys.stderr):  # a file of the user's own may print while it is imported
        references = [look_up(text, manager, inputs) for text in typed.references]
    own = [typed.own[side] for side in SIDES]
    if len(references) != 2 and any(own):
        raise UsageProblem("--left. and --right. are for two models", "name two, or leave them out")
    sides = own if len(references) == 2 else [{} for _ in references]
    for name in typed.common:
        if not any(_has(reference, name) for reference in references):
            references[0].resolve(None, {name: typed.common[name]})  # which says what is wrong with it
    specs = []
    for reference, side in zip(references, sides, strict=True):
        common = {name: value for name, value in typed.common.items() if _has(reference, name)}
        options = {**common, **side}
        preset = options.pop("preset", None)
        if "seed" in options:
            options["seed"] = _integer("seed", options["seed"])
        specs.append(reference.resolve(preset, options))
    return specs


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageProblem(f"--{name} takes an integer, got {text!r}", f"for example: --{name} 1") from error


def _has(reference: Reference, name: str) -> bool:
    architecture = reference.architecture
    fields = {option.name for option in options_of(architecture.config)}
    return name in {*fields, *architecture.dims, "seed", "dtype", "weights", "preset"}
