"""Read an ONNX model: its inputs, and the sizes and dims of their axes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nnkit.contract.axes import size_of
from nnkit.errors import VerificationFailed
from nnkit.models.onnx_values import OnnxFileParts, read_parts

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto


def read(path: Path) -> OnnxFileParts:
    """Return the model in a file, and the places of its large values, which are left where they are.

    Raises VerificationFailed for a file that is not an ONNX model.
    """
    from google.protobuf.message import DecodeError

    try:
        return read_parts(path)
    except (DecodeError, ValueError) as error:
        raise VerificationFailed(f"{path.name} is not an ONNX model: {error}", "export it again") from error


def load(path: Path) -> "ModelProto":
    """Return the model in a file without its large values; raises as `read` does."""
    return read(path).model


def ports_of(graph: "GraphProto") -> "list[ValueInfoProto]":
    """Return the inputs of a graph that are not weights."""
    weights = {initializer.name for initializer in graph.initializer}
    return [port for port in graph.input if port.name not in weights]


def axes_of(port: "ValueInfoProto") -> list[int | str]:
    """Return, per axis, its size or the name of its dim, `?` where it has neither."""
    shape = port.type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in shape]


def evaluate(expression: str, sizes: Mapping[str, int]) -> int | None:
    """Return the value of `2*height - 1`, or None where a name or function in it is unknown."""
    try:
        return size_of(expression, sizes)
    except (KeyError, ValueError):
        return None
