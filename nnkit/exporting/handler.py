"""ExportRequest -> ExportReport."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from nnkit.building import build_module
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.exporting.files import staged
from nnkit.exporting.proof import prove
from nnkit.exporting.report import Check, ExportReport
from nnkit.exporting.sizes import other_sizes, traced_sizes
from nnkit.hookspecs import ExportRequest
from nnkit.sampling import Inputs, sample_inputs
from nnkit.tensors import tensors_in

FORMATS = ("onnx", "safetensors")


def export(request: ExportRequest) -> ExportReport:
    """Write the file beside its target, prove it, and only then let it take its place."""
    if request.format not in FORMATS:
        raise UsageProblem(
            f"unknown format {request.format!r}",
            did_you_mean(request.format, FORMATS) or f"one of: {', '.join(FORMATS)}",
        )
    with staged(request.path, request.force) as path:
        request.progress(f"building {request.spec.name}")
        module = build_module(request.spec, request.host)
        opset, checks = (_onnx if request.format == "onnx" else _safetensors)(request, module, path)
        size = sum(file.stat().st_size for file in path.parent.iterdir())
    verified = request.verify and bool(checks)
    return ExportReport(request.spec, str(request.path), request.format, size, verified, checks, opset)


def _safetensors(request: ExportRequest, module: nn.Module, path: Path) -> tuple[None, tuple[Check, ...]]:
    from nnkit.exporting.safetensors import prove_safetensors, write_safetensors

    write_safetensors(module, request.spec, path)
    if not request.verify:
        return None, ()
    request.progress("reading the file back")
    return None, prove_safetensors(path, module, request.spec, request.host)


def _onnx(request: ExportRequest, module: nn.Module, path: Path) -> tuple[int, tuple[Check, ...]]:
    from nnkit.exporting.onnx import write_onnx

    spec = request.spec
    if spec.dtype == "bfloat16":
        raise UsageProblem(
            "ONNX Runtime runs no bfloat16 on the CPU, so nothing could be proven",
            "use --dtype float16 or float32",
        )
    runs = dict(_runs(request))
    traced = next(iter(runs.values()))
    with torch.inference_mode():
        names = _output_names(request, len(list(tensors_in(module(*(each.clone() for each in traced))))))
    request.progress("exporting through torch.onnx")
    opset = write_onnx(module, spec, traced, names, path, request.opset)
    return opset, prove(path, module, names, runs, request.progress) if request.verify else ()


def _runs(request: ExportRequest) -> Iterator[tuple[tuple[tuple[str, int], ...], Inputs]]:
    """Yield (sizes, inputs): first those to trace with, then the others to prove at."""
    if request.inputs is not None:
        yield (), request.inputs
        return
    spec = request.spec
    dims = spec.architecture.dims_for(spec.config)
    traced = traced_sizes(dims, spec.sizes)
    for number, sizes in enumerate([traced, *other_sizes(dims, traced)]):
        yield tuple(sizes.items()), sample_inputs(spec, sizes=sizes, seed=spec.seed + number)


def _output_names(request: ExportRequest, count: int) -> list[str]:
    declared = [tensor.name for tensor in request.spec.outputs]
    if len(declared) == count:
        return declared
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
