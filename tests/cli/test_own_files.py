"""Files of the user's own: they are imported as Python runs them, and their errors name the line."""

import json
from pathlib import Path

import pytest

NET = """
import sys
import torch
from torch import nn

print("imported")

class Exits(nn.Module):
    def forward(self, x):
        sys.exit(3)

class Narrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        print("forward")
        return self.fc(x)

class Mapped(nn.Module):
    def forward(self, batch):
        return batch["x"] + batch.get("y", 0)

class Prompts(nn.Module):
    def __init__(self):
        super().__init__()
        self.prompts, self.fc = nn.Parameter(torch.ones(2, 8)), nn.Linear(8, 4)

    def forward(self):
        return self.fc(self.prompts)

class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(8, 16, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[1]
"""


def test_a_failing_forward_names_its_line_the_sizes_and_what_was_typed(nnkit_command):
    Path("net.py").write_text(NET)
    done = nnkit_command("summary", "net.py:Narrow", "--input", "x: float32[batch=2, 9]")
    error, hint = done.err.splitlines()[-2:]
    line = NET.splitlines().index("        return self.fc(x)") + 1
    assert error.endswith(f"(forward at net.py:{line})")
    assert " at batch=2: RuntimeError: " in error
    assert "net.py:Narrow --input 'x: float32[batch=2, 9]'" in hint
    assert done.code == 1


def test_what_a_file_prints_leaves_stdout_to_the_json(nnkit_command):
    Path("net.py").write_text(NET)
    for command in (["summary"], ["build"], ["compare", "net.py:Narrow"]):
        done = nnkit_command(*command, "net.py:Narrow", "--input", "x: float32[batch, 8]", "--json")
        assert json.loads(done.out)["nnkit"]
        assert "imported" in done.err


def test_a_file_that_ends_the_process_is_one_error(nnkit_command):
    Path("exits.py").write_text("raise SystemExit(9)\n")
    Path("panics.py").write_text("class Panic(BaseException): pass\nraise Panic('no')\n")
    Path("net.py").write_text(NET)
    cases = {"exits.py:A": "SystemExit: 9", "panics.py:A": "Panic: no", "net.py:Exits": "SystemExit: 3"}
    for reference, reason in cases.items():
        done = nnkit_command("summary", reference, "--input", "x: float32[2]")
        error, hint = done.err.splitlines()[-2:]
        assert error.startswith("Error: ")
        assert reason in error
        assert hint == "hint: see the full error with -v"
        assert (done.code, done.out) == (1, "")


def test_a_forward_that_takes_a_dict_is_told_and_how_to_wrap_it(nnkit_command):
    Path("net.py").write_text(NET)
    for name in ("x", "batch"):
        done = nnkit_command("summary", "net.py:Mapped", "--input", f"{name}: float32[batch, 8]")
        error, hint = done.err.splitlines()[-2:]
        assert (
            error
            == "Error: forward of net.py:Mapped takes 'batch' as a dict (of 'x', 'y'), but an input is a tensor"
        )
        assert hint.endswith('forward(self, x, y) that returns self.net({"x": x, "y": y})')
        assert done.code == 2


def test_a_model_without_inputs_needs_none_declared(nnkit_command):
    Path("net.py").write_text(NET)
    totals = json.loads(nnkit_command("summary", "net.py:Prompts", "--json").out)["totals"]
    assert (totals["parameters"], totals["macs"]) == (2 * 8 + 8 * 4 + 4, 2 * 8 * 4)


def test_lengths_are_integers_between_bounds_and_a_summary_takes_the_longest(nnkit_command):
    Path("net.py").write_text(NET)
    args = ("--input", "x: float32[batch=3, time=7, 8]", "--input", "lengths: int64[batch] in 1..time")
    totals = json.loads(nnkit_command("summary", "net.py:Packed", *args, "--json").out)["totals"]
    assert totals["macs"] == 3 * 7 * 16 * (8 + 16)


def test_a_file_imports_its_neighbours_and_each_its_own(nnkit_command):
    for folder, width in (("a", 4), ("b", 6)):
        Path(folder).mkdir()
        Path(folder, "layers_beside.py").write_text(
            f"from torch import nn\nhead = lambda: nn.Linear(8, {width})\n"
        )
        Path(folder, "net.py").write_text(
            "from layers_beside import head\nfrom torch import nn\nclass Net(nn.Module):\n"
            "    def __init__(self):\n        super().__init__()\n        self.fc = head()\n"
            "    def forward(self, x):\n        return self.fc(x)\n"
        )
    args = ("a/net.py:Net", "b/net.py:Net", "--input", "x: float32[batch, 8]", "--json")
    sides = json.loads(nnkit_command("compare", *args).out)["models"]
    assert [side["totals"]["parameters"] for side in sides] == [8 * 4 + 4, 8 * 6 + 6]


def test_declarations_that_can_not_be(nnkit_command):
    cases = {
        "x: float32[batch multiple_of=0]": "multiple_of must be at least 1",
        "x: float32[99999999999999999999]": "is too large",
        "x: float32[device]": "would hide nnkit's own --device",
        "x: float32[time=3, time=4]": "time is declared twice",
    }
    for declaration, message in cases.items():
        done = nnkit_command("summary", "torch.nn:ReLU", "--input", declaration)
        error, hint = done.err.splitlines()
        assert message in error
        assert hint.startswith("hint: ")
        assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize(
    ("axes", "macs"),
    [
        ("batch, width", 6 * 5),  # follows the option
        ("batch, width=9, 6", 9 * 6 * 5),  # an axis of its own, which has the name of an option
    ],
)
def test_an_axis_follows_the_option_of_its_name_unless_it_has_a_size(nnkit_command, axes, macs):
    Path("net.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n"
        "    def __init__(self, width: int = 6, depth: int = 1):\n"
        "        super().__init__(); self.fc = nn.Linear(width, 5)\n"
        "    def forward(self, x):\n        return self.fc(x)\n"
    )
    done = nnkit_command("summary", "net.py:Net", "--input", f"x: float32[{axes}]", "--json")
    assert json.loads(done.out)["totals"]["macs"] == macs


YAMLS = {
    "config: {1: 2}": "config has the name 1, which is no text",
    "seed: 2001-99-99": "month must be in 1..12",
    "seed: true": "seed can't be True",
    f"seed: {10**30}": "--seed can't be",
    f"sizes: {{batch: {10**30}}}": "size --batch takes an integer",
    "config: " + "{a: " * 3000 + "1" + "}" * 3000: "nested too deeply",
    "config: {<<: [{a: 1}, {b: 2}]}": "merge keys (<<) aren't read",
}


def test_specs_that_can_not_be(nnkit_command):
    for text, message in YAMLS.items():
        Path("net.yaml").write_text(f"architecture: simple-cnn\n{text}\n")
        done = nnkit_command("summary", "net.yaml")
        error, _ = done.err.splitlines()
        assert message in error
        assert done.code == 2
    laughs = "".join(f"  - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    Path("net.yaml").write_text(f"architecture:\n  - &a0 [x, x, x]\n{laughs}")
    assert len(nnkit_command("summary", "net.yaml").err) < 1000
