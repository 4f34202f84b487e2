"""Plain data -> JSON that any parser accepts. Torch-free."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

BATCH = 1000  # items of a long list that are written at once


def json_text(data: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return data as JSON; NaN and infinities, which JSON doesn't have, become null."""
    try:
        text = _compact(data, ascii_only)
    except ValueError:  # NaN or infinity
        text = _compact(_finite(data), ascii_only)
    return text if indent is None else _indented(text, indent)


def json_pieces(data: Mapping[str, Any], items: Iterable[str], *, ascii_only: bool = False) -> Iterator[str]:
    """Yield data as indented JSON in pieces, so that a long one never is in memory as a whole.

    data: the last value in it is an empty list. items: what is in this list instead, each as compact JSON.

    {"schema": …, "rows": []}   ->   {"schema": …, "rows": [first, second, …]}
    """
    before, after = json_text(data, indent=2, ascii_only=ascii_only).removesuffix("]\n}"), "]\n}"
    yield before
    remaining, separator = iter(items), ""
    while batch := list(islice(remaining, BATCH)):
        text = _indented(f'{{"":[{",".join(batch)}]}}', 2)
        yield separator + text.removeprefix('{\n  "": [').removesuffix("\n  ]\n}")
        separator, after = ",", "\n  ]\n}"
    yield after


def _compact(data: Any, ascii_only: bool) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=ascii_only, allow_nan=False)


def _indented(text: str, indent: int) -> str:
    """Return compact JSON as `json.dumps` indents it, which takes that twenty times as long."""
    import msgspec  # which `nnkit --help` has no use for

    try:
        return msgspec.json.format(text, indent=indent)
    except (UnicodeEncodeError, msgspec.DecodeError):  # half of a pair of surrogates, escaped or not
        return json.dumps(json.loads(text), indent=indent, ensure_ascii=text.isascii())


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, (list, tuple)) else data
