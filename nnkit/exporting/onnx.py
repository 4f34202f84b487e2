"""Module -> ONNX file, by way of torch.export, with every declared dim dynamic under its own name."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nnkit import __version__, metadata
from nnkit.errors import NnkitError
from nnkit.sampling import Inputs
from nnkit.spec import ModelSpec

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

DEFAULT_OPSET = 20


def write_onnx(
    module: nn.Module, spec: ModelSpec, inputs: Inputs, output_names: list[str], path: Path, opset: int | None
) -> int:
    """Write `module`, traced on `inputs`, to `path` and return the opset of the file.

    Raises NnkitError when torch can't export it.
    """
    program = _trace(module, spec, inputs, output_names, opset or DEFAULT_OPSET)
    got = program.model.opset_imports[""]
    if opset is not None and got != opset:
        raise NnkitError(
            f"opset {opset} was asked for and torch wrote {got}", f"leave --opset out, or ask for {got}"
        )
    _describe(program, spec)
    program.save(str(path))
    return got


def _trace(
    module: nn.Module, spec: ModelSpec, inputs: Inputs, output_names: list[str], opset: int
) -> "ONNXProgram":
    try:
        with _quiet(), _decompositions(), torch.inference_mode():
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                input_names=[tensor.name for tensor in spec.inputs],
                output_names=output_names,
                dynamic_shapes=_dynamic_shapes(spec),
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:
        cause = error.__cause__ or error
        raise NnkitError(
            f"torch can't export {spec.name}: {type(cause).__name__}: {str(cause).strip().splitlines()[0]}",
            "see the whole story with -v; `nnkit export --safetensors` needs no export",
        ) from error
    if program is None:
        raise NnkitError(f"torch exported nothing for {spec.name}", "see the whole story with -v")
    return program


def _dynamic_shapes(spec: ModelSpec) -> tuple[dict[int, str] | None, ...]:
    """Return, for each input, the name of the dim on each axis that is one.

    A plain name makes torch refuse a dim that it finds to be constant; `Dim.AUTO` would pass it over.
    """
    dims = spec.architecture.dims_for(spec.config)
    return tuple(
        {axis: name for axis, name in enumerate(tensor.shape) if isinstance(name, str) and name in dims}
        or None
        for tensor in spec.inputs
    )


def _describe(program: "ONNXProgram", spec: ModelSpec) -> None:
    """Put the ModelSpec in; take stack traces and local paths out, which also makes bytes repeatable."""
    import onnx_ir

    model = program.model
    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    # Of the weights' place the name alone: a file says nothing of the machine that it was made on.
    weights = spec.weights and Path(spec.weights).name
    told = replace(spec, weights=weights).to_dict()
    model.metadata_props[metadata.KEY] = metadata.encode({"nnkit": __version__, "spec": told})
    model.producer_name, model.producer_version = "nnkit", __version__
    model.graph.name, model.doc_string = spec.architecture.name, spec.architecture.summary


@contextlib.contextmanager
def _decompositions() -> Iterator[None]:
    """Let recurrent layers be exported with a dynamic number of steps, as loops.

    torch registers these for capturing alone and not for what follows, which leaves a stale number of
    steps in the outputs' shapes (pytorch#191855); registering them around the whole export mends it.
    """
    with contextlib.ExitStack() as stack:
        patches: Any = None
        with contextlib.suppress(ImportError):
            from torch.export import _patches as patches  # private: other versions may lack it
        for name in ("register_lstm_while_loop_decomposition", "register_gru_while_loop_decomposition"):
            if register := getattr(patches, name, None):
                stack.enter_context(register())
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its wall of harmless warnings from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(previous)
