"""The ModelSpec that nnkit writes into the files it exports: one key that holds JSON."""

import json
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nnkit.errors import NnkitError, UsageProblem

KEY = "nnkit"
SUFFIXES = (".onnx", ".safetensors", ".pt2")
INDEX = ".safetensors.index.json"


def encode(content: dict[str, Any]) -> str:
    """Return the text that stands under the key; the same content always gives the same text."""
    return json.dumps(content, separators=(",", ":"))


def read(path: Path) -> dict[str, Any]:
    """Return what nnkit wrote into a file that it exported.

    Raises NnkitError for a damaged file, UsageProblem for one that isn't nnkit's.
    """
    text = _text(path)
    if text is None:
        raise UsageProblem(
            f"{path} was not written by nnkit: it holds no ModelSpec",
            "name the architecture: nnkit list; to prove the file: nnkit verify FILE --against ARCH",
        )
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise damaged(path, error) from error
    if not isinstance(content, dict) or "spec" not in content:
        raise damaged(path, ValueError("its ModelSpec is missing"))
    return content


def is_ours(path: Path) -> bool:
    """Whether nnkit wrote a file. Raises NnkitError for a damaged one."""
    return _text(path) is not None


def is_model_file(text: str) -> bool:
    """Whether a name ends as those of files that can hold a ModelSpec do."""
    return text.endswith((*SUFFIXES, INDEX))


def _text(path: Path) -> str | None:
    if path.name.endswith(INDEX):
        found = read_index(path)[1].get(KEY)
        return None if found is None else str(found)
    readers = {".onnx": _read_onnx, ".safetensors": _read_safetensors, ".pt2": _read_archive}
    return readers[path.suffix](path)


def read_index(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return, of the index of a model in several files, tensor -> shard, and what it tells beside that.

    Raises NnkitError when it is damaged, or a shard isn't beside it.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        where, told = dict(index["weight_map"]), dict(index.get("metadata") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, "it is no index: it has no weight_map") from error
    for shard in dict.fromkeys(where.values()):
        if Path(shard).name != shard:
            raise damaged(path, f"it names {shard!r}, which is in another folder")
        if not (path.parent / shard).is_file():
            raise NnkitError(f"{path} names {shard}, which isn't there", "fetch it too, beside the index")
    return where, told


def check_found(path: Path, where: Mapping[str, str], found: Collection[str]) -> None:
    """Raise NnkitError when a tensor that an index names isn't in the shards."""
    if lacking := [name for name in where if name not in found]:
        raise damaged(path, f"{', '.join(lacking[:3])} should be in {where[lacking[0]]} and isn't")


def _read_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{KEY}")]
            return archive.read(names[0]).decode() if names else None
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise damaged(path, error) from error


def _read_onnx(path: Path) -> str | None:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise damaged(path, error) from error
    return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)


def _read_safetensors(path: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get(KEY)
    except SafetensorError as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: object) -> NnkitError:
    """Return the error for a file that can't be read, or isn't what was written."""
    return NnkitError(f"{path} is damaged: {error}", "export it again, or fetch it again")
