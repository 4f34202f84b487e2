"""JSON text is what Python's own encoder writes, as a whole and in pieces."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnkit.contract import json_text as module
from nnkit.contract.json_text import json_pieces, json_text

TEXT = st.text(st.characters(codec=None))  # halves of surrogate pairs too
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
PLAIN = st.recursive(SIMPLE, lambda part: st.lists(part) | st.dictionaries(TEXT, part), max_leaves=20)


@given(PLAIN, st.booleans())
def test_it_is_what_pythons_encoder_writes(data, ascii_only):
    assert json_text(data, indent=2, ascii_only=ascii_only) == json.dumps(
        data, indent=2, ensure_ascii=ascii_only
    )


@given(st.lists(PLAIN, max_size=7), st.booleans())
def test_pieces_are_the_text_of_the_whole(rows, ascii_only):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", 2)
        items = [json_text(row, ascii_only=ascii_only) for row in rows]
        pieces = [*json_pieces({"name": "é", "rows": []}, items, ascii_only=ascii_only)]
    assert "".join(pieces) == json.dumps({"name": "é", "rows": rows}, indent=2, ensure_ascii=ascii_only)


def test_what_json_does_not_have_becomes_null():
    data = {"low": -math.inf, "means": [math.nan, 0.5], "pair": (1, math.inf)}
    assert json.loads(json_text(data, indent=2)) == {"low": None, "means": [None, 0.5], "pair": [1, None]}
