"""What Python passes to a verb -> ModelSpec, and the module itself if it is one.

A target is a reference, a ModelSpec or a module. `inputs` are examples for a module, or declarations of what
the user's own code takes, as typed after `--input`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from nnkit.contract.architecture import Architecture
from nnkit.contract.config import options_of
from nnkit.contract.own_declarations import IN_TEXT, OWN_OPTIONS, as_texts, check_own, declare
from nnkit.contract.spec import ModelSpec, make_spec
from nnkit.errors import UsageProblem
from nnkit.host.plugin_manager import PluginManager
from nnkit.models.references import Reference, look_up

if TYPE_CHECKING:
    from torch import Tensor, nn

    Inputs: TypeAlias = Tensor | Sequence[Any] | Mapping[str, Any] | str | None
    Target: TypeAlias = "str | ModelSpec | nn.Module"

TYPED_INPUT = re.compile(r'--input ("[^"]*"|\'[^\']*\')')
TYPED_INPUTS = re.compile(r'--input (?:"[^"]*"|\'[^\']*\')(?: --input (?:"[^"]*"|\'[^\']*\'))*')
TYPED_DECLARATION = re.compile(r"--declare (\w+)=(\S+)")


def resolve_target(
    target: "Target",
    inputs: "Inputs",
    preset: str | None,
    options: Mapping[str, Any],
    manager: PluginManager,
    verb: str,
) -> "tuple[ModelSpec, nn.Module | None]":
    """Return the spec of a target, and the target itself if it is a module.

    verb: the function that the user called, for the hint of an error.
    """
    try:
        if isinstance(target, str):
            return _resolve_reference(target, inputs, preset, options, manager), None
        if isinstance(target, ModelSpec):
            return _resolve_spec(target, inputs, preset, options, manager), None
        architecture = _describe_module(target, inputs)
        own, rest = _split(architecture, options)
        return make_spec(_with_own(architecture, own), preset=preset, options=rest), target
    except UsageProblem as problem:
        name = repr(target) if isinstance(target, str) else "module"
        raise UsageProblem(problem.message, _hint_in_python(problem.hint, name, verb)) from problem


def declared_texts(inputs: "Inputs") -> tuple[str, ...] | None:
    """Return the declarations that `inputs` are; None if they are examples."""
    if inputs is None:
        return ()
    if isinstance(inputs, str):
        return (inputs,)
    is_text = isinstance(inputs, (list, tuple)) and inputs and all(isinstance(text, str) for text in inputs)
    return tuple(inputs) if is_text else None


def _resolve_reference(
    text: str, inputs: "Inputs", preset: str | None, options: Mapping[str, Any], manager: PluginManager
) -> ModelSpec:
    texts = _require_texts(inputs, text)
    reference = look_up(text, manager, texts)
    if reference.plugin:
        _refuse(texts, options, reference.architecture)
        return reference.resolve(preset, options)
    own, rest = _split(reference.architecture, options)
    completed = reference.complete(rest)
    return replace(completed, architecture=_with_own(completed.architecture, own)).resolve(preset, rest)


def _resolve_spec(
    spec: ModelSpec, inputs: "Inputs", preset: str | None, options: Mapping[str, Any], manager: PluginManager
) -> ModelSpec:
    texts = _require_texts(inputs, spec.reference)
    if not texts and not options and preset is None:
        return spec
    architecture, base = spec.architecture, spec.to_dict()
    if spec.plugin:
        _refuse(texts, options, architecture)
        return Reference(architecture, spec.plugin, base, zoos=manager.namespaces()).resolve(preset, options)
    own, rest = _split(architecture, options)
    if texts:
        architecture = look_up(spec.reference, manager, texts).complete(rest).architecture
    return make_spec(_with_own(architecture, own), base=base, preset=preset, options=rest)


def _describe_module(module: "nn.Module", inputs: "Inputs") -> Architecture:
    """Return the architecture for a module, from the declarations of its inputs or from examples."""
    if inputs is None:
        raise UsageProblem(
            "a module needs example inputs", 'pass them: [x]; or declare them: --input "x: float32[batch, 8]"'
        )
    if texts := declared_texts(inputs):
        from nnkit.models.user_modules import UserCode

        declared = UserCode(type(module).__name__, module, texts).architecture()
        return replace(declared, typed=())
    from nnkit.models.module_objects import architecture_of_module

    return architecture_of_module(module, inputs)


def _require_texts(inputs: "Inputs", reference: str) -> tuple[str, ...]:
    texts = declared_texts(inputs)
    if texts is None:
        raise UsageProblem(
            f"example inputs are for modules, and {reference} is none",
            "leave them out, and give sizes as options: batch=8; "
            'for code of your own, declare them: --input "x: float32[batch, 8]"',
        )
    return texts


def _split(architecture: Architecture, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into declarations of the user's own, and others. An option of the class comes first."""
    fields = {option.name for option in options_of(architecture.config)}
    own = {name: value for name, value in options.items() if name in OWN_OPTIONS and name not in fields}
    return own, {name: value for name, value in options.items() if name not in own}


def _refuse(texts: Sequence[str], options: Mapping[str, Any], architecture: Architecture) -> None:
    """Raise UsageProblem for declarations about an architecture that a plugin declares."""
    own, _ = _split(architecture, options)
    if texts or own:
        name = next(iter(own), "inputs")
        raise UsageProblem(
            f"{name}= is for modules of your own; {architecture.name} is declared by its plugin",
            f"leave it out; see what is declared: nnkit info {architecture.name}",
        )


def _with_own(architecture: Architecture, own: Mapping[str, Any]) -> Architecture:
    """Return the architecture with declarations of the user's own."""
    if not own:
        return architecture
    in_text = {name: value for name, value in own.items() if name in IN_TEXT}
    others = {name: value for name, value in own.items() if name not in IN_TEXT}
    declared = replace(declare(architecture, as_texts(in_text)), **others)
    check_own(declared, next(iter(architecture.typed), architecture.name))
    return declared


def _hint_in_python(hint: str, target: str, verb: str) -> str:
    """Return a hint about the command line as one about the call.

    for example: --input "x: float32[batch, 8]"
    for example: nnkit.summarize("net.py:Net", inputs="x: float32[batch, 8]")
    """
    inputs = TYPED_INPUT.findall(hint)
    if inputs:
        declared = inputs[0] if len(inputs) == 1 else f"[{', '.join(inputs)}]"
        first, *others = TYPED_INPUTS.split(hint)
        hint = f"{first}nnkit.{verb}({target}, inputs={declared}){''.join(others)}"
    return TYPED_DECLARATION.sub(r'\1="\2"', hint).replace("--declare", "the declaration")
