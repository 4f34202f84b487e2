"""A model file of anybody's -> FileReport. Headers alone are read, unless the values are asked for.

No code in a file runs: a pickle is read by torch's `weights_only`, which knows tensors and plain data.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnkit import metadata
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.metadata import INDEX
from nnkit.summary.file_report import SUFFIXES, FileReport, FileTensor, TensorStats

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors format
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64",
}  # fmt: skip


def inspect_file(path: Path, stats: bool = False) -> FileReport:
    """Return what is in a file; with `stats`, what its values are too.

    Raises UsageProblem for a file that isn't there or of no known kind, NnkitError for a damaged one.
    """
    if not path.is_file():
        raise UsageProblem(f"there is no file {path}", "check the path")
    if path.name.endswith(INDEX):
        return _sharded(path, stats)
    match path.suffix:
        case ".safetensors":
            texts, tensors = _safetensors(path, stats)
            return _report(path, "safetensors", tensors, metadata=texts)
        case ".onnx":
            from nnkit.summary.onnx_files import inspect_onnx

            return inspect_onnx(path, stats)
        case suffix if suffix in SUFFIXES:
            return _pickled(path, stats)
    kinds = ", ".join((*SUFFIXES, INDEX))
    raise UsageProblem(
        f"{path} is no model file by its name", did_you_mean(path.suffix, SUFFIXES) or f"one ends in {kinds}"
    )


def _report(path: Path, format: Any, tensors: list[FileTensor], **more: Any) -> FileReport:
    return FileReport(
        file=str(path), format=format, bytes=path.stat().st_size, tensors=tuple(tensors),
        elements=sum(each.elements for each in tensors), tensor_bytes=sum(each.bytes for each in tensors),
        **more,
    )  # fmt: skip


# safetensors: 8 bytes for the length of a header in JSON, the header, then the values


def _safetensors(path: Path, stats: bool, shard: str = "") -> tuple[dict[str, str], list[FileTensor]]:
    """Return the metadata and the tensors of one file."""
    header, space = _header(path)
    texts = header.pop("__metadata__", {})
    tensors, places = [], []
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise metadata.damaged(path, f"what its header says of {name!r} can't be read") from error
        places.append((begin, end, name))
        elements = math.prod(shape)
        known = DTYPES.get(dtype, dtype.lower())
        tensors.append(FileTensor(name, known, shape, elements, end - begin, shard))
    _check_places(path, sorted(places), space)
    if stats:
        values = _stats_of_safetensors(path, [each.name for each in tensors])
        tensors = [_with_stats(each, values[each.name]) for each in tensors]
    return texts, tensors


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file, and how many bytes of values follow it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LARGEST_HEADER):
            raise metadata.damaged(path, f"its header claims {length:,} bytes, the file has {size:,}")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise metadata.damaged(path, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise metadata.damaged(path, "its header is not a mapping")
    return header, size - 8 - length


def _check_places(path: Path, places: list[tuple[int, int, str]], space: int) -> None:
    """Check that the tensors lie one after the other and fill the file."""
    reached = 0
    for begin, end, name in places:
        if begin != reached or end < begin:
            raise metadata.damaged(path, f"{name!r} doesn't begin where the tensor before it ends")
        reached = end
    if reached != space:
        raise metadata.damaged(path, f"its tensors take {reached:,} bytes, and {space:,} follow the header")


def _stats_of_safetensors(path: Path, names: list[str]) -> dict[str, TensorStats | None]:
    from safetensors import SafetensorError, safe_open

    from nnkit.summary.values import stats_of

    try:
        with safe_open(path, framework="pt") as file:
            return {name: stats_of(file.get_tensor(name)) for name in names}
    except SafetensorError as error:
        raise metadata.damaged(path, error) from error


def _sharded(path: Path, stats: bool) -> FileReport:
    """Read the index of a model in several files, and the header of each of them."""
    where, told = metadata.read_index(path)
    files: dict[str, int] = {}
    tensors: list[FileTensor] = []
    for shard in dict.fromkeys(where.values()):
        files[shard] = (path.parent / shard).stat().st_size
        tensors += _safetensors(path.parent / shard, stats, shard)[1]
    metadata.check_found(path, where, {each.name for each in tensors})
    texts = {name: str(value) for name, value in told.items()}
    report = _report(path, "safetensors", tensors, files=files, metadata=texts)
    return replace(report, bytes=report.bytes + sum(files.values()))


# Files of torch.save


def _pickled(path: Path, stats: bool) -> FileReport:
    import torch

    from nnkit.weights import read_pickled

    content = read_pickled(path, "cpu" if stats else "meta")
    tensors, texts, storages = [], {}, {}
    for name, value in _flat(content):
        if isinstance(value, torch.Tensor):
            tensors.append(_of_torch(name, value, stats))
            storages[value.untyped_storage()._cdata if value.layout == torch.strided else name] = tensors[-1]
        else:
            texts[name] = str(value) if len(str(value)) <= 60 else f"{str(value)[:59]}…"
    report = _report(path, "torch", tensors, metadata=texts)
    return replace(report, tensor_bytes=sum(each.bytes for each in storages.values()))


def _flat(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is in nested dicts and lists under dotted names."""
    if isinstance(content, dict):
        items = [(str(name), value) for name, value in content.items()]
    elif isinstance(content, (list, tuple)):
        items = [(str(place), value) for place, value in enumerate(content)]
    else:
        yield prefix, content
        return
    for name, value in items:
        yield from _flat(value, f"{prefix}.{name}" if prefix else name)


def _of_torch(name: str, tensor: "Tensor", stats: bool) -> FileTensor:
    from nnkit.summary.values import stats_of

    return FileTensor(
        name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.numel(),
        tensor.numel() * tensor.element_size(), stats=stats_of(tensor) if stats else None,
    )  # fmt: skip


def _with_stats(tensor: FileTensor, stats: TensorStats | None) -> FileTensor:
    return replace(tensor, stats=stats)
