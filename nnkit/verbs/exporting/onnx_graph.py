"""Read an ONNX model: its inputs, and the sizes and dims of their axes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from nnkit.contract.axes import size_of
from nnkit.errors import VerificationFailed

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto


def load(path: Path) -> "ModelProto":
    """Return the model in a file, its external weights left where they are.

    Raises VerificationFailed for a file that is not an ONNX model.
    """
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise VerificationFailed(f"{path.name} is not an ONNX model: {error}", "export it again") from error


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
