"""The shapes that forward's annotations state, read as text: nothing is imported for them. Torch-free.

x: Float[Tensor, "batch 3 224 224"]   ->   x: float32[batch, 3, 224, 224]
x: "float32[batch, 8]"                ->   x: float32[batch, 8]
"""

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

from nnkit.contract.input_declarations import parse_inputs
from nnkit.errors import UsageProblem

DTYPES = {
    "Float": "float32", "Float16": "float16", "Float32": "float32", "Float64": "float64",
    "BFloat16": "bfloat16", "Num": "float32", "Shaped": "float32", "Real": "float32", "Inexact": "float32",
    "Complex": "complex64", "Complex64": "complex64", "Complex128": "complex128",
    "Int": "int64", "Int8": "int8", "Int16": "int16", "Int32": "int32", "Int64": "int64", "Integer": "int64",
    "UInt": "uint8", "UInt8": "uint8", "Bool": "bool",
}  # fmt: skip
"""The dtypes of jaxtyping's names; a name for several has the usual one."""

BATCHES = frozenset({"B", "N", "b", "n", "bs", "bsz", "batch_size"})
"""Names of a first axis that holds the samples."""

AXIS = re.compile(r"[?#]*((?P<name>[A-Za-z_]\w*)=)?(?P<size>\d+)|[?#]*(?P<free>[A-Za-z]\w*)")


def declared_in_annotations(forward: Callable[..., Any]) -> dict[str, str]:
    """Return, for each parameter whose annotation states its dtype and every axis, the input as typed."""
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (ValueError, TypeError):
        return {}
    declared = {}
    for parameter in parameters:
        if parameter.annotation is not parameter.empty:
            text = _read(parameter.name, parameter.annotation)
            if text is not None:
                declared[parameter.name] = text
    return declared


def _read(name: str, annotation: Any) -> str | None:
    """Return an annotation as an input that can be typed, or None."""
    if not isinstance(annotation, str):
        return _read_object(name, annotation)
    if (tensor := _parse(f"{name}: {annotation}")) is not None:
        return tensor
    try:
        tree = ast.parse(annotation.strip(), mode="eval").body
    except SyntaxError:
        return None
    match tree:
        case ast.Constant(value=str(inner)):  # "float32[batch, 8]" under `from __future__ import annotations`
            return _read(name, inner)
        case ast.Subscript(value=kind, slice=ast.Tuple(elts=[_, ast.Constant(value=str(axes))])):
            return _declare(name, ast.unparse(kind).rpartition(".")[2], axes)
    return None


def _parse(text: str) -> str | None:
    """Return the text if it is in the grammar of --input."""
    try:
        (tensor,) = parse_inputs([text]).tensors
    except (UsageProblem, ValueError):
        return None
    return text if tensor.dtype in {"float", *DTYPES.values()} else None


def _read_object(name: str, annotation: Any) -> str | None:
    """Read an annotation that was evaluated: jaxtyping's have their axes in `dim_str`."""
    axes = getattr(annotation, "dim_str", None)
    kind = getattr(getattr(annotation, "dtype", None), "__name__", "")
    return _declare(name, kind, axes) if isinstance(axes, str) else None


def _declare(name: str, kind: str, axes: str) -> str | None:
    """Return the input for `Float` and `"batch 3 h w"`; None where an axis says nothing (`...`, `_`)."""
    dtype = DTYPES.get(kind)
    found = [AXIS.fullmatch(axis) for axis in axes.split()]
    if dtype is None or any(match is None for match in found):
        return None
    shape = [str(match["size"] or match["free"]) for match in found if match]
    if shape and shape[0] in BATCHES:
        shape[0] = "batch"
    return _parse(f"{name}: {dtype}[{', '.join(shape)}]")
