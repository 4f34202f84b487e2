"""Files of the user's own: they are imported as Python runs them, and their errors name the line."""

import json
import re
import sys
from pathlib import Path

import pytest

import nnkit

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


def test_a_forward_that_takes_a_dict_is_told_and_what_to_declare(nnkit_command):
    Path("net.py").write_text(NET)
    for name in ("x", "batch"):
        done = nnkit_command("summary", "net.py:Mapped", "--input", f"{name}: float32[batch, 8]")
        assert done.err.splitlines()[-1].startswith("hint: ")
        assert '--input "batch.x: float32[batch, 8]"' in done.err.splitlines()[-1]
        assert done.code == 2
    done = nnkit_command("summary", "net.py:Mapped", "--input", "batch.x: float32[batch, 8]")
    assert done.code == 0


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
    "config: {1: 2}": "config has a key that is not text: 1",
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


SEVERAL = '''
"""Networks."""
from dataclasses import dataclass
from typing import Callable, Literal
import torch
from torch import nn

class Block(nn.Module):
    """A block of some width.

    And more."""
    def __init__(self, width: int, activation: Literal["relu", "tanh"] = "relu"):
        super().__init__()
        self.fc = nn.Linear(width, width)
    def forward(self, x):
        return self.fc(x)

class Base(nn.Module):
    """Has no forward."""

class _Hidden(Block):
    pass

def small() -> Block:
    """A block of 4."""
    return Block(4)

def helper(x):
    return x

class Takes(nn.Module):
    def __init__(self, make: Callable[[], nn.Module]):
        super().__init__()
        self.inner = make()
    def forward(self, x):
        return self.inner(x)

class Untyped(nn.Module):
    def __init__(self, width, depth, scale, name="net", *, bias):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width, bias=bias) for _ in range(depth)))
        self.scale = {"twice": 2}.get(scale, scale)
    def forward(self, x):
        return self.layers(x) * self.scale

@dataclass
class Options:
    width: int
    layers: int = 2

class Configured(nn.Module):
    def __init__(self, config: Options):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(config.width, config.width) for _ in range(config.layers)))
    def forward(self, x):
        return self.layers(x)

ready = Block(6)

if __name__ == "__main__":
    raise SystemExit("run as a program")
'''


def test_a_file_lists_its_modules_when_there_are_several(nnkit_command):
    Path("net.py").write_text(SEVERAL)
    done = nnkit_command("summary", "net.py")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "Error: net.py has 6 modules",
        "  net.py:Block       A block of some width. (needs --width)",
        "  net.py:small       A block of 4.",
        "  net.py:Takes       (needs make)",
        "  net.py:Untyped     (needs --width, --model-depth, --scale, --bias)",
        "  net.py:Configured  (needs --width)",
        "  net.py:ready       A block of some width.",
        "hint: name one: net.py:ready",
    ]
    done = nnkit_command("summary", "net.py:Blok")
    assert done.err.splitlines() == [
        "Error: net.py has no class or function 'Blok'",
        "hint: did you mean Block?",
    ]
    done = nnkit_command("summary", "net.py:transformer")
    assert done.err.splitlines()[-1].startswith("hint: it has Block, small, ")


def test_the_only_module_of_a_file_is_used_and_said(nnkit_command):
    Path("net.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self):\n        return None\n"
        "def no_module(x): return x\n"
    )
    done = nnkit_command("build", "net.py", "--json")
    assert done.err == "assumed: net.py:Net, the only module in net.py\n"
    assert json.loads(done.out)["tree"] == "Net()"
    Path("none.py").write_text("x = 1\n")
    error, hint = nnkit_command("summary", "none.py").err.splitlines()
    assert error == "Error: none.py has no torch.nn.Module"
    assert hint == "hint: name what returns one: none.py:function"


