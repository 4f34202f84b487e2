"""The header of a safetensors file: names, dtypes, shapes and offsets, checked against the file. Torch-free.

The format: 8 bytes with the length of a header, the header in JSON, then the values.
https://huggingface.co/docs/safetensors
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nnkit.contract.visible import brief
from nnkit.errors import damaged_file, first_line

LENGTH_BYTES = 8  # at the beginning of a file
LARGEST_HEADER = 100_000_000  # bytes, the limit of the format
MOST_AXES = 64
METADATA = "__metadata__"
DTYPES = {
    "F64": ("float64", 64),
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "I64": ("int64", 64),
    "I32": ("int32", 32),
    "I16": ("int16", 16),
    "I8": ("int8", 8),
    "U64": ("uint64", 64),
    "U32": ("uint32", 32),
    "U16": ("uint16", 16),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
    "C64": ("complex64", 64),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F6_E2M3": ("float6_e2m3fn", 6),
    "F6_E3M2": ("float6_e3m2fn", 6),
    "F4": ("float4_e2m1fn", 4),
}
"""For each dtype of the format, torch's name and the bits of an element."""


@dataclass(frozen=True)
class Entry:
    """A tensor: its dtype by torch's name, its shape, and its range of bytes among the values."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """The metadata of a file, and its tensors in the order of the header."""

    metadata: Mapping[str, str]
    entries: tuple[Entry, ...]


def read_header(path: Path) -> Header:
    """Return the header of a file. Raises NnkitError where it contradicts the file or the format."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = header_length(file.read(LENGTH_BYTES), size, path)
        return parse_header(file.read(length), size, path)


def header_length(beginning: bytes, size: int, origin: object) -> int:
    """Return the bytes of the header of a file of `size` bytes, which its first LENGTH_BYTES say.

    origin: what errors call the file. Raises NnkitError where the header can't be that long.
    """
    length = int.from_bytes(beginning, "little")
    if len(beginning) < LENGTH_BYTES or length > min(size - LENGTH_BYTES, LARGEST_HEADER):
        raise damaged_file(origin, f"its header claims {length:,} bytes, but the file has {size:,}")
    return length


def parse_header(text: bytes, size: int, origin: object) -> Header:
    """Return the header with this text, of a file of `size` bytes.

    Raises NnkitError where it contradicts the file or the format.
    """
    try:
        content = _parse_content(text)
        metadata = _parse_metadata(content.pop(METADATA, {}))
        entries = tuple(_parse_entry(name, fields) for name, fields in content.items())
        _check_offsets(entries, size - LENGTH_BYTES - len(text))
    except _Invalid as error:
        raise damaged_file(origin, str(error)) from error
    return Header(metadata, entries)


class _Invalid(Exception):
    """A claim in a header that can't be true."""


def _parse_content(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(
            text.decode("utf-8"), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise _Invalid("its header is nested too deeply") from error
    except ValueError as error:
        raise _Invalid(f"its header is not JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise _Invalid("its header is not a mapping")
    return content


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        [(duplicate, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise _Invalid(f"its header has {brief(duplicate)} twice")
    return content


def _refuse_constant(constant: str) -> NoReturn:
    raise _Invalid(f"its header is not JSON: {constant}")


def _parse_metadata(content: Any) -> dict[str, str]:
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise _Invalid(f"its {METADATA} is not a mapping of text to text")
    for text in (*content, *content.values()):
        _check_text(text)
    return content


def _parse_entry(name: str, fields: Any) -> Entry:
    _check_text(name)
    try:
        dtype, shape, (begin, end) = fields["dtype"], fields["shape"], fields["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError) as error:
        raise _Invalid(f"the entry of {brief(name)} in its header can't be read") from error
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _Invalid(f"{brief(name)} has the unknown dtype {brief(dtype)}")
    if not isinstance(shape, list) or len(shape) > MOST_AXES or not all(map(_is_size, numbers)):
        raise _Invalid(f"{brief(name)} has the shape {brief(shape)} at {brief([begin, end])}")
    torch_dtype, bits = DTYPES[dtype]
    entry = Entry(name, torch_dtype, tuple(shape), begin, end)
    if entry.elements * bits != (end - begin) * 8:
        needed = -(-entry.elements * bits // 8)
        raise _Invalid(f"{brief(name)} has {end - begin:,} bytes, but its dtype and shape need {needed:,}")
    return entry


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number < 2**63


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Invalid(f"its header has the text {brief(text)}, which is not Unicode") from error


def _check_offsets(entries: tuple[Entry, ...], space: int) -> None:
    """Check that the tensors follow each other without gaps and fill the file."""
    reached = 0
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != reached or entry.end < entry.begin:
            raise _Invalid(f"{brief(entry.name)} doesn't begin where the tensor before it ends")
        reached = entry.end
    if reached != space:
        raise _Invalid(f"its tensors take {reached:,} bytes, but {space:,} follow the header")
