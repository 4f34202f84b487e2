"""An existing file -> VerifyReport: the proof is repeated on this machine."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from nnkit.contract.contributions import Exporter
from nnkit.contract.requests import ExportOptions, Host
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, UsageProblem, VerificationFailed, did_you_mean
from nnkit.models import metadata
from nnkit.models.building import build_module
from nnkit.models.weights import digest, load_weights
from nnkit.verbs.exporting import formats
from nnkit.verbs.exporting.calls import fill_lazy
from nnkit.verbs.exporting.coverage import perturb
from nnkit.verbs.exporting.onnx_file import OnnxFile
from nnkit.verbs.exporting.onnx_graph import axes_of, load, ports_of
from nnkit.verbs.exporting.plan import Plan, make_plan, with_output_names
from nnkit.verbs.exporting.proof import Prover, check_provable
from nnkit.verbs.exporting.report import Coverage, Proof, VerifyReport
from nnkit.verbs.exporting.safetensors import compare_states

if TYPE_CHECKING:
    from onnx import ValueInfoProto


COMPARE_WITH_OTHER = "compare it with a different model: --against ARCH"


@dataclass(frozen=True)
class VerifyRequest:
    """Prove that the file at `path` is the model of `spec`.

    named: whether the user named the weights. Otherwise they are taken from the file, if nnkit wrote it, and
    checked against their digest.
    """

    path: Path
    spec: ModelSpec
    host: Host
    named: bool
    progress: Callable[[str], None]


def verify(request: VerifyRequest) -> VerifyReport:
    """Repeat the proof.

    Raises VerificationFailed when the file is not the model, UsageProblem when the request can't decide it.
    """
    path = request.path
    if not path.is_file():
        raise UsageProblem(f"file {path} does not exist", "check the path")
    opset = None
    if path.name.endswith((".safetensors", metadata.INDEX)):
        format, proof = "safetensors", _verify_safetensors(request)
    elif path.suffix == ".onnx":
        check_provable(request.spec)
        format, (proof, opset) = "onnx", _verify_onnx(request)
    else:
        exporter = _find_exporter(request)
        check_provable(request.spec)
        format, proof = exporter.name, _verify_declared(request, exporter)
    return VerifyReport(request.spec, str(path), format, {path.name: path.stat().st_size}, proof, opset)


def _verify_safetensors(request: VerifyRequest) -> Proof:
    module = build_module(request.spec, request.host)
    fill_lazy(module, request.spec)
    stored = copy.deepcopy(module)
    try:
        load_weights(stored, request.path)
    except NnkitError as error:
        raise VerificationFailed(
            f"{request.path.name} is not the model: {error.message}", error.hint
        ) from error
    return compare_states(request.path.name, module.state_dict(), stored.state_dict())


def _verify_onnx(request: VerifyRequest) -> tuple[Proof, int | None]:
    stamp = metadata.read(request.path) if metadata.is_ours(request.path) else {}
    spec, options = _read_signature(request.path, request.spec, stamp.get("signature"))
    takes_weights = spec.weights is not None and not request.named
    module = build_module(replace(spec, weights=None) if takes_weights else spec, request.host)
    fill_lazy(module, spec)
    try:
        plan = make_plan(spec, module, replace(options, output_names=None))
        plan = with_output_names(plan, options.output_names or ())
    except UsageProblem as problem:  # the names are those of the file's inputs and outputs
        raise VerificationFailed(
            f"{request.path.name} is not the model: it has {problem.message}", COMPARE_WITH_OTHER
        ) from problem
    # In files that nnkit did not write, or that were optimized, values are found by content.
    exact = bool(stamp) and not stamp.get("optimized")
    file = OnnxFile(request.path, module, plan, exact)
    if takes_weights:
        _take_weights(file, module, stamp)
    if stamp:
        file.check_signature()
    proof = Prover(module, plan, request.progress).prove(file)
    if not exact:
        _check_unknown(file, module, plan)
        proof = replace(proof, coverage=proof.coverage and _adapt_coverage(proof.coverage, file))
    _check_no_less(file.name, stamp.get("proof"), proof)
    return proof, file.opset


def _check_unknown(file: OnnxFile, module: nn.Module, plan: Plan) -> None:
    """Raise VerificationFailed for a tensor that is not in the module and that no output depends on."""
    unproven = file.without_effect(module, file.unknown) if file.unknown else []
    if unproven:
        other = perturb(module, plan.spec.signature, plan.samples, file.replaceable)
        unproven = unproven if other is None else file.without_effect(other, unproven)
    if unproven:
        raise VerificationFailed(
            f"{file.name} is not proven: its tensor {unproven[0]} is not in the model, and no output "
            "depends on it, so it could hold anything",
            "export it again without folding constants, so that tensors keep their names and values",
        )


def _adapt_coverage(coverage: Coverage, file: OnnxFile) -> Coverage:
    """Return the coverage of a file in which every value is known or shows in an output.

    Only parameters that are in the file can be unproven. Those that were folded into others, or that share
    an initializer with equal ones, are proven with them.
    """
    if coverage.proven is None:
        return coverage
    unproven = tuple(name for name in coverage.unproven if name in file.weights)
    count = sum(file.parameters[name].numel() for name in unproven)
    return replace(coverage, proven=coverage.parameters - count, unproven=unproven)


def _check_no_less(name: str, stamped: Mapping[str, Any] | None, proof: Proof) -> None:
    """Raise VerificationFailed where the proof covers less than the one that was stamped into the file."""
    before, now = (stamped or {}).get("coverage"), proof.coverage
    if not before or before["share"] is None or now is None:
        return
    lost = sorted(set(now.unproven) - set(before["unproven"]))
    if now.share is None or (lost and now.share < before["share"]):
        raise VerificationFailed(
            f"{name} is not proven: when it was exported, an output depended on "
            f"{', '.join(lost[:3]) or 'its weights'}, and now none does",
            "give inputs like those of the export, or export it again",
        )


def _take_weights(file: OnnxFile, module: nn.Module, stamp: Mapping[str, Any]) -> None:
    """Load the weights of a file into the module, if they have not changed since it was written."""
    stored = file.stored()
    if stamp.get("optimized"):
        raise UsageProblem(
            f"the weights of {file.name} are folded into each other",
            "name the file that they came from: --weights FILE",
        )
    if digest(stored) != stamp.get("sha256"):
        raise VerificationFailed(
            f"{file.name} is not the model: its weights have changed since it was written (sha256)",
            file.mismatch or "download or export it again",
        )
    module.load_state_dict(stored, strict=False)


def _read_signature(
    path: Path, spec: ModelSpec, signature: Mapping[str, Any] | None
) -> tuple[ModelSpec, ExportOptions]:
    """Return the spec at the sizes that are fixed in the file, and the options that give its names.

    signature: what nnkit wrote into the file about its names and dims, if nnkit wrote it.
    """
    graph = load(path).graph
    inputs, outputs = ports_of(graph), list(graph.output)
    if len(inputs) != len(spec.inputs):
        names = ", ".join(port.name for port in inputs) or "none"
        raise VerificationFailed(
            f"{path.name} is not the model: its inputs are {names}, "
            f"but {spec.reference} takes {len(spec.inputs)}",
            COMPARE_WITH_OTHER,
        )
    inputs = sort_ports([tensor.name for tensor in spec.inputs], inputs)
    outputs = sort_ports([tensor.name for tensor in spec.outputs], outputs)
    dims = spec.dims
    sizes = _fixed_sizes(spec, inputs, dims)
    if not signature:
        fixed, input_names, output_names = set(sizes), _names_of(inputs), _names_of(outputs)
    else:
        fixed = set(dims) - set(signature["dims"])
        input_names, output_names = tuple(signature["inputs"]), tuple(signature["outputs"])
    options = ExportOptions(fixed=frozenset(fixed), input_names=input_names, output_names=output_names)
    return spec.with_sizes({name: sizes[name] for name in fixed if name in sizes}), options


def _fixed_sizes(
    spec: ModelSpec, inputs: "Sequence[ValueInfoProto]", dims: Collection[str]
) -> dict[str, int]:
    """Return the dims that have a constant size on an input of the file, with that size."""
    sizes: dict[str, int] = {}
    for port, tensor in zip(inputs, spec.inputs, strict=True):
        for size, name in zip(axes_of(port), tensor.shape, strict=False):
            if isinstance(size, int) and name in dims:
                sizes[str(name)] = size
    return sizes


def _names_of(ports: "Sequence[ValueInfoProto]") -> tuple[str, ...]:
    return tuple(port.name for port in ports)


def sort_ports(names: Sequence[str], ports: "Sequence[ValueInfoProto]") -> "list[ValueInfoProto]":
    """Return the ports of a file in the order of the model's names; each port belongs to its own name.

    A port may have `_` for the dots of a name. Ports with names that the model doesn't have fill the gaps, in
    the order of the file.

        names a, b.0, c   ports c, x, b_0   ->   x, b_0, c
    """
    others = {port.name: port for port in ports}
    own = {name: others.pop(name) for name in names if name in others}
    for name in names:
        if name not in own and (written := name.replace(".", "_")) in others:
            own[name] = others.pop(written)
    rest = list(others.values())
    ordered = []
    for name in names:
        if name in own:
            ordered.append(own[name])
        elif rest:
            ordered.append(rest.pop(0))
    return [*ordered, *rest]


def _find_exporter(request: VerifyRequest) -> Exporter:
    offered = {exporter.suffix: exporter for exporter in (formats.PT2, *request.host.exporters())}
    exporter = offered.get(request.path.suffix)
    if exporter is None:
        suffixes = [".onnx", ".safetensors", metadata.INDEX, *offered]
        raise UsageProblem(
            f"the name of {request.path} doesn't end like that of a known format",
            did_you_mean(request.path.suffix, suffixes) or f"known endings: {', '.join(suffixes)}",
        )
    formats.find(exporter.name, request.host)
    if exporter.run is None:
        raise UsageProblem(
            f"files of format {exporter.name} can't be run, so nothing can be proven",
            "report it to the author of the format",
        )
    return exporter


def _verify_declared(request: VerifyRequest, exporter: Exporter) -> Proof:
    spec, options = request.spec, ExportOptions()
    if exporter is formats.PT2 and metadata.is_ours(request.path):
        signature = metadata.read(request.path)["signature"]
        dims = spec.dims
        options = ExportOptions(fixed=frozenset(set(dims) - set(signature["dims"])))
    if spec.weights is not None and not request.named:
        raise UsageProblem(
            f"{request.path.name} was exported with the weights {spec.weights}",
            "name the file: --weights FILE",
        )
    module = build_module(spec, request.host)
    fill_lazy(module, spec)
    plan: Plan = make_plan(spec, module, options)
    with formats.known_to_torch(exporter, module, plan):
        file = formats.DeclaredFile(exporter, request.path, module, plan)
        return Prover(module, plan, request.progress).prove(file)
