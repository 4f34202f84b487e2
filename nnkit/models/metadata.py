"""The ModelSpec that nnkit writes into the files it exports: one key that holds JSON."""

import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nnkit.contract.json_text import json_text
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, UsageProblem, damaged_file, first_line

KEY = "nnkit"
SUFFIXES = (".onnx", ".safetensors", ".pt2")
INDEX = ".safetensors.index.json"
WHOLE = "sha256_of_all"
"""In a shard that nnkit wrote: the digest of the tensors of all shards, which the index has too."""
LONGEST = 2**24  # bytes of what nnkit writes into a file

damaged = damaged_file


def encode(content: dict[str, Any]) -> str:
    """Return the text that is stored under the key; the same content always gives the same text."""
    return json_text(content, ascii_only=True)


def read(path: Path) -> dict[str, Any]:
    """Return what nnkit wrote into a file that it exported.

    Raises NnkitError for a damaged file, UsageProblem for one that nnkit did not write.
    """
    text = _read_text(path)
    if text is None:
        raise UsageProblem(
            f"{path} was not written by nnkit: it has no ModelSpec",
            "name the architecture (see nnkit list); to prove the file: nnkit verify FILE --against ARCH",
        )
    return decode(text, path)


def decode(text: str, path: Path) -> dict[str, Any]:
    """Return the content of the text under the key; raises NnkitError if nnkit would not write it."""
    try:
        content: dict[str, Any] = json.loads(text)
        msgspec.convert(content, Stamp)
    except RecursionError as error:
        raise damaged(path, "its ModelSpec is nested too deeply") from error
    except ValueError as error:  # not JSON, or not a Stamp
        raise damaged(path, f"its ModelSpec can't be read: {first_line(error)}") from error
    return content


@dataclass(frozen=True)
class StampedOutput:
    """How far an output was from the module's."""

    max_abs_diff: float | None
    scale: float | None


@dataclass(frozen=True)
class StampedCoverage:
    """The share of the parameters that the proof covers."""

    share: float | None = None


@dataclass(frozen=True)
class StampedProof:
    """The proof of a file: the outputs that were compared, or how many tensors are equal."""

    runner: str
    sizes: list[dict[str, int]]
    outputs: list[StampedOutput]
    coverage: StampedCoverage | None = None
    equal: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not self.outputs and self.equal is None:
            raise ValueError("its proof has neither outputs nor tensors")


@dataclass(frozen=True)
class StampedSpec:
    """The model; `spec.check_spec_data` checks it in full before anything is built from it."""

    architecture: str
    config: dict[str, Any]
    seed: int
    dtype: str | None
    weights: str | None


@dataclass(frozen=True)
class Stamp:
    """The part of what nnkit writes into a file that is shown; there may be more."""

    nnkit: str
    spec: StampedSpec
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    proof: StampedProof | None = None


def is_ours(path: Path) -> bool:
    """Whether nnkit wrote a file. Raises NnkitError for a damaged one."""
    return _read_text(path) is not None


def is_model_file(text: str) -> bool:
    """Whether a name ends like that of a file that can hold a ModelSpec."""
    return text.endswith((*SUFFIXES, INDEX))


def _read_text(path: Path) -> str | None:
    if path.name.endswith(INDEX):
        _, index_metadata = read_index(path)
        text = index_metadata.get(KEY)
        return None if text is None else str(text)
    readers = {".onnx": _read_onnx, ".safetensors": _read_safetensors, ".pt2": _read_archive}
    return readers[path.suffix](path)


def read_index(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return, for the index of a model in several files, tensor -> shard, and its metadata.

    Raises NnkitError when it is damaged, or a shard is not in the same folder.
    """
    shard_of, index_metadata = parse_index(path)
    for shard in dict.fromkeys(shard_of.values()):
        if not (path.parent / shard).is_file():
            raise NnkitError(
                f"{path} names {shard}, which does not exist", "download it to the folder of the index"
            )
    return shard_of, index_metadata


def parse_index(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what `read_index` does; the shards need not exist."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        shard_of, index_metadata = dict(index["weight_map"]), dict(index.get("metadata") or {})
    except RecursionError as error:
        raise damaged(path, "it is nested too deeply") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, "it is not an index: it has no weight_map") from error
    for name, shard in shard_of.items():
        if not isinstance(shard, str) or "\0" in shard:
            raise damaged(path, f"its weight_map names {brief(shard)} as the file of {brief(name)}")
    for shard in dict.fromkeys(shard_of.values()):
        if Path(shard).name != shard:
            raise damaged(path, f"it names {shard!r}, which is in another folder")
    return shard_of, index_metadata


def check_found(path: Path, shard_of: Mapping[str, str], found: Collection[str]) -> None:
    """Raise NnkitError when a tensor that an index names is not in the shards."""
    if lacking := [name for name in shard_of if name not in found]:
        raise damaged(path, f"{', '.join(lacking[:3])} should be in {shard_of[lacking[0]]}, but isn't")


def check_shards(path: Path, shards: Collection[str]) -> None:
    """Raise NnkitError where the shards of an index that nnkit wrote come from a different export."""
    if not is_ours(path):
        return
    expected = read(path).get("sha256")
    for shard in shards:
        file = path.parent / shard
        digest = read(file).get(WHOLE, expected) if is_ours(file) else None
        if digest != expected:
            raise NnkitError(
                f"{path.name} and {shard} were not written together: one is newer than the other",
                "export it again, or download all of its files again",
            )


def _read_archive(path: Path) -> str | None:
    import zipfile  # not for what only looks up a name

    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{KEY}")]
            if not names:
                return None
            with archive.open(names[0]) as member:  # however much it claims to hold
                text = member.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise damaged(path, f"its ModelSpec takes more than {LONGEST:,} bytes")
        return text.decode()
    except (
        zipfile.BadZipFile,
        UnicodeDecodeError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        zlib.error,
    ) as error:
        raise damaged(path, error) from error


def _read_onnx(path: Path) -> str | None:
    from google.protobuf.message import DecodeError

    from nnkit.models.onnx_values import read_parts

    try:
        model = read_parts(path).model
    except (DecodeError, ValueError) as error:
        raise damaged(path, error) from error
    return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)


def _read_safetensors(path: Path) -> str | None:
    from nnkit.models.safetensors_header import read_header

    return read_header(path).metadata.get(KEY)
