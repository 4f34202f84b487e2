"""Checks of what an architecture builds, at small sizes."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nnkit import api
from nnkit.authoring.conformance.candidate import ArchitectureCandidate
from nnkit.authoring.conformance.suite import Doubtful, NotApplicable, Unmet
from nnkit.contract.requests import SmokeRequest
from nnkit.contract.text import format_bytes, format_percent, format_shape, format_sizes, plural
from nnkit.errors import NnkitError, first_line
from nnkit.models.building import build_module, check_built_without_weights
from nnkit.models.tensors import registered
from nnkit.verbs.exporting.sizes import other_sizes
from nnkit.verbs.smoke.handler import smoke_run as run_checks
from nnkit.verbs.smoke.report import CheckResult
from nnkit.verbs.smoke.subject import Failed, Subject

META, CPU = torch.device("meta"), torch.device("cpu")


def meta(candidate: ArchitectureCandidate) -> str:
    """It is built on the meta device: without memory for its weights."""
    check_built_without_weights(candidate.spec, candidate.host)
    tensors = registered(build_module(candidate.spec, candidate.host, META))
    if real := [name for name, each in tensors.items() if not each.is_meta]:
        raise Unmet(f"{real[0]} has values on the meta device")
    return f"{len(tensors)} tensors without memory"


def shapes(candidate: ArchitectureCandidate) -> str:
    """Outputs have the declared shapes, at two sizes of every dim; without weights where that works."""
    spec = candidate.small
    if not spec.outputs:
        raise Unmet("it declares no outputs", "declare what forward returns: outputs=[TensorSpec(…)]")
    dims = spec.architecture.dims_for(spec.config)
    tried = [dict(spec.sizes), *other_sizes(dims, spec.sizes)]
    where = "without weights"
    try:
        _check_shapes(candidate, META, tried)
    except (ForwardFails, NnkitError):
        # Values may decide what it does; and with values at hand, an error says more.
        where = "on the CPU"
        _check_shapes(candidate, CPU, tried)
    counts = [f"{name} at {plural(len({sizes[name] for sizes in tried}), 'size')}" for name in dims]
    return f"{', '.join(counts) or 'no dims'}, {where}"


class ForwardFails(Unmet):
    """Forward raises."""


def _check_shapes(
    candidate: ArchitectureCandidate, device: torch.device, tried: Sequence[Mapping[str, int]]
) -> None:
    subject = Subject(candidate.small, candidate.host, device)
    module = subject.fresh()
    for sizes in tried:
        at = format_sizes(sizes)
        try:
            outputs = subject.evaluate(module, subject.inputs(sizes=sizes))
        except Failed as fault:
            raise Unmet(f"{fault}, at {at}") from fault
        except Exception as error:
            raise ForwardFails(
                f"forward fails at {at}: {type(error).__name__}: {first_line(error)}"
            ) from error
        for declared, tensor in outputs:
            wanted = subject.spec.shape(declared, sizes)
            if tuple(tensor.shape) != wanted:
                found = f"{format_shape(tensor.shape)}, declared {format_shape(wanted)}"
                raise Unmet(f"output {declared.name} is {found}, at {at}")


def determinism(candidate: ArchitectureCandidate) -> str:
    """A seed decides: the same weights each time, others for another, and the same outputs twice."""
    spec = candidate.small
    first, again, other = (
        registered(build_module(each, candidate.host))
        for each in (spec, spec, replace(spec, seed=spec.seed + 1))
    )
    if changed := [name for name, each in first.items() if not torch.equal(each, again[name])]:
        raise Unmet(f"{changed[0]} is another when it is built again with the same seed")
    drawn = [name for name, each in first.items() if each.numel() and (each != each.flatten()[0]).any()]
    if drawn and all(torch.equal(first[name], other[name]) for name in drawn):
        raise Unmet("another seed gives the same weights", "leave seeding to nnkit: no torch.manual_seed")
    return f"{len(first)} tensors; {_verdict(candidate, 'determinism')}"


def gradients(candidate: ArchitectureCandidate) -> str:
    """The gradient of the outputs reaches every trainable parameter."""
    return _verdict(candidate, "gradients")


def _verdict(candidate: ArchitectureCandidate, check: str) -> str:
    """Return what one of core's checks of smoke-run saw, whoever serves that verb."""
    request = SmokeRequest(spec=candidate.small, host=candidate.host, checks=(check,))
    (result,) = run_checks(request).checks
    return judged(result)


def judged(result: CheckResult) -> str:
    """Return what a check of smoke-run saw, or raise what the suite has for its status."""
    match result.status:
        case "failed":
            so = f"what is so on purpose is declared: unsupported={{{result.name!r}: 'why'}}"
            raise Unmet(result.message, f"{result.repeat}; {so}")
        case "warned":
            raise Doubtful(result.message)
        case "skipped":
            raise NotApplicable(result.message)
    return result.message


def safetensors(candidate: ArchitectureCandidate) -> str:
    """The file holds every tensor, bit for bit, and what it is; nnkit builds the model from it."""
    spec, host = candidate.small, candidate.host
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        report = api.export(spec, file, manager=host)
        read = api.resolve(str(file), manager=host)
        if replace(read, weights=None).to_dict() != spec.to_dict():
            raise Unmet("the file stands for another model")
        expected, found = (registered(build_module(each, host)) for each in (spec, read))
    if other := [name for name, each in expected.items() if not torch.equal(each, found[name])]:
        raise Unmet(f"{other[0]} is another in the model that is built from the file")
    return f"{len(expected)} tensors equal, {format_bytes(report.bytes)}"


def onnx(candidate: ArchitectureCandidate) -> str:
    """The ONNX file is proven in ONNX Runtime, at several sizes."""
    proof = candidate.onnx_report.proof
    if proof is None:
        raise Unmet("no proof was made of the file")
    share = proof.coverage.share if proof.coverage else None
    told = "" if share is None else f", {format_percent(share)} of the parameters proven"
    return f"{len(proof.assignments)} assignments of sizes in {proof.runner}{told}"


def smoke_run(candidate: ArchitectureCandidate) -> str:
    """Every check of smoke-run holds."""
    checks = candidate.smoke_report.checks
    for status in ("failed", "warned"):
        for result in checks:
            if result.status == status:
                judged(replace(result, message=f"{result.name}: {result.message}"))
    return f"{sum(each.status == 'passed' for each in checks)} of {len(checks)} checks passed, none failed"
