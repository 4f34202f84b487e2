"""Write an ONNX model tensor by tensor, straight from the memory of the weights.

Serializing a model as a whole takes three more copies of its weights: each as bytes, all in a ModelProto, and
the text of that. Here the model is serialized without them, and they are put where they belong while the file
is written. The bytes are those that onnx.save writes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from nnkit.models.onnx_values import GRAPH, INITIALIZER, RAW_DATA, SMALLEST, opening

if TYPE_CHECKING:
    import onnx
    import onnx_ir
    from google.protobuf.message import Message
    from torch.onnx import ONNXProgram

ELSEWHERE = "elsewhere"
LARGEST_INLINE = 1536 * 2**20  # bytes of weights; protobuf ends at 2 GiB, and torch leaves room below that


class _Piece(NamedTuple):
    """A part of the file: how many bytes, and what writes them."""

    length: int
    write: Callable[[IO[bytes]], Any]


def save(program: "ONNXProgram", path: Path, external_data: bool | None) -> None:
    """Write a program to `path`, with large weights in a file beside it if so asked, or if there are many."""
    model = program.model
    initializers = model.graph.initializers.values()
    size = sum(value.const_value.nbytes for value in initializers if value.const_value is not None)
    if external_data or size > LARGEST_INLINE:
        program.save(str(path), external_data=True)  # streams them
        return
    with path.open("wb") as file:
        for piece in _pieces(model):
            piece.write(file)


def _pieces(model: "onnx_ir.Model") -> Iterator[_Piece]:
    """Yield the parts of the file in the order of its bytes."""
    import onnx_ir

    with _without_values(model) as weights:
        whole = onnx_ir.to_proto(model)
    before_graph, after_graph = _cut(whole, GRAPH)
    before, after = _cut(whole.graph, INITIALIZER)
    tensors = [_pieces_of(tensor, weights) for tensor in whole.graph.initializer]
    sizes = [sum(piece.length for piece in pieces) for pieces in tensors]
    openings = [opening(INITIALIZER, size) for size in sizes]
    size_of_graph = len(before) + sum(sizes) + sum(map(len, openings)) + len(after)
    yield _piece(before_graph + opening(GRAPH, size_of_graph) + before)
    for start, pieces in zip(openings, tensors, strict=True):
        yield _piece(start)
        yield from pieces
    yield _piece(after + after_graph)


def _pieces_of(tensor: "onnx.TensorProto", weights: dict[str, Any]) -> list[_Piece]:
    """Return the parts of one initializer."""
    weight = weights.get(tensor.name)
    if weight is None:
        return [_piece(tensor.SerializeToString())]
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    before, after = _cut(tensor, RAW_DATA)
    size = weight.nbytes
    return [_piece(before + opening(RAW_DATA, size)), _Piece(size, weight.tofile), _piece(after)]


def _piece(content: bytes) -> _Piece:
    return _Piece(len(content), partial(_write, content))


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


@contextmanager
def _without_values(model: "onnx_ir.Model") -> "Iterator[dict[str, Any]]":
    """Take the large weights out of a model for the length of the block; yield them by name."""
    import onnx_ir

    weights: dict[str, Any] = {}
    values = [value for value in model.graph.initializers.values() if _is_large(value.const_value)]
    for value in values:
        weight: Any = value.const_value
        weights[str(value.name)] = weight
        # Serialized as it is: the name of a file, and no values.
        value.const_value = onnx_ir.ExternalTensor(
            ELSEWHERE,
            None,
            None,
            weight.dtype,
            shape=weight.shape,
            name=str(value.name),
            doc_string=weight.doc_string,
            metadata_props=dict(weight.metadata_props),
        )
    try:
        yield weights
    finally:
        for value in values:
            value.const_value = weights[str(value.name)]


def _is_large(weight: "onnx_ir.TensorProtocol | None") -> bool:
    """Whether a weight is large, and in memory with a byte or more for each element."""
    import onnx_ir

    if weight is None or isinstance(weight, (onnx_ir.ExternalTensor, onnx_ir.StringTensor)):
        return False
    return weight.dtype.itemsize >= 1 and weight.nbytes >= SMALLEST and hasattr(weight, "tofile")


def _cut(message: "Message", number: int) -> tuple[bytes, bytes]:
    """Return the bytes of a message before a field and after it; fields are written in order of number."""
    before, after = type(message)(), type(message)()
    before.CopyFrom(message)
    after.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.number >= number:
            before.ClearField(field.name)
        if field.number <= number:
            after.ClearField(field.name)
    return before.SerializeToString(), after.SerializeToString()
