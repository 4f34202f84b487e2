"""Any model file -> FileReport. Only headers are read, unless the values are asked for.

No code in a file runs: a pickle is read with torch's `weights_only`, which accepts tensors and plain data.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nnkit.contract.text import LISTED, truncate
from nnkit.contract.visible import brief
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.models import metadata
from nnkit.models.metadata import INDEX
from nnkit.models.safetensors_header import read_header
from nnkit.verbs.summary.file_report import SUFFIXES, FilePart, FileReport, FileTensor, TensorStats

if TYPE_CHECKING:
    from torch import Tensor

MOST_ENTRIES = 1_000_000  # of a pickle
MOST_LEVELS = 1000  # of a pickle
LARGEST_VIEW = 1000  # ratio of a tensor's bytes to those that are stored
LONGEST_TEXT = 60  # characters of a value that is not a tensor


def inspect_file(path: Path, stats: bool = False) -> FileReport:
    """Return what is in a file, with `stats` including statistics of its values.

    Raises UsageProblem for a file that doesn't exist or is of no known kind, NnkitError for a damaged one.
    """
    if not path.is_file():
        raise UsageProblem(f"file {path} does not exist", "check the path")
    if path.name.endswith(INDEX):
        return _sharded(path, stats)
    match path.suffix:
        case ".safetensors":
            texts, tensors = _safetensors(path, stats)
            return _report(path, "safetensors", tensors, texts)
        case ".onnx":
            from nnkit.verbs.summary.onnx_files import inspect_onnx

            return inspect_onnx(path, stats)
        case ".gguf":
            from nnkit.verbs.summary.gguf_files import inspect_gguf

            if stats:
                raise UsageProblem(
                    "--stats reads values, and those of a GGUF file are quantized", "leave --stats out"
                )
            return inspect_gguf(path)
        case suffix if suffix in SUFFIXES:
            return _pickled(path, stats)
    kinds = ", ".join((*SUFFIXES, INDEX))
    raise UsageProblem(
        f"{path} is not a model file that nnkit reads",
        did_you_mean(path.suffix, SUFFIXES) or f"those end in {kinds}",
    )


def _report(
    path: Path,
    format: Literal["safetensors", "torch"],
    tensors: list[FileTensor],
    texts: Mapping[str, str],
    files: Mapping[str, int] | None = None,
) -> FileReport:
    if metadata.KEY in texts:
        metadata.decode(texts[metadata.KEY], path)  # which raises if nnkit didn't write it
    return FileReport(
        file=str(path),
        format=format,
        bytes=path.stat().st_size,
        tensors=tuple(tensors),
        elements=sum(tensor.elements for tensor in tensors),
        tensor_bytes=sum(tensor.bytes for tensor in tensors),
        files=files or {},
        metadata=texts,
    )


def _safetensors(path: Path, stats: bool, shard: str = "") -> tuple[Mapping[str, str], list[FileTensor]]:
    """Return the metadata and the tensors of one file."""
    header = read_header(path)
    tensors = [
        FileTensor(entry.name, entry.dtype, entry.shape, entry.elements, entry.end - entry.begin, shard)
        for entry in header.entries
    ]
    if stats:
        values = _stats_of_safetensors(path, [tensor.name for tensor in tensors])
        tensors = [replace(tensor, stats=values[tensor.name]) for tensor in tensors]
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
    shard_of, about = metadata.read_index(path)
    files: dict[str, int] = {}
    tensors: list[FileTensor] = []
    shards = dict.fromkeys(shard_of.values())
    metadata.check_shards(path, shards)
    for shard in shards:
        files[shard] = (path.parent / shard).stat().st_size
        tensors += _safetensors(path.parent / shard, stats, shard)[1]
    names = Counter(tensor.name for tensor in tensors)
    metadata.check_found(path, shard_of, names)
    if repeated := [name for name, times in names.items() if times > 1]:
        listed = ", ".join(map(brief, repeated[:LISTED]))
        raise metadata.damaged(path, f"{listed} is in more than one of its files")
    texts = {name: str(value) for name, value in about.items()}
    report = _report(path, "safetensors", tensors, texts, files)
    return replace(report, bytes=report.bytes + sum(files.values()))


# Files of torch.save


def _pickled(path: Path, stats: bool) -> FileReport:
    import torch

    from nnkit.models.weights import read_pickled

    content = read_pickled(path, "cpu" if stats else "meta")
    tensors, texts, storages = [], {}, {}
    for name, value in _flat(path, content):
        if isinstance(value, torch.Tensor):
            tensors.append(_describe_tensor(path, name, value, stats))
            strided = value.layout == torch.strided
            storages[value.untyped_storage()._cdata if strided else name] = _stored_bytes(value)
        else:
            texts[name] = truncate(str(value), LONGEST_TEXT)
    report = _report(path, "torch", tensors, texts)
    return replace(report, tensor_bytes=sum(storages.values()), parts=tuple(_parts(content, tensors)))


def _parts(content: object, tensors: list[FileTensor]) -> Iterator[FilePart]:
    """Yield what the keys of a checkpoint hold: state dicts, and other entries that have tensors."""
    from nnkit.models.checkpoints import state_dicts

    found = list(state_dicts(content))
    for each in found:
        yield FilePart(each.key, len(each.tensors), each.elements, True, each.prefix)
    others: dict[str, list[int]] = {}
    for tensor in tensors:
        if not any(tensor.name.startswith(f"{each.key}." if each.key else "") for each in found):
            others.setdefault(tensor.name.partition(".")[0], []).append(tensor.elements)
    for key, sizes in others.items():
        yield FilePart(key, len(sizes), sum(sizes), False)


def _flat(path: Path, content: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in nested dicts and lists under dotted names.

    Raises NnkitError if a container holds itself, or holds another so often that there is no end to it.
    """
    waiting, met = [("", content)], 0
    while waiting:
        prefix, value = waiting.pop()
        met += 1
        if met > MOST_ENTRIES or prefix.count(".") > MOST_LEVELS:
            raise metadata.damaged(path, "there is no end to what its lists and mappings hold")
        if isinstance(value, (dict, list, tuple)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            within = [(f"{prefix}.{name}" if prefix else str(name), part) for name, part in items]
            waiting += reversed(within)
        else:
            yield prefix, value


def _describe_tensor(path: Path, name: str, tensor: "Tensor", stats: bool) -> FileTensor:
    from nnkit.verbs.summary.values import stats_of

    shown = tensor.numel() * tensor.element_size()
    if stats and shown > max(path.stat().st_size, _stored_bytes(tensor)) * LARGEST_VIEW:
        raise metadata.damaged(path, f"{name!r} claims {shown:,} bytes, more than the file can hold")
    return FileTensor(
        name=name,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        elements=tensor.numel(),
        bytes=shown,
        stats=stats_of(tensor) if stats else None,
    )


def _stored_bytes(tensor: "Tensor") -> int:
    """Return the bytes that are stored for a tensor; an expanded one has fewer than its shape says."""
    import torch

    shown = tensor.numel() * tensor.element_size()
    return min(shown, tensor.untyped_storage().nbytes()) if tensor.layout == torch.strided else shown
