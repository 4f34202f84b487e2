"""ExportRequest -> ExportReport."""

import re
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from nnkit.contract.axes import names_in_constraint
from nnkit.contract.contributions import Exporter
from nnkit.contract.requests import ExportRequest
from nnkit.contract.spec import ModelSpec
from nnkit.errors import UsageProblem, VerificationFailed
from nnkit.models.building import build_module
from nnkit.models.copies import copy_of
from nnkit.models.devices import find_device
from nnkit.models.precision import main_dtype
from nnkit.verbs.exporting import formats
from nnkit.verbs.exporting.calls import fill_lazy
from nnkit.verbs.exporting.capture import NotCaptured, NotDynamic
from nnkit.verbs.exporting.files import staged
from nnkit.verbs.exporting.plan import assumed_dims, make_plan
from nnkit.verbs.exporting.proof import Prover, check_provable
from nnkit.verbs.exporting.reference import ModuleFails
from nnkit.verbs.exporting.report import ExportReport, Proof

PORT = re.compile(r"[^\W\d]\w*(\.\w+)*")
"""A dotted name: an identifier, then names and numbers."""


def export(request: ExportRequest) -> ExportReport:
    """Write the file next to its target, prove it, and only then put it in place."""
    exporter = formats.find(request.format, request.host)
    _check_options(request)
    if request.verify and formats.is_run(request.format, exporter):
        check_provable(request.spec)
    try:
        return _export_as_assumed(request, exporter)
    except VerificationFailed as failure:
        hint = "; ".join(filter(None, ("no file was written", failure.hint)))
        raise VerificationFailed(failure.message, hint) from failure


def _export_as_assumed(request: ExportRequest, exporter: Exporter | None) -> ExportReport:
    """Write and prove a file. Dims that nobody declared get the bounds that torch finds, or one size."""
    unsure = assumed_dims(request.spec) - request.options.fixed
    while True:
        try:
            return _write_and_prove(request, exporter)
        except NotDynamic as failure:
            dim = failure.dim
            if dim not in unsure:
                raise
            unsure = unsure - {dim}
            if failure.bound:
                request = _with_constraints(request, [f"{dim} {failure.bound}"])
            else:
                request = _with_fixed(request, {dim})
        except NotCaptured:
            if not unsure:
                raise
            request, unsure = _with_fixed(request, unsure), set()
        except ModuleFails as failure:
            if not _is_bound_of(failure.bound, request.spec):
                raise
            request = _with_constraints(request, [failure.bound])


def _is_bound_of(condition: str, spec: ModelSpec) -> bool:
    """Whether a condition of torch's compares sizes of assumed dims, and isn't known yet."""
    try:
        names = names_in_constraint(condition)
    except ValueError:
        return False
    return names <= assumed_dims(spec) and condition not in spec.architecture.constraints


def _with_constraints(request: ExportRequest, constraints: Iterable[str]) -> ExportRequest:
    """Return the request with more constraints on assumed dims, which the report says."""
    spec, constraints = request.spec, tuple(constraints)
    architecture = replace(
        spec.architecture,
        constraints=(*spec.architecture.constraints, *constraints),
        assumed=(
            *spec.architecture.assumed,
            *(f"{constraint}, as torch.export finds" for constraint in constraints),
        ),
    )
    return replace(request, spec=replace(spec, architecture=architecture))


def _with_fixed(request: ExportRequest, dims: Collection[str]) -> ExportRequest:
    """Return the request with more dims fixed, which the report says."""
    spec, options = request.spec, request.options
    notes = (
        f"{name} is always {spec.sizes[name]} in the file, because torch can't keep it dynamic"
        for name in sorted(dims)
    )
    architecture = replace(spec.architecture, assumed=(*spec.architecture.assumed, *notes))
    return replace(
        request,
        spec=replace(spec, architecture=architecture),
        options=replace(options, fixed=options.fixed | frozenset(dims)),
    )


