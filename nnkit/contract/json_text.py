"""Plain data -> JSON that any parser accepts. Torch-free."""

import json
import math
from typing import Any


def json_text(data: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return data as JSON; NaN and infinities, which JSON doesn't have, become null."""
    separators = (",", ":") if indent is None else None
    return json.dumps(
        _finite(data), indent=indent, separators=separators, ensure_ascii=ascii_only, allow_nan=False
    )


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, (list, tuple)) else data
