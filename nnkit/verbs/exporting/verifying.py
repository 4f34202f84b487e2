"""A file that is there already -> VerifyReport: the proof made again, on this machine."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from nnkit.contract.requests import Exporter, ExportOptions, Host
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, UsageProblem, VerificationFailed, did_you_mean
from nnkit.models import metadata
from nnkit.models.building import build_module
from nnkit.models.sampling import Inputs
from nnkit.models.weights import digest, load_weights
from nnkit.verbs.exporting import formats
from nnkit.verbs.exporting.calls import fill_lazy
from nnkit.verbs.exporting.coverage import perturbed
from nnkit.verbs.exporting.onnx_file import OnnxFile, axes_of, load, ports_of
from nnkit.verbs.exporting.plan import Plan, make_plan, with_output_names
from nnkit.verbs.exporting.proof import Prover
from nnkit.verbs.exporting.report import Coverage, Proof, VerifyReport
from nnkit.verbs.exporting.safetensors import compare_states

if TYPE_CHECKING:
    from onnx import ValueInfoProto


@dataclass(frozen=True)
class VerifyRequest:
    """Prove that the file at `path` is the model of `spec`.

    named: whether the user said what its weights are. Otherwise those that a file of nnkit's was made
    from are taken from it, and held against their digest.
    """

    path: Path
    spec: ModelSpec
    host: Host
    inputs: Inputs | None
    named: bool
    progress: Callable[[str], None]


def verify(request: VerifyRequest) -> VerifyReport:
    """Make the proof again.

    Raises VerificationFailed when the file is not the model, UsageProblem when it can't be told.
    """
    path = request.path
    if not path.is_file():
        raise UsageProblem(f"there is no file {path}", "check the path")
    opset = None
    if path.name.endswith((".safetensors", metadata.INDEX)):
        format, proof = "safetensors", _safetensors(request)
    elif path.suffix == ".onnx":
        format, (proof, opset) = "onnx", _onnx(request)
    else:
        exporter = _exporter(request)
        format, proof = exporter.name, _declared(request, exporter)
    return VerifyReport(request.spec, str(path), format, {path.name: path.stat().st_size}, proof, opset)


def _safetensors(request: VerifyRequest) -> Proof:
    module = build_module(request.spec, request.host)
    fill_lazy(module, request.spec, request.inputs)
    stored = copy.deepcopy(module)
    try:
        load_weights(stored, request.path)
    except NnkitError as error:
        raise VerificationFailed(
            f"{request.path.name} is not the model: {error.message}", error.hint
        ) from error
    return compare_states(request.path.name, module.state_dict(), stored.state_dict())


def _onnx(request: VerifyRequest) -> tuple[Proof, int | None]:
    told = metadata.read(request.path) if metadata.is_ours(request.path) else {}
    spec, options = _as_in_the_file(request.path, request.spec, told.get("signature"))
    from_file = spec.weights is not None and not request.named
    module = build_module(replace(spec, weights=None) if from_file else spec, request.host)
    fill_lazy(module, spec, request.inputs)
    try:
        plan = make_plan(spec, module, replace(options, output_names=None), request.inputs)
        plan = with_output_names(plan, options.output_names or ())
    except UsageProblem as problem:  # the names are the file's, one for each of its inputs and outputs
        raise VerificationFailed(
            f"{request.path.name} is not the model: it has {problem.message}", "name another: --against ARCH"
        ) from problem
    exact = bool(told) and not told.get("optimized")  # of what others wrote, values are found by content
    file = OnnxFile(request.path, module, plan, exact)
    if from_file:
        _take_weights(file, module, told)
    if told:
        file.check_signature()
    proof = Prover(module, plan, request.progress).prove(file)
    if not exact:
        _check_unknown(file, module, plan)
        proof = replace(proof, coverage=proof.coverage and _of_the_file(proof.coverage, file))
    _check_no_less(file.name, told.get("proof"), proof)
    return proof, file.opset


def _check_unknown(file: OnnxFile, module: nn.Module, plan: Plan) -> None:
    """Raise VerificationFailed for a tensor that is none of the module's and shows in no output."""
    unproven = file.without_effect(module, file.unknown) if file.unknown else []
    if unproven:
        other = perturbed(
            module, plan.spec.input_names, [run.inputs for run in plan.runs[:2]], file.replaceable
        )
        unproven = file.without_effect(other, unproven) if other else unproven
    if unproven:
        raise VerificationFailed(
            f"{file.name} is not proven: its tensor {unproven[0]} is none of the model's, and no output "
            "depends on it, so it could hold anything",
            "export it again without folding constants, so that tensors keep their names and values",
        )


def _of_the_file(coverage: Coverage, file: OnnxFile) -> Coverage:
    """Return the coverage of a file whose every value is known, or shows in an output.

    Parameters that were folded into others, or share a place with equal ones, are in no other place.
    """
    if coverage.proven is None:
        return coverage
    unproven = tuple(name for name in coverage.unproven if name in file.weights)
    sizes = {name: each.numel() for name, each in file.parameters.items()}
    return replace(
        coverage, proven=coverage.parameters - sum(sizes[name] for name in unproven), unproven=unproven
    )


