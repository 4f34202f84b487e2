"""Checks of what an architecture builds, at small sizes."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from nnkit import api
from nnkit.authoring.conformance.candidate import ArchitectureCandidate
from nnkit.authoring.conformance.suite import Doubtful, NotApplicable, Unmet
from nnkit.contract.requests import SmokeRequest
from nnkit.contract.text import format_bytes, format_percent
from nnkit.models.building import build_module, check_built_without_weights
from nnkit.models.tensors import registered
from nnkit.verbs.smoke.handler import smoke_run as run_checks
from nnkit.verbs.smoke.report import CheckResult

META = torch.device("meta")


def meta(candidate: ArchitectureCandidate) -> str:
    """It can be built on the meta device, without memory for its weights."""
    check_built_without_weights(candidate.spec, candidate.host)
    tensors = registered(build_module(candidate.spec, candidate.host, META))
    if real := [name for name, tensor in tensors.items() if not tensor.is_meta]:
        raise Unmet(f"{real[0]} has values on the meta device")
    return f"{len(tensors)} tensors without memory"


def determinism(candidate: ArchitectureCandidate) -> str:
    """The seed decides the weights, and two runs give the same outputs."""
    spec = candidate.small
    first = registered(build_module(spec, candidate.host))
    again = registered(build_module(spec, candidate.host))
    reseeded = registered(build_module(replace(spec, seed=spec.seed + 1), candidate.host))
    if changed := [name for name, tensor in first.items() if not torch.equal(tensor, again[name])]:
        raise Unmet(f"{changed[0]} changes when the model is built again with the same seed")
    random = [name for name, tensor in first.items() if not _is_uniform(tensor)]
    if random and all(torch.equal(first[name], reseeded[name]) for name in random):
        raise Unmet("a different seed gives the same weights", "leave seeding to nnkit: no torch.manual_seed")
    return f"{len(first)} tensors; {_run_smoke_check(candidate, 'determinism')}"


def _is_uniform(tensor: torch.Tensor) -> bool:
    """Whether a tensor is empty or filled with one value."""
    return not tensor.numel() or not (tensor != tensor.flatten()[0]).any()


def gradients(candidate: ArchitectureCandidate) -> str:
    """The gradient of the outputs reaches every trainable parameter."""
    return _run_smoke_check(candidate, "gradients")


def _run_smoke_check(candidate: ArchitectureCandidate, check: str) -> str:
    """Return what a check of core's smoke-run saw, even where a plugin handles that verb."""
    request = SmokeRequest(spec=candidate.small, host=candidate.host, checks=(check,))
    (result,) = run_checks(request).checks
    return translate(result)


def translate(result: CheckResult) -> str:
    """Return what a check of smoke-run saw, or raise the suite's exception for its status."""
    match result.status:
        case "failed":
            declaration = f"unsupported={{{result.name!r}: 'why'}}"
            raise Unmet(result.message, f"{result.repeat}; if this is on purpose, declare {declaration}")
        case "warned":
            raise Doubtful(result.message)
        case "skipped":
            raise NotApplicable(result.message)
    return result.message


def safetensors(candidate: ArchitectureCandidate) -> str:
    """The file holds the spec and every tensor, bit for bit, and nnkit builds the model from it."""
    spec, host = candidate.small, candidate.host
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")
        report = api.export(spec, file, manager=host)
        read = api.resolve(str(file), manager=host)
        if replace(read, weights=None).to_dict() != spec.to_dict():
            raise Unmet("the file describes a different model")
        expected, actual = registered(build_module(spec, host)), registered(build_module(read, host))
    if different := [name for name, tensor in expected.items() if not torch.equal(tensor, actual[name])]:
        raise Unmet(f"{different[0]} differs in the model built from the file")
    return f"{len(expected)} tensors equal, {format_bytes(report.bytes)}"


def onnx(candidate: ArchitectureCandidate) -> str:
    """The ONNX file is proven in ONNX Runtime at several sizes."""
    proof = candidate.onnx_report.proof
    if proof is None:
        raise Unmet("the export made no proof of the file")
    share = proof.coverage.share if proof.coverage else None
    proven = "" if share is None else f", {format_percent(share)} of the parameters proven"
    return f"{len(proof.assignments)} assignments of sizes in {proof.runner}{proven}"


def smoke_run(candidate: ArchitectureCandidate) -> str:
    """Every check of smoke-run passes."""
    checks = candidate.smoke_report.checks
    for status in ("failed", "warned"):
        for result in checks:
            if result.status == status:
                translate(replace(result, message=f"{result.name}: {result.message}"))
    return f"{sum(check.status == 'passed' for check in checks)} of {len(checks)} checks passed, none failed"
