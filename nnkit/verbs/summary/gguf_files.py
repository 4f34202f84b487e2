"""A GGUF file, whole or split -> FileReport. Only headers are read. Torch-free."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nnkit.contract.text import truncate
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, damaged_file
from nnkit.models.gguf_header import Header, read_header
from nnkit.verbs.summary.file_report import Block, FileReport, FileTensor

PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<parts>\d{5})\.gguf")
MOST_PARTS = 1000
LONGEST_TEXT = 60  # characters of a value in the metadata


def inspect_gguf(path: Path) -> FileReport:
    """Return what is in a file, or in all parts of a model if the file is one of them.

    Raises NnkitError where a part is missing or damaged.
    """
    parts = _parts(path)
    headers = {part: read_header(part) for part in parts}
    tensors: dict[str, FileTensor] = {}
    for part, header in headers.items():
        for tensor in _tensors(header, part.name if len(parts) > 1 else ""):
            if tensor.name in tensors:
                raise damaged_file(path, f"{brief(tensor.name)} is in more than one of its parts")
            tensors[tensor.name] = tensor
    sizes = {part: part.stat().st_size for part in parts}
    return FileReport(
        file=str(path),
        format="gguf",
        bytes=sum(sizes.values()),
        tensors=tuple(tensors.values()),
        elements=sum(tensor.elements for tensor in tensors.values()),
        tensor_bytes=sum(tensor.bytes for tensor in tensors.values()),
        files={part.name: size for part, size in sizes.items()} if len(parts) > 1 else {},
        metadata=_metadata(headers[parts[0]]),
        blocks=_blocks(tensors.values()),
    )


def _parts(path: Path) -> list[Path]:
    """Return the files of a model, the first of which holds the metadata."""
    match = PART.fullmatch(path.name)
    if match is None:
        return [path]
    number = int(match["parts"])
    if not 1 <= int(match["number"]) <= number <= MOST_PARTS:
        return [path]
    parts = [
        path.with_name(f"{match['stem']}-{each:05}-of-{number:05}.gguf") for each in range(1, number + 1)
    ]
    for part in parts:
        if not part.is_file():
            raise NnkitError(
                f"{path.name} is one of {number} parts, and {part.name} does not exist",
                "download it to the same folder",
            )
    return parts


def _tensors(header: Header, file: str) -> Iterable[FileTensor]:
    for entry in header.entries:
        size = entry.end - entry.begin
        yield FileTensor(entry.name, entry.dtype, entry.shape, entry.elements, size, file)


def _metadata(header: Header) -> dict[str, str]:
    version = f"{header.version}, big-endian" if header.big_endian else str(header.version)
    return {"GGUF": version, **{key: _text(value) for key, value in header.metadata.items()}}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return truncate(", ".join(map(_text, value)), LONGEST_TEXT)
    return truncate(f"{value:.7g}" if isinstance(value, float) else str(value), LONGEST_TEXT)


def _blocks(tensors: Iterable[FileTensor]) -> tuple[Block, ...]:
    """Add up the tensors of each block, in the order of the file."""
    members: dict[str, list[FileTensor]] = {}
    for tensor in tensors:
        members.setdefault(_block_of(tensor.name), []).append(tensor)
    return tuple(
        Block(name, len(block), sum(each.elements for each in block), sum(each.bytes for each in block))
        for name, block in members.items()
    )


def _block_of(name: str) -> str:
    """Return `blk.0` of `blk.0.attn_q.weight`, and `token_embd` of `token_embd.weight`."""
    numbered = re.match(r"(.*?\.)?\d+(?=\.)", name, re.ASCII)
    return numbered[0] if numbered else name.rpartition(".")[0] or name
