"""Values of an ONNX model in other files: check that these are the files it was written with.

A graph and its values are two files. If a copy misses one, or a crash comes between the two, an old graph is
next to new values, which loads and computes wrong numbers. So nnkit writes into the graph how each of its
tensors begins and ends in the other file, which can be checked without reading all values.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nnkit.errors import NnkitError
from nnkit.models import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, ModelProto, TensorProto

KEY = "external"
EDGE = 64  # bytes at each end of a tensor


class Part(NamedTuple):
    """Where the values of a tensor are. length: in bytes, None for everything that follows."""

    file: str
    offset: int
    length: int | None


def files_of(path: Path, model: "ModelProto") -> dict[str, int]:
    """Return the files that hold values of the model at `path`, with their sizes in bytes.

    Raises NnkitError where one is missing, in another folder or too short.
    """
    parts = [_parse_part(path, tensor) for tensor in _external_tensors(model)]
    sizes = {name: _check_size(path, name) for name in dict.fromkeys(part.file for part in parts)}
    for part in parts:
        if part.offset < 0 or (part.length or 0) < 0 or part.offset + (part.length or 0) > sizes[part.file]:
            raise metadata.damaged(path, f"{part.file} is shorter than its tensors")
    return sizes


def mismatch(path: Path, model: "ModelProto") -> str:
    """Return a sentence if the model and its values were not written together, otherwise an empty string."""
    wanted = _read_fingerprint(model)
    if wanted is None or wanted == fingerprint(path, model):
        return ""
    files = dict.fromkeys(_parse_part(path, tensor).file for tensor in _external_tensors(model))
    return f"{path.name} and {', '.join(files)} were not written together: one is newer than the other"


def fingerprint(path: Path, model: "ModelProto") -> str | None:
    """Return a digest of where each tensor is in the other files and how it begins and ends there.

    None for a model that keeps its values in its own file.
    """
    parts = sorted((tensor.name, _parse_part(path, tensor)) for tensor in _external_tensors(model))
    if not parts:
        return None
    digest = hashlib.sha256()
    for name, part in parts:
        with (path.parent / part.file).open("rb") as file:
            file.seek(part.offset)
            begin = file.read(EDGE if part.length is None else min(EDGE, part.length))
            file.seek(max(part.offset, part.offset + (part.length or 0) - EDGE))
            end = file.read(min(EDGE, part.length or 0))
        digest.update(f"{name} {part.offset} {part.length}\n".encode() + begin + end)
    return digest.hexdigest()


def _read_fingerprint(model: "ModelProto") -> str | None:
    text = next((entry.value for entry in model.metadata_props if entry.key == metadata.KEY), None)
    try:
        content = json.loads(text) if text else {}
    except ValueError:
        return None
    return content.get(KEY) if isinstance(content, dict) else None


def _external_tensors(model: "ModelProto") -> "Iterator[TensorProto]":
    from onnx.external_data_helper import uses_external_data

    for graph in graphs_in(model.graph):
        yield from (tensor for tensor in graph.initializer if uses_external_data(tensor))


def graphs_in(graph: "GraphProto") -> "Iterator[GraphProto]":
    """Yield a graph and the graphs in its nodes: bodies of loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_in(attribute.g)
            for subgraph in attribute.graphs:
                yield from graphs_in(subgraph)


def _parse_part(path: Path, tensor: "TensorProto") -> Part:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        length = entries.get("length")
        return Part(
            entries["location"], int(entries.get("offset", 0)), None if length is None else int(length)
        )
    except (KeyError, ValueError) as error:
        raise metadata.damaged(path, f"it doesn't say where the values of {tensor.name!r} are") from error


def _check_size(path: Path, name: str) -> int:
    if not name or "\0" in name:
        raise metadata.damaged(path, f"it keeps values in {name!r}, which can't be a file")
    file = (path.parent / name).resolve()
    if path.parent.resolve() not in file.parents:
        raise metadata.damaged(path, f"it names {name!r}, which is in another folder")
    if not file.is_file():
        raise NnkitError(
            f"{path} keeps values in {name}, which does not exist", "download it to the same folder"
        )
    return file.stat().st_size
