"""The check that forward takes what is declared and returns it under the declared names."""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import nn

from nnkit.authoring.conformance.candidate import ArchitectureCandidate
from nnkit.authoring.conformance.suite import Doubtful, NotApplicable, Unmet
from nnkit.contract.requests import Host
from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import plural
from nnkit.errors import NnkitError, did_you_mean
from nnkit.models.building import build_module
from nnkit.models.running import ANY_NUMBER, binding_problem, evaluate, is_of_torch, signature_of
from nnkit.models.sampling import sample_inputs
from nnkit.models.structure import assemble
from nnkit.models.tensors import named_tensors_in

DEVICES = ("meta", "cpu")  # without values where that works


def signature(candidate: ArchitectureCandidate) -> str:
    """Forward takes what is declared, with and without optional inputs, and returns it under these names."""
    spec = candidate.small
    module, returned = _run(spec, candidate.host)
    parameters = signature_of(module)
    if parameters is None:
        raise NotApplicable("forward has no signature to read")
    _check_defaults(parameters, spec)
    for variant in candidate.variants:
        if problem := binding_problem(module, variant.signature):
            raise Unmet(problem)
        assemble(module, variant.signature, variant.inputs)
    paths = [path for path, _ in named_tensors_in(returned)]
    inputs = [tensor.name for tensor in spec.declared_inputs]
    _check_output_names([tensor.name for tensor in spec.outputs], paths, inputs)
    if not is_of_torch(module):
        _doubt_names(parameters, spec)
    without = f", also without {', '.join(spec.optional_inputs)}" if spec.optional_inputs else ""
    takes = plural(len(spec.with_inputs(()).signature.parameters), "argument")
    return f"takes {takes}{without}; returns {plural(len(paths), 'tensor')}"


def _run(spec: ModelSpec, host: Host) -> tuple[nn.Module, Any]:
    """Return the module, and what its forward returns."""
    problem: Exception = NnkitError("no device")
    for device in DEVICES:
        try:
            module = build_module(spec, host, device)
            return module, evaluate(module, spec.signature, sample_inputs(spec, device=device))
        except Exception as error:
            problem = error
    raise problem


def _check_defaults(parameters: inspect.Signature, spec: ModelSpec) -> None:
    """Raise Unmet where forward needs an argument that is declared optional."""
    for unit in spec.optional_inputs:
        parameter = parameters.parameters.get(unit)
        if parameter and parameter.default is parameter.empty and parameter.kind not in ANY_NUMBER:
            raise Unmet(
                f"{unit!r} is declared optional, but forward has no default for it",
                f"write {unit}=None in forward, or declare it without optional=True",
            )


def _check_output_names(declared: Sequence[str], returned: Sequence[str], inputs: Sequence[str]) -> None:
    """Raise Unmet where a tensor is returned under another name than the declared one.

    Entries of tuples and lists have no names, so any may be declared for them: what is returned as
    `(scores, [Pair(key, value)])` may be declared as scores, present.0.key and present.0.value. What is
    returned under the name of an input has to be declared under another.
    """
    if set(declared) <= set(returned):
        return
    for name, path in zip(declared, returned, strict=False):
        if path not in inputs and not _can_name(name, path):
            raise Unmet(
                f"forward returns {path!r} where {name!r} is declared",
                f'declare it under its name: TensorSpec("{path}", …)',
            )


def _can_name(name: str, path: str) -> bool:
    """Whether an output may be declared as `name` that is at `path` in what forward returns."""
    parts = name.split(".")
    named = [(index, part) for index, part in enumerate(path.split(".")) if part and not part.isdecimal()]
    return all(index < len(parts) and parts[index] == part for index, part in named)


def _doubt_names(parameters: inspect.Signature, spec: ModelSpec) -> None:
    """Raise Doubtful where a declared name is no parameter of forward, so that all are passed by position."""
    own = list(parameters.parameters)
    unknown = [name for name in spec.signature.parameters if name not in own]
    if unknown and not any(parameter.kind in ANY_NUMBER for parameter in parameters.parameters.values()):
        suggestion = did_you_mean(unknown[0], own) or f"it takes {', '.join(own)}"
        raise Doubtful(
            f"forward has no parameter {unknown[0]!r}, so all are passed by position; {suggestion}"
        )