def _check_no_less(name: str, told: Mapping[str, Any] | None, proof: Proof) -> None:
    """Raise VerificationFailed where parameters show in no output that did when the file was written."""
    before, now = (told or {}).get("coverage"), proof.coverage
    if not before or before["share"] is None or now is None:
        return
    lost = sorted(set(now.unproven) - set(before["unproven"]))
    if now.share is None or (lost and now.share < before["share"]):
        raise VerificationFailed(
            f"{name} is not proven: {', '.join(lost[:3]) or 'its weights'} showed in an output when it was "
            "exported, and no longer does",
            "give it inputs like those of the export, or export it again",
        )


def _take_weights(file: OnnxFile, module: nn.Module, told: Mapping[str, Any]) -> None:
    """Put the weights of a file into the module, if they are those that were written."""
    stored = file.stored()
    if told.get("optimized"):
        raise UsageProblem(
            f"the weights of {file.name} are folded into each other",
            "name the file that they came from: --weights",
        )
    if digest(stored) != told.get("sha256"):
        raise VerificationFailed(
            f"{file.name} is not the model: its weights are not those that were written (sha256)",
            file.mismatch or "fetch or export it again",
        )
    module.load_state_dict(stored, strict=False)


def _as_in_the_file(
    path: Path, spec: ModelSpec, signature: Mapping[str, Any] | None
) -> tuple[ModelSpec, ExportOptions]:
    """Return the spec at the sizes that are fixed in the file, and the names that it gives."""
    graph = load(path).graph
    inputs, outputs = ports_of(graph), list(graph.output)
    if len(inputs) != len(spec.inputs):
        there = ", ".join(each.name for each in inputs) or "none"
        raise VerificationFailed(
            f"{path.name} is not the model: its inputs are {there}, {spec.name} takes {len(spec.inputs)}",
            "name another model: --against ARCH",
        )
    inputs = in_order_of([each.name for each in spec.inputs], inputs)
    outputs = in_order_of([each.name for each in spec.outputs], outputs)
    sizes: dict[str, int] = {}
    dims = spec.architecture.dims_for(spec.config)
    for port, tensor in zip(inputs, spec.inputs, strict=True):
        for axis, name in zip(axes_of(port), tensor.shape, strict=False):
            if isinstance(axis, int) and name in dims:
                sizes[str(name)] = axis
    names: Mapping[str, Sequence[str]] = signature or {
        "inputs": [each.name for each in inputs],
        "outputs": [each.name for each in outputs],
    }
    fixed = set(dims) - set(signature["dims"]) if signature else set(sizes)
    options = ExportOptions(
        fixed=frozenset(fixed), input_names=tuple(names["inputs"]), output_names=tuple(names["outputs"])
    )
    return spec.with_sizes({name: sizes[name] for name in fixed if name in sizes}), options


def in_order_of(names: Sequence[str], ports: "Sequence[ValueInfoProto]") -> "list[ValueInfoProto]":
    """Return the ports of a file in the order of the names in the model: a port belongs to its own name.

    Those with names that the model doesn't have are taken in the order that they have in the file.
    """
    by_name = {each.name: each for each in ports}
    others = [each for each in ports if each.name not in names]
    found = [
        by_name[name] if name in by_name else others.pop(0) for name in names if name in by_name or others
    ]
    return [*found, *others]


def _exporter(request: VerifyRequest) -> Exporter:
    offered = {each.suffix: each for each in (formats.PT2, *request.host.exporters())}
    exporter = offered.get(request.path.suffix)
    if exporter is None:
        suffixes = [".onnx", ".safetensors", metadata.INDEX, *offered]
        raise UsageProblem(
            f"{request.path} has no known format by its name",
            did_you_mean(request.path.suffix, suffixes) or f"one ends in {', '.join(suffixes)}",
        )
    formats.find(exporter.name, request.host)
    if exporter.run is None:
        raise UsageProblem(f"format {exporter.name} can't be run, so nothing can be proven", "ask its author")
    return exporter


def _declared(request: VerifyRequest, exporter: Exporter) -> Proof:
    spec, options = request.spec, ExportOptions()
    if exporter is formats.PT2 and metadata.is_ours(request.path):
        signature = metadata.read(request.path)["signature"]
        dims = spec.architecture.dims_for(spec.config)
        options = ExportOptions(fixed=frozenset(set(dims) - set(signature["dims"])))
    if spec.weights is not None and not request.named:
        raise UsageProblem(
            f"{request.path.name} was made with the weights {spec.weights}", "name the file: --weights FILE"
        )
    module = build_module(spec, request.host)
    fill_lazy(module, spec, request.inputs)
    plan: Plan = make_plan(spec, module, options, request.inputs)
    file = formats.DeclaredFile(exporter, request.path, plan)
    return Prover(module, plan, request.progress).prove(file)
