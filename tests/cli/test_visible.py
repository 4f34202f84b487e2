"""What a stranger's file or a user's model says reaches the terminal as text, and lies in headers are errors."""

import csv
import json
import struct
from pathlib import Path

import onnx
import pytest

from nnkit.contract.json_text import json_text
from nnkit.contract.visible import brief, message_line, visible
from nnkit.render.table import Table, to_csv, to_latex, to_markdown

NAMES = [
    "\x1b]0;owned\x07",
    "a\nError: forged",
    "good\rEVIL",
    "left\u202eright",
    "=cmd|' /C calc'!A0",
    "<img src=x>",
]


def write_safetensors(header: object, values: bytes = bytes(8), name: str = "m.safetensors") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    Path(name).write_bytes(struct.pack("<Q", len(text)) + text + values)


def test_names_in_a_file_are_shown_and_never_obeyed(nnkit_command):
    entries = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
        for i, name in enumerate(NAMES)
    }
    write_safetensors(entries, bytes(4 * len(NAMES)))
    for form in ("text", "csv", "markdown", "latex", "html"):
        out = nnkit_command("summary", "m.safetensors", "--format", form).out
        assert all(letter.isprintable() or letter == "\n" for letter in out)
        assert not any(line.startswith("Error:") for line in out.splitlines())
        assert "u202e" in out
    rows = list(csv.DictReader(nnkit_command("summary", "m.safetensors", "--format", "csv").out.splitlines()))
    assert [row["name"] for row in rows] == [
        r"\x1b]0;owned\x07", r"a\nError: forged", r"good\rEVIL", r"left\u202eright", "'=cmd|' /C calc'!A0", "<img src=x>",
    ]  # fmt: skip
    found = json.loads(nnkit_command("summary", "m.safetensors", "--json").out)["tensors"]
    assert [tensor["name"] for tensor in found] == NAMES  # JSON has escapes of its own


def test_names_in_an_error_are_one_line_of_it(nnkit_command):
    Path("e.yaml").write_text('architecture: "a:\\e]0;owned\\a\\nError: forged"\n')
    error, hint = nnkit_command("summary", "e.yaml").err.splitlines()
    assert r"a:\x1b]0;owned\x07\nError: forged" in error
    assert hint.startswith("hint: ")


def test_a_message_is_cut_where_nobody_would_read_it():
    assert len(message_line("x" * 10**6)) < 3000
    assert len(brief([["x" * 1000] * 1000] * 1000)) < 1000
    assert visible("Größe × 2 → ∑") == "Größe × 2 → ∑"


def test_cells_are_no_markup_and_numbers_stay_numbers():
    table = Table(
        ("name", "value"), [("*a* [x](http://y) |`b`| <b>", "-1.5"), ("+1+cmd", "-inf"), ("@SUM(A1)", "1e-3")]
    )
    assert to_csv(table).splitlines()[1:] == [
        "*a* [x](http://y) |`b`| <b>,-1.5",
        "'+1+cmd,-inf",
        "'@SUM(A1),1e-3",
    ]
    row = to_markdown(table).splitlines()[2]
    assert row == r"| \*a\* [x]\(http://y) \|\`b\`\| &lt;b&gt; | -1.5 |"
    assert r"\textbackslash{}" in to_latex(Table(("a",), [("\\input{x}",)]), ["t"])


def test_json_has_no_number_that_json_lacks():
    text = json_text({"a": float("nan"), "b": [float("inf"), 1.5], "c": (1, -float("inf"))})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [None, 1.5], "c": [1, None]}


WHOLE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
LIES = {
    "a negative shape": ({"a": {**WHOLE, "shape": [-2]}}, "has the shape [-2]"),
    "a shape of text": ({"a": {**WHOLE, "shape": ["2"]}}, "has the shape ['2']"),
    "a shape of bools": ({"a": {**WHOLE, "shape": [True, 2]}}, "has the shape [True, 2]"),
    "another size": ({"a": {**WHOLE, "shape": [3]}}, "has 8 bytes, but its dtype and shape need 12"),
    "an unknown dtype": ({"a": {**WHOLE, "dtype": "X9"}}, "unknown dtype 'X9'"),
    "no dtype": ({"a": {**WHOLE, "dtype": None}}, "unknown dtype None"),
    "places of text": ({"a": {**WHOLE, "data_offsets": ["0", "8"]}}, "at ['0', '8']"),
    "metadata that is none": ({"__metadata__": None, "a": WHOLE}, "__metadata__ is not a mapping of text"),
    "the same name twice": (b'{"a": %s, "a": %s}' % ((json.dumps(WHOLE).encode(),) * 2), "has 'a' twice"),
    "half a surrogate pair": (b'{"\\ud800": %s}' % json.dumps(WHOLE).encode(), "which is not Unicode"),
    "a hundred thousand brackets": (b'{"a":' + b"[" * 99999 + b"]" * 99999 + b"}", "nested too deeply"),
    "a bare NaN": (b'{"a": NaN}', "not JSON"),
    "a stamp without its maker": (
        {"__metadata__": {"nnkit": '{"spec":{"architecture":"vision/simple-cnn"}}'}, "a": WHOLE}, "its ModelSpec can't be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_can_not_be_true_is_an_error(nnkit_command, case):
    header, message = LIES[case]
    write_safetensors(header)
    done = nnkit_command("summary", "m.safetensors", "--contents")
    error, hint = done.err.splitlines()
    assert error.startswith("Error: m.safetensors is damaged: ")
    assert message in error
    assert hint == "hint: export it again, or fetch it again"
    assert (done.code, done.out) == (1, "")


def test_a_tensor_in_two_shards_is_an_error(nnkit_command):
    for name in ("one", "two"):
        write_safetensors({"a": WHOLE}, name=f"{name}.safetensors")
    weight_map = {"a": "one.safetensors", "b": "two.safetensors"}
    Path("m.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert nnkit_command("summary", "m.safetensors.index.json", "--contents").code == 1
    Path("m.safetensors.index.json").write_text('{"weight_map": {"a": 1}}')
    error = nnkit_command("summary", "m.safetensors.index.json", "--contents").err.splitlines()[0]
    assert error.endswith("its weight_map names 1 as the file of 'a'")


TENSORS = {
    "an unknown dtype": ({"data_type": 99, "dims": [1]}, "'w' has the unknown dtype 99"),
    "a negative shape": ({"data_type": 1, "dims": [-1]}, "'w' has the shape [-1]"),
    "another size": ({"data_type": 1, "dims": [3], "raw_data": bytes(8)}, "'w' has 8 bytes, and its dtype and shape need 12"),
    "no place": ({"data_type": 1, "data_location": 1}, "it doesn't say where the values of 'w' are"),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_an_initializer_that_can_not_be_true_is_an_error(nnkit_command, case):
    fields, message = TENSORS[case]
    model = onnx.ModelProto(ir_version=9)
    model.graph.initializer.append(onnx.TensorProto(name="w", **fields))
    Path("m.onnx").write_bytes(model.SerializeToString())
    done = nnkit_command("summary", "m.onnx")
    assert message in done.err.splitlines()[0]
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 2)
