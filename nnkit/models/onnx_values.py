"""An ONNX file without the values of its large tensors, and those values one at a time, mapped from disk.

A model in protobuf is read as a whole: a file of 1 GB takes 2 GB of memory before anything is known about
it. So the messages are walked first, and the values left where they are:

    model ─ graph ─ initializer ─┬ dims, data_type, name     read
                                 └ raw_data                  only its place in the file is kept
"""

import mmap
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

SMALLEST = 2**12  # bytes; smaller values are read with the model
BLOCK = 2**22  # bytes copied at a time
# Numbers of fields in the schema of ONNX, and the wire types of protobuf.
GRAPH, INITIALIZER, NAME, RAW_DATA = 7, 5, 8, 9
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Array: TypeAlias = Any


class Place(NamedTuple):
    """Where the values of a tensor are in a file, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class OnnxFileParts:
    """A model without some of its values, and the places of those in its file, by the name of the tensor."""

    path: Path
    model: "ModelProto"
    places: dict[str, Place]

    def values(self, tensor: "TensorProto") -> Array:
        """Return the values of an initializer. They are mapped, so that only what is read takes memory.

        Raises ValueError, OSError or what onnx raises where they can't be read.
        """
        import numpy as np
        import onnx

        path, place = self._place(tensor)
        if place is None or not place.length or sys.byteorder == "big" or _is_packed(tensor):
            return onnx.numpy_helper.to_array(self.whole(tensor), base_dir=str(self.path.parent))
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        values = np.memmap(path, np.uint8, "c", place.offset, (place.length,))
        return values.view(np.ndarray).view(dtype).reshape(tuple(tensor.dims))

    def whole(self, tensor: "TensorProto") -> "TensorProto":
        """Return an initializer with its values in it, unless they are in a different file."""
        import onnx

        place = self.places.get(tensor.name)
        filled = onnx.TensorProto()
        filled.CopyFrom(tensor)
        if place is not None and not tensor.raw_data:
            with self.path.open("rb") as file:
                file.seek(place.offset)
                filled.raw_data = file.read(place.length)
        return filled

    @property
    def size(self) -> int:
        """The bytes of the values that were not read."""
        return sum(place.length for place in self.places.values())

    def spread(self, folder: Path) -> Path:
        """Write the same model to `folder`, its large values in a file beside it; return the model's file.

        Readers of such a pair map the values. They start at multiples of 64 bytes, as in memory.
        """
        import onnx

        target, model = folder / self.path.name, onnx.ModelProto()
        model.CopyFrom(self.model)
        beside = target.with_name(f"{target.name}.data")
        with self.path.open("rb") as source, beside.open("wb") as values:
            for tensor in model.graph.initializer:
                if (place := self.places.get(tensor.name)) is not None:
                    values.write(b"\0" * (-values.tell() % 64))
                    entries = {"location": beside.name, "offset": values.tell(), "length": place.length}
                    tensor.data_location = onnx.TensorProto.EXTERNAL
                    for key, value in entries.items():
                        tensor.external_data.add(key=key, value=str(value))
                    _copy(source, place, values)
        target.write_bytes(model.SerializeToString())
        return target

    def _place(self, tensor: "TensorProto") -> tuple[Path, Place | None]:
        from onnx.external_data_helper import ExternalDataInfo, uses_external_data

        if not uses_external_data(tensor):
            return self.path, self.places.get(tensor.name)
        info = ExternalDataInfo(tensor)
        path, offset = self.path.parent / info.location, info.offset or 0
        # A link, or a name that leaves the folder, is for onnx to refuse.
        if path.is_symlink() or path.resolve().parent != self.path.parent.resolve():
            return path, None
        return path, Place(offset, path.stat().st_size - offset if info.length is None else info.length)


def read_parts(path: Path) -> OnnxFileParts:
    """Return the model in a file, without the values of large initializers and of those in other files.

    Raises what onnx.load does for a file that is not an ONNX model.
    """
    import onnx

    try:
        content, places = _split(path)
        model = onnx.load_from_string(content)
    except (_Unusual, ValueError, onnx.checker.ValidationError):
        return OnnxFileParts(path, onnx.load(path, load_external_data=False), {})
    return OnnxFileParts(path, model, places)


class _Unusual(Exception):
    """A file that is written differently from all others, or is damaged: it is read as a whole."""


def _copy(source: IO[bytes], place: Place, target: IO[bytes]) -> None:
    source.seek(place.offset)
    left = place.length
    while left > 0:
        block = source.read(min(left, BLOCK))
        if not block:
            raise OSError("the file became shorter")
        target.write(block)
        left -= len(block)


def _is_packed(tensor: "TensorProto") -> bool:
    """Whether several elements share a byte."""
    import onnx

    types = ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2", "STRING")
    return onnx.TensorProto.DataType.Name(tensor.data_type) in types


def _split(path: Path) -> tuple[bytes, dict[str, Place]]:
    """Return the bytes of a model without the large values of its initializers, and where those are."""
    places: dict[str, Place] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        parts = []
        for field in _fields(content, 0, len(content)):
            if field.number == GRAPH and field.wire_type == BYTES:
                parts.append(_message(GRAPH, b"".join(_split_graph(content, field, places))))
            else:
                parts.append(content[field.start : field.end])
        return b"".join(parts), places


def _split_graph(content: mmap.mmap, graph: "_Field", places: dict[str, Place]) -> Iterator[bytes]:
    for field in _fields(content, graph.value, graph.end):
        if field.number != INITIALIZER or field.end - field.start < SMALLEST:
            yield content[field.start : field.end]
            continue
        parts = list(_fields(content, field.value, field.end))
        names = [content[part.value : part.end].decode() for part in parts if part.number == NAME]
        values = [part for part in parts if part.number == RAW_DATA]
        if len(names) != 1 or len(values) > 1 or names[0] in places:
            raise _Unusual
        large = [part for part in values if part.end - part.value >= SMALLEST]
        for part in large:
            places[names[0]] = Place(part.value, part.end - part.value)
        kept = [content[part.start : part.end] for part in parts if part not in large]
        yield _message(INITIALIZER, b"".join(kept))


class _Field(NamedTuple):
    """A field of a message: its number, and where it, its value and what follows begin."""

    number: int
    wire_type: int
    start: int
    value: int
    end: int


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message between two positions."""
    while start < end:
        key, value = _read_varint(content, start, end)
        number, wire_type = key >> 3, key & 7
        if wire_type == BYTES:
            length, value = _read_varint(content, value, end)
            after = value + length
        elif wire_type == VARINT:
            _, after = _read_varint(content, value, end)
        elif wire_type in (FIXED32, FIXED64):
            after = value + (4 if wire_type == FIXED32 else 8)
        else:
            raise _Unusual
        if after > end:
            raise _Unusual
        yield _Field(number, wire_type, start, value, after)
        start = after


def _read_varint(content: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """Return a number of protobuf, seven bits to a byte, the lowest first, and the position behind it."""
    number = 0
    for position in range(start, min(start + 10, end)):
        byte = content[position]
        number |= (byte & 0x7F) << 7 * (position - start)
        if byte < 0x80:
            return number, position + 1
    raise _Unusual


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*parts, number))


def _message(number: int, content: bytes) -> bytes:
    """Return a field that holds bytes or a message."""
    return opening(number, len(content)) + content


def opening(number: int, length: int) -> bytes:
    """Return what stands before a field that holds so many bytes."""
    return varint(number << 3 | BYTES) + varint(length)
