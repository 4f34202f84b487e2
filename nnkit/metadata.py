"""The ModelSpec that nnkit writes into the files it exports: one key that holds JSON."""

import json
from pathlib import Path
from typing import Any

from nnkit.errors import NnkitError, UsageProblem

KEY = "nnkit"


def encode(content: dict[str, Any]) -> str:
    """Return the text that stands under the key; the same content always gives the same text."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def read(path: Path) -> dict[str, Any]:
    """Return what nnkit wrote into an `.onnx` or `.safetensors` file.

    Raises NnkitError for a damaged file, UsageProblem for one that isn't nnkit's.
    """
    text = _read_onnx(path) if path.suffix == ".onnx" else _read_safetensors(path)
    if text is None:
        raise UsageProblem(
            f"{path} was not written by nnkit: it holds no ModelSpec", "name the architecture: nnkit list"
        )
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise _damaged(path, error) from error
    if not isinstance(content, dict) or "spec" not in content:
        raise _damaged(path, ValueError("its ModelSpec is missing"))
    return content


def is_ours(path: Path) -> bool:
    """Whether nnkit wrote a file. Raises NnkitError for a damaged one."""
    text = _read_onnx(path) if path.suffix == ".onnx" else _read_safetensors(path)
    return text is not None


def _read_onnx(path: Path) -> str | None:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise _damaged(path, error) from error
    return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)


def _read_safetensors(path: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get(KEY)
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> NnkitError:
    return NnkitError(f"{path} is damaged: {error}", "export it again, or fetch it again")