def test_required_parameters_are_options(nnkit_command):
    Path("net.py").write_text(SEVERAL)
    done = nnkit_command("summary", "net.py:Untyped", "--width", "8")
    assert done.err.splitlines() == [
        "Error: required options are missing: --model-depth (value), --scale (value), --bias (value)",
        "hint: for example: --model-depth 8 --scale 8 --bias 8",
    ]
    assert done.code == 2
    words = ["--width", "8", "--model-depth", "3", "--scale", "twice", "--bias", "false"]
    done = nnkit_command("summary", "net.py:Untyped", *words, "--json")
    assert json.loads(done.out)["totals"]["parameters"] == 3 * 8 * 8
    assert "x: float32[batch, 8]" in done.err
    done = nnkit_command("summary", "net.py:Configured", "--width", "5", "--layers", "3", "--json")
    assert json.loads(done.out)["totals"]["parameters"] == 3 * (5 * 5 + 5)
    assert re.search(r"--width integer +\[required\]", nnkit_command("summary", "net.py:Block", "--help").out)
    done = nnkit_command("compare", "net.py:Block", "net.py:ready", "--left.width", "6", "--exit-code")
    assert done.code == 0


def test_a_parameter_that_cannot_be_typed_asks_for_a_function(nnkit_command):
    Path("net.py").write_text(SEVERAL)
    error, hint = nnkit_command("summary", "net.py:Takes").err.splitlines()
    assert error == "Error: parameter 'make' of Takes has no default, and can't be an option"
    assert hint.endswith("def small() -> Takes: return Takes(make=…)")


def test_required_parameters_are_options_in_python():
    Path("python_net.py").write_text(SEVERAL)
    try:
        report = nnkit.summarize("python_net.py:Block", width=7)
    finally:
        Path("python_net.py").unlink()
    assert report.totals.parameters == 7 * 7 + 7
    assert report.spec.typed == (
        "python_net.py:Block", "--input", "x: float32[batch, 7]", "--width", "7",
    )  # fmt: skip


NEIGHBOR = "from torch import nn\nhead = lambda: nn.Linear(8, {width})\n"
WITH_NEIGHBOR = (
    "from {module} import head\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n"
    "        super().__init__()\n        self.fc = head()\n    def forward(self, x):\n"
    "        {late}\n        return self.fc(x)\n"
)


@pytest.mark.parametrize(
    ("neighbor", "module"),
    [
        ("click.py", "click"),  # nnkit has imported another one
        ("statistics.py", "statistics"),
        ("layers/__init__.py", "layers"),
        ("spaces/deep/heads.py", "spaces.deep.heads"),
    ],
)
def test_a_neighbor_may_have_any_name(nnkit_command, neighbor, module):
    before = sys.modules.get(module)
    for folder, width in (("a", 4), ("b", 6)):
        Path(folder, neighbor).parent.mkdir(parents=True)
        Path(folder, neighbor).write_text(NEIGHBOR.format(width=width))
        Path(folder, "net.py").write_text(
            WITH_NEIGHBOR.format(module=module, late="import statistics, click")
        )
    sides = json.loads(nnkit_command("compare", "a/net.py", "b/net.py", "--json").out)["models"]
    assert [side["totals"]["parameters"] for side in sides] == [8 * 4 + 4, 8 * 6 + 6]
    if before is not None:
        assert sys.modules[module] is before


@pytest.mark.parametrize("name", ["click.py", "random.py", "my-net.v2.py", "__main__.py"])
def test_a_file_may_have_any_name(nnkit_command, name):
    module = Path(name).stem
    before = sys.modules.get(module)
    Path("layers_here.py").write_text(NEIGHBOR.format(width=3))
    Path(name).write_text(WITH_NEIGHBOR.format(module="layers_here", late="pass"))
    assert json.loads(nnkit_command("summary", name, "--json").out)["totals"]["parameters"] == 8 * 3 + 3
    assert sys.modules.get(module) is before or before is None


def test_a_file_of_a_package_may_import_relatively(nnkit_command):
    Path("mine/nets").mkdir(parents=True)
    Path("mine/__init__.py").write_text("WIDTH = 5\n")
    Path("mine/heads.py").write_text(
        "from . import WIDTH\nfrom torch import nn\nhead = lambda: nn.Linear(8, WIDTH)\n"
    )
    Path("mine/nets/__init__.py").write_text("")
    Path("mine/nets/net.py").write_text(WITH_NEIGHBOR.format(module="..heads", late="from .. import WIDTH"))
    totals = json.loads(nnkit_command("summary", "mine/nets/net.py", "--json").out)["totals"]
    assert totals["parameters"] == 8 * 5 + 5
    Path("mine/nets/far.py").write_text("from ........heads import head\n")
    error = nnkit_command("summary", "mine/nets/far.py").err.splitlines()[0]
    assert "attempted relative import" in error