def _write_and_prove(request: ExportRequest, exporter: Exporter | None) -> ExportReport:
    device = find_device(request.device)
    with staged(request.path, request.force) as path:
        request.progress(f"building {request.spec.reference}")
        module = build_module(request.spec, request.host, device)
        fill_lazy(module, request.spec)
        if request.options.float32_io and (dtype := main_dtype(module)) != "float16":
            raise UsageProblem(
                f"--float32-io is for float16 models, but this one is {dtype}", "add --dtype float16"
            )
        if request.format == "safetensors":
            written, opset, proof = _write_safetensors(request, module, path)
        elif exporter is None:
            written, opset, proof = _write_onnx(request, module, path, device)
        else:
            written, opset, proof = _write_declared(request, exporter, module, path, device)
        files = {file.name: file.stat().st_size for file in sorted(path.parent.iterdir())}
    file = request.path.with_name(written.name)
    return ExportReport(request.spec, str(file), request.format, files, proof, opset)


def _check_options(request: ExportRequest) -> None:
    """Raise UsageProblem for an option that doesn't apply to the format, or has an invalid value."""
    for name in formats.irrelevant_options(request.options, request.format):
        flag = "--fix" if name == "fixed" else f"--{name.replace('_', '-')}"
        raise UsageProblem(f"{flag} doesn't apply to {request.format}", "leave it out")
    options = request.options
    for name in (*(options.input_names or ()), *(options.output_names or ())):
        if not PORT.fullmatch(name):
            raise UsageProblem(
                f"{name!r} can't name an input or output",
                "use only letters, digits and _, and dots between them: cache.0.key",
            )
    if options.optimize and options.external_data:
        raise UsageProblem("--optimize keeps the weights in the file", "leave out --external-data")


def _write_safetensors(
    request: ExportRequest, module: nn.Module, path: Path
) -> tuple[Path, None, Proof | None]:
    from nnkit.verbs.exporting.safetensors import prove_safetensors, write_safetensors

    written = write_safetensors(module, request.spec, path, request.verify, request.options.max_shard_size)
    if not request.verify:
        return written, None, None
    request.progress("reading the file back")
    return written, None, prove_safetensors(written, module, request.spec, request.host)


def _write_onnx(
    request: ExportRequest, module: nn.Module, path: Path, device: torch.device
) -> tuple[Path, int, Proof | None]:
    from nnkit.verbs.exporting.onnx import optimize_file, write_onnx
    from nnkit.verbs.exporting.onnx_file import OnnxFile, OptimizedFile, stamp_onnx

    plan = make_plan(request.spec, module, request.options, device)
    options = request.options
    request.progress("exporting through torch.onnx")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, path.name) if options.optimize else path
        written = write_onnx(copy_of(module), plan, options, plain)
        opset = written.opset
        candidate = OnnxFile(plain, module, plan, scratch=path.parent)
        if options.optimize:
            optimize_file(plain, path)
            candidate = OptimizedFile(path, module, plan, candidate)
        proof = None
        if request.verify:
            candidate.check_signature(opset)
            plan = plan.including({guard.condition: guard.broken_at for guard in written.guards})
            proof = Prover(module, plan, request.progress).prove(candidate)
    stamp_onnx(path, plan, module, candidate, proof)
    return path, opset, proof


def _write_declared(
    request: ExportRequest, exporter: Exporter, module: nn.Module, path: Path, device: torch.device
) -> tuple[Path, None, Proof | None]:
    plan = make_plan(request.spec, module, request.options, device)
    request.progress(f"writing {exporter.name}")
    proof = None
    with formats.known_to_torch(exporter, module, plan):
        formats.write(exporter, module, plan, path)
        if request.verify and exporter.run is not None:
            file = formats.DeclaredFile(exporter, path, module, plan)
            proof = Prover(module, plan, request.progress).prove(file)
    formats.put_stamp(exporter, plan, path, proof)
    return path, None, proof
