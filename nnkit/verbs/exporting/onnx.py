"""Module -> ONNX file, by way of torch.export, with every free dim dynamic under its own name.

The graph is optimized while its weights are inputs; their values are put in afterwards. So the graph doesn't
depend on their values, and each weight is in the file under its own name, bit for bit. What is proven about
the graph with other weights is then true with these. (Folding weights into each other is left to
`--optimize`, and to the runtime that loads the file, which does the same.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nnkit import __version__
from nnkit.contract.requests import ExportOptions
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, VerificationFailed, first_line
from nnkit.models.onnx_scopes import NAMESPACE, scopes_of, text_of
from nnkit.models.tensors import registered
from nnkit.verbs.exporting.bounds import Guard, broken_guards, check_ranges
from nnkit.verbs.exporting.capture import capture, export_failure, quiet, without_collector
from nnkit.verbs.exporting.flat_forward import identifiers_of, with_flat_forward
from nnkit.verbs.exporting.onnx_writer import save
from nnkit.verbs.exporting.plan import Plan
from nnkit.verbs.exporting.scatters import scatter_in_order

if TYPE_CHECKING:
    import onnx_ir
    from torch.onnx import ONNXProgram

DEFAULT_OPSET = 20


@dataclass(frozen=True)
class Written:
    """The opset of the written file, and the guards that torch relied on and that the file lacks."""

    opset: int
    guards: list[Guard]


def write_onnx(module: nn.Module, plan: Plan, options: ExportOptions, path: Path) -> Written:
    """Write `module`, traced on the first run of the plan, to `path`.

    Raises NnkitError when torch can't export it, VerificationFailed when torch writes a different opset or
    the graph is right for fewer sizes than are declared.
    """
    with without_collector():
        return _write(module, plan, options, path)


def _write(module: nn.Module, plan: Plan, options: ExportOptions, path: Path) -> Written:
    program = _trace(module, plan, options.opset or DEFAULT_OPSET)
    captured = program.exported_program
    guards: list[Guard] = []
    if captured is not None:
        check_ranges(captured, plan.spec.reference, plan.dynamic, plan.dims)
        guards = broken_guards(captured, plan.dynamic, plan.dims)
    opset = program.model.opset_imports[""]
    if options.opset is not None and opset != options.opset:
        raise VerificationFailed(
            f"opset {options.opset} was requested, but torch wrote {opset}",
            f"leave out --opset, or use --opset {opset}",
        )
    _optimize_graph(program, {name: plan.initializer_name(name) for name in registered(module)})
    scatter_in_order(program.model)
    _name_axes(program.model, plan)
    if options.float32_io:
        _convert_ports_to_float32(program.model)
    _describe(program.model, plan.spec, type(module).__name__)
    save(program, path, options.external_data)
    return Written(opset, guards)


def _trace(module: nn.Module, plan: Plan, opset: int) -> "ONNXProgram":
    def export(captured: nn.Module) -> "ONNXProgram | None":
        return torch.onnx.export(
            captured,
            plan.traced,
            dynamo=True,
            optimize=False,
            input_names=plan.input_names,
            output_names=plan.output_names,
            # A plain name makes torch refuse a dim that it finds to be constant; Dim.AUTO would not.
            dynamic_shapes=plan.dynamic,
            opset_version=opset,
            verbose=False,
        )

    signature = plan.spec.signature
    try:
        program = capture(export, with_flat_forward(module, signature), plan.traced, {})
    except Exception as error:
        inputs = dict(zip(identifiers_of(signature.names), plan.inputs, strict=True))
        raise export_failure(error, plan.spec.reference, inputs, plan.spec.without) from error
    if program is None:
        raise NnkitError(f"torch exported nothing for {plan.spec.reference}", "see the full error with -v")
    return program


def _optimize_graph(program: "ONNXProgram", names: Mapping[str, str]) -> None:
    """Fold constants and simplify, with the weights as inputs; then put back the weights that are read.

    names: the name of each tensor in the module -> its name in the file.
    """
    graph = program.model.graph
    weights = [value for name, value in graph.initializers.items() if name in names]
    values = {}
    for weight in weights:
        del graph.initializers[weight.name]  # type: ignore[arg-type]
        weight.name = names[str(weight.name)]
        values[weight], weight.const_value = weight.const_value, None
        graph.inputs.append(weight)
    with quiet():
        program.optimize()
    graph = program.model.graph
    for weight in weights:
        graph.inputs.remove(weight)
        if weight.uses() or weight.is_graph_output():
            weight.const_value = values[weight]
            graph.register_initializer(weight)
    for name, constant in list(graph.initializers.items()):  # torch leaves those that a loop no longer reads
        if not constant.uses() and not constant.is_graph_output():
            del graph.initializers[name]


def _name_axes(model: "onnx_ir.Model", plan: Plan) -> None:
    """Give the axes of inputs and outputs their declared names, where torch wrote expressions of its own."""
    import onnx_ir

    declared = (*plan.inputs, *plan.outputs)
    for tensor, port in zip(declared, (*model.graph.inputs, *model.graph.outputs), strict=True):
        if port.shape is None or len(tensor.shape) != len(port.shape):
            continue
        for axis, name in enumerate(tensor.shape):
            if plan.is_free(name) and isinstance(port.shape[axis], onnx_ir.SymbolicDim):
                port.shape[axis] = plan.axis_in_file(name)


def _convert_ports_to_float32(model: "onnx_ir.Model") -> None:
    """Cast each float16 input from float32 and each float16 output to float32."""
    import onnx_ir
    from onnx_ir import DataType

    def float32_port_for(port: onnx_ir.Value) -> onnx_ir.Value:
        """Return a float32 value with the name of a float16 port, which gets a different one."""
        float32 = onnx_ir.Value(name=port.name, shape=port.shape, type=onnx_ir.TensorType(DataType.FLOAT))
        port.name = f"{port.name}_float16"
        return float32

    graph = model.graph
    for index, port in enumerate(list(graph.inputs)):
        if port.dtype == DataType.FLOAT16:
            graph.inputs[index] = float32_port_for(port)
            cast = onnx_ir.node("Cast", [graph.inputs[index]], {"to": DataType.FLOAT16}, outputs=[port])
            graph.insert_before(graph[0], cast)
    for index, port in enumerate(list(graph.outputs)):
        if port.dtype == DataType.FLOAT16:
            float32 = float32_port_for(port)
            graph.append(onnx_ir.node("Cast", [port], {"to": DataType.FLOAT}, outputs=[float32]))
            graph.outputs[index] = float32


def _describe(model: "onnx_ir.Model", spec: ModelSpec, name: str) -> None:
    """Remove stack traces and local paths, so that the bytes are reproducible; name the producer.

    Each node keeps the modules that it comes from, in torch's own form, which viewers of files read. name:
    the class of the model.
    """
    import onnx_ir

    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        # What torch exports is a wrapper around the model.
        scopes = scopes_of(node.metadata_props.get(NAMESPACE, ""))
        node.metadata_props.clear()
        if scopes:
            node.metadata_props[NAMESPACE] = text_of([("", name), *scopes[1:]])
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    model.producer_name, model.producer_version = "nnkit", __version__
    model.graph.name, model.doc_string = spec.architecture.name, spec.architecture.summary


def optimize_file(path: Path, target: Path) -> None:
    """Write the file as ONNX Runtime optimizes it: constants folded, layers merged, standard operators only.

    Raises NnkitError when it can't.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    try:
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise NnkitError(
            f"ONNX Runtime can't optimize {path.name}: {first_line(error)}", "leave out --optimize"
        ) from error
    model = onnx.load(target)
    used = {node.domain for node in model.graph.node} | {""}
    for entry in list(model.opset_import):
        if entry.domain not in used:
            model.opset_import.remove(entry)
    original = onnx.load(path, load_external_data=False)
    for attribute in ("producer_name", "producer_version", "doc_string"):
        setattr(model, attribute, getattr(original, attribute))
    onnx.save(model, target)
