"""A model file of anybody's -> FileReport. Headers alone are read, unless the values are asked for.

No code in a file runs: a pickle is read by torch's `weights_only`, which knows tensors and plain data.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnkit.contract.visible import brief
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.models import metadata
from nnkit.models.metadata import INDEX
from nnkit.models.safetensors_header import read_header
from nnkit.verbs.summary.file_report import SUFFIXES, FileReport, FileTensor, TensorStats

if TYPE_CHECKING:
    from torch import Tensor

MOST = 1_000_000  # entries of a pickle
DEEPEST = 1000  # levels of a pickle
LARGEST_VIEW = 1000  # times that a tensor may show the values that it has


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
            from nnkit.verbs.summary.onnx_files import inspect_onnx

            return inspect_onnx(path, stats)
        case suffix if suffix in SUFFIXES:
            return _pickled(path, stats)
    kinds = ", ".join((*SUFFIXES, INDEX))
    raise UsageProblem(
        f"{path} is no model file by its name", did_you_mean(path.suffix, SUFFIXES) or f"one ends in {kinds}"
    )


def _report(path: Path, format: Any, tensors: list[FileTensor], **more: Any) -> FileReport:
    if metadata.KEY in (texts := more.get("metadata", {})):
        metadata.decode(texts[metadata.KEY], path)  # which raises where nnkit didn't write it
    return FileReport(
        file=str(path), format=format, bytes=path.stat().st_size, tensors=tuple(tensors),
        elements=sum(each.elements for each in tensors), tensor_bytes=sum(each.bytes for each in tensors),
        **more,
    )  # fmt: skip


def _safetensors(path: Path, stats: bool, shard: str = "") -> tuple[Mapping[str, str], list[FileTensor]]:
    """Return the metadata and the tensors of one file."""
    header = read_header(path)
    tensors = [
        FileTensor(each.name, each.dtype, each.shape, each.elements, each.end - each.begin, shard)
        for each in header.entries
    ]
    if stats:
        values = _stats_of_safetensors(path, [each.name for each in tensors])
        tensors = [_with_stats(each, values[each.name]) for each in tensors]
    return header.metadata, tensors


def _stats_of_safetensors(path: Path, names: list[str]) -> dict[str, TensorStats | None]:
    from safetensors import SafetensorError, safe_open

    from nnkit.verbs.summary.values import stats_of

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
    shards = dict.fromkeys(where.values())
    metadata.check_shards(path, shards)
    for shard in shards:
        files[shard] = (path.parent / shard).stat().st_size
        tensors += _safetensors(path.parent / shard, stats, shard)[1]
    names = Counter(each.name for each in tensors)
    metadata.check_found(path, where, names)
    if twins := [name for name, times in names.items() if times > 1]:
        raise metadata.damaged(path, f"{', '.join(map(brief, twins[:3]))} is in more than one of its files")
    texts = {name: str(value) for name, value in told.items()}
    report = _report(path, "safetensors", tensors, files=files, metadata=texts)
    return replace(report, bytes=report.bytes + sum(files.values()))


# Files of torch.save


def _pickled(path: Path, stats: bool) -> FileReport:
    import torch

    from nnkit.models.weights import read_pickled

    content = read_pickled(path, "cpu" if stats else "meta")
    tensors, texts, storages = [], {}, {}
    for name, value in _flat(path, content):
        if isinstance(value, torch.Tensor):
            tensors.append(_of_torch(path, name, value, stats))
            strided = value.layout == torch.strided
            storages[value.untyped_storage()._cdata if strided else name] = _stored_bytes(value)
        else:
            texts[name] = str(value) if len(str(value)) <= 60 else f"{str(value)[:59]}…"
    report = _report(path, "torch", tensors, metadata=texts)
    return replace(report, tensor_bytes=sum(storages.values()))


def _flat(path: Path, content: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in nested dicts and lists under dotted names.

    Raises NnkitError where one holds itself, or the same one so often that there is no end to it.
    """
    waiting, met = [("", content)], 0
    while waiting:
        prefix, value = waiting.pop()
        met += 1
        if met > MOST or prefix.count(".") > DEEPEST:
            raise metadata.damaged(path, "there is no end to what its lists and mappings hold")
        if isinstance(value, (dict, list, tuple)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            within = [(f"{prefix}.{name}" if prefix else str(name), part) for name, part in items]
            waiting += reversed(within)
        else:
            yield prefix, value


def _of_torch(path: Path, name: str, tensor: "Tensor", stats: bool) -> FileTensor:
    from nnkit.verbs.summary.values import stats_of

    shown = tensor.numel() * tensor.element_size()
    if stats and shown > max(path.stat().st_size, _stored_bytes(tensor)) * LARGEST_VIEW:
        raise metadata.damaged(path, f"{name!r} claims {shown:,} bytes, more than the file can hold")
    return FileTensor(
        name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.numel(),
        shown, stats=stats_of(tensor) if stats else None,
    )  # fmt: skip


def _stored_bytes(tensor: "Tensor") -> int:
    """Return what the values of a tensor take, of which an expanded one shows some many times."""
    import torch

    shown = tensor.numel() * tensor.element_size()
    return min(shown, tensor.untyped_storage().nbytes()) if tensor.layout == torch.strided else shown


def _with_stats(tensor: FileTensor, stats: TensorStats | None) -> FileTensor:
    return replace(tensor, stats=stats)
