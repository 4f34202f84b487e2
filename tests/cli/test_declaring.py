"""What a plugin and a user declare, from the command line: optional inputs, --declare, and nnkit info."""

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
from click.shell_completion import ShellComplete

import nnkit
from nnkit import schemas
from nnkit.cli.main import cli
from nnkit.contract.input_declarations import parse_inputs
from nnkit.contract.own_declarations import EXAMPLES, KEYS, as_texts, declare
from nnkit.contract.tensor_text import as_typed
from nnkit.errors import UsageProblem
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager

PLUGIN = """
from dataclasses import dataclass
from typing import Annotated
from nnkit import Architecture, Dim, Meta, TensorSpec, TrainingStep, hookimpl

NNKIT_PLUGIN_API = "1.1"

@dataclass(frozen=True, kw_only=True)
class Config:
    width: Annotated[int, Meta(ge=4, multiple_of=4, description="features")] = 8
    heads: int = 2
    levels: int = 2

    def __post_init__(self):
        if self.width % self.heads:
            raise TypeError(f"{self.heads} heads don't share {self.width} features:\\ntake a divisor")
        if self.levels == 7:
            raise KeyError("seven levels are unlucky")

def build(config):
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(config.width, config.width)

        def forward(self, x, mask=None, cache=None, *, scale=1.0, fast=False):
            y = self.layer(x) * scale
            if mask is not None:
                y = y * mask.unsqueeze(-1)
            if cache is not None:
                y = y + cache["key"].sum(1, keepdim=True)
            return y

    return Net()

@hookimpl
def nnkit_architectures():
    return [
        Architecture(
            name="net", summary="A net", build=build, config=Config,
            inputs=[
                TensorSpec("x", ("batch", "time", "width")),
                TensorSpec("mask", ("batch", "time"), "bool", "prefix", "time", "real ones", optional=True),
                TensorSpec("cache.key", ("batch", "past", "width"), optional=True, given=False),
                TensorSpec("cache.sum", ("batch", "past + time"), sample="unit", optional=True, given=False),
            ],
            outputs=[TensorSpec("y", ("batch", "time", "width"))],
            constants={"fast": True, "scale": 0.5},
            containers={"cache": "dict"},
            dims={
                "batch": Dim(default=1),
                "time": Dim(default=8, multiple_of="2**levels", max="16 * levels"),
                "past": Dim(default=3, min=0),
            },
            constraints=("past + time <= 20",),
            padding=("mask",), permutation=("time",), pointwise=("time",), stochastic="training",
            straight_through=("layer",),
            steps={"only": TrainingStep(outputs=("y",), trains=("layer",))},
        )
    ]
"""


@pytest.fixture
def net(plugins_from, monkeypatch):
    manager = plugins_from(plug=PLUGIN)
    assert [str(failure) for failure in manager.failures] == []
    for module in ("installed", "options"):
        monkeypatch.setattr(f"nnkit.cli.{module}.plugin_manager", lambda checked=True: manager)
    return manager


def inputs_of(report):
    return [row["name"] for row in report["rows"] if row["type"] == "input"]


def test_optional_inputs_are_given_and_left_out(net, nnkit_command):
    chosen = {
        (): ["cache"],
        ("--without", "mask"): ["mask", "cache"],
        ("--with", "cache"): [],
        ("--with=cache", "--without=mask"): ["mask"],
    }
    for words, without in chosen.items():
        spec = json.loads(nnkit_command("summary", "net", *words, "--json").out)["spec"]
        assert spec["without"] == without
        assert ("past" in spec["sizes"]) is ("cache" not in without)


@pytest.mark.parametrize("words", [[], ["--without", "mask"], ["--with", "cache", "--past", "5"]])
def test_the_words_for_a_model_repeat_its_choice(net, nnkit_command, words):
    said = json.loads(nnkit_command("smoke-run", "net", *words, "--check", "shapes", "--json").out)
    (check,) = said["checks"]
    again = shlex.split(check["repeat"])[1:]
    assert again[:2] == ["smoke-run", "plug/net"]
    repeated = json.loads(nnkit_command(*again, "--json").out)
    assert repeated["spec"]["without"] == said["spec"]["without"]
    assert all(word in again for word in words)


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["--without", "maks"], "net has no optional input 'maks'", "did you mean mask?"),
        (["--without", "x"], "net has no optional input 'x'", "its optional inputs: mask, cache"),
        (["--with", "cache.key"], "net has no optional input 'cache.key'", "did you mean cache?"),
        (["--with", "mask", "--without", "mask"], "the input 'mask' can't be both given and left out", "choose one"),
        (["--past", "3"], "net has no dim 'past' under these options", "the dims in use are: batch, time"),
        (["--declare", "causal=time"], "--declare is for a module of your own, and net is none", "see what it"),
        (["--time", "10"], "size --time of net must be a multiple of 4, got 10", "for example: --time 8"),
        (["--width", "10"], "option --width takes integer >= 4 and multiple of 4, got '10'", "--width: features"),
        (["--with", "cache", "--time", "16", "--past", "9"], "these sizes of net don't go together", "give others"),
        # the author's own words, whatever they raise
        (["--heads", "3"], r"3 heads don't share 8 features:\ntake a divisor", "see the options' descriptions"),
        (["--levels", "7"], "seven levels are unlucky", "see the options' descriptions"),
    ],
)  # fmt: skip
def test_a_choice_that_can_not_be_is_one_error_with_a_hint(net, nnkit_command, words, error, hint):
    done = nnkit_command("summary", "net", *words)
    assert (done.code, done.out) == (2, "")
    said = done.err.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"Error: {error}")
    assert said[1].startswith(f"hint: {hint}")


def test_options_that_only_together_are_valid_can_be_given_together(net):
    """Each alone is refused by the author's check of the other's default."""
    spec = nnkit.resolve("net", manager=net, width="12", heads="3")
    assert (spec.config.width, spec.config.heads) == (12, 3)


def test_models_side_by_side_differ_in_their_inputs(net, nnkit_command):
    done = nnkit_command("compare", "net", "net", "--left.without", "mask", "--with", "cache", "--json")
    specs = [model["spec"] for model in json.loads(done.out)["models"]]
    assert [spec["without"] for spec in specs] == [["mask"], []]
    done = nnkit_command("compare", "net", "net", "--without", "maks")
    assert (done.code, done.err.splitlines()[1]) == (2, "hint: did you mean mask?")


def test_names_of_optional_inputs_are_completed(net):
    completion = ShellComplete(cli, {}, "nnkit", "_NNKIT_COMPLETE")
    assert {item.value for item in completion.get_completions(["summary", "net", "--without"], "")} == {
        "mask",
        "cache",
    }
    assert [item.value for item in completion.get_completions(["summary", "net", "--with"], "c")] == ["cache"]


def test_info_shows_all_that_is_declared(net, nnkit_command):
    text = nnkit_command("info", "net").out
    for line in (
        "mask: bool[batch, time] prefix mask of time  real ones  [optional: --without mask]",
        "cache.sum: float[batch, past + time] unit [left out: --with cache]",
        "fast = true",
        "scale = 0.5",
        "cache dict",
        "--time integer >= 1 and <= 16 * levels and a multiple of 2**levels",
        "--width integer >= 4 and multiple of 4 features",
        "past + time <= 20",
        "padding marked by mask",
        "permutation along time",
        "pointwise along time",
        "stochastic draws random numbers in training",
        "straight-through the gradient of layer",
        "step only trains layer by y",
    ):
        assert re.search(re.sub(r"\\? +", r"\\s+", re.escape(line)), text), line


def test_info_shows_tensors_that_differ_only_in_an_index_once(nnkit_command):
    text = nnkit_command("info", "gpt2", "--layers", "3").out
    assert "  past_key_values.0.key … ×3: float[batch, heads, past, width // heads]" in text
    assert "  present.0.value … ×3: float[batch, heads, past + time, width // heads]" in text
    assert "key_values.1" not in text


def test_info_shows_the_options_of_a_preset_as_they_are_typed(nnkit_command):
    text = nnkit_command("info", "llama").out
    assert "--width 2048 --layers 16 --heads 32 --hidden 8192 --tied\n" in text


def test_info_as_json_has_every_tensor(nnkit_command):
    names = [each["name"] for each in json.loads(nnkit_command("info", "gpt2", "--json").out)["inputs"]]
    assert names[1:4] == ["past_key_values.0.key", "past_key_values.0.value", "past_key_values.1.key"]


def test_info_as_json_is_as_its_schema_says(net, nnkit_command):
    for words in (("net",), ("net", "--with", "cache"), ("gcn",), ("lstm",)):
        data = json.loads(nnkit_command("info", *words, "--json").out) if words[0] == "net" else None
        if data is not None:
            jsonschema.validate(data, schemas.read("info"))
    assert data is None or data["schema"] == "nnkit.info/1"
    data = json.loads(nnkit_command("info", "net", "--json").out)
    assert [(each["name"], each["optional"], each["given"]) for each in data["inputs"]] == [
        ("x", False, True),
        ("mask", True, True),
        ("cache.key", True, False),
        ("cache.sum", True, False),
    ]
    assert data["dims"]["time"]["multiple_of"] == "2**levels"
    assert data["behavior"]["steps"] == {"only": {"outputs": ["y"], "trains": ["layer"]}}


def test_help_lists_optional_inputs(net, nnkit_command):
    text = nnkit_command("summary", "net", "--help").out
    assert re.search(r"--without mask +given by default", text)
    assert re.search(r"--with cache +left out by default", text)


# --declare

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(100, width)
        self.head = nn.Linear(width, 3)

    def forward(self, ids, mask=None, scale=1.0):
        y = self.head(self.embedding(ids)) * scale
        return y if mask is None else y * mask.unsqueeze(-1)
"""
INPUTS = [
    "ids: int64[batch, time=6 max=16*width] < 100 padding 0",
    "mask: bool[batch, time] prefix mask of time ?",
    "scale = 2.0",
]
DECLARED = ["causal=time", "padding=mask,ids", "unsupported.onnx=not = yet", "constraint=batch * time <= 64"]


@pytest.fixture
def words(nnkit_command):
    Path("net.py").write_text(NET)
    flags = [word for text in INPUTS for word in ("--input", text)]
    return ["net.py:Net", *flags, *(word for text in DECLARED for word in ("--declare", text))]


def test_what_is_declared_of_a_module_is_kept_and_repeated(words):
    spec = look_up("net.py:Net", plugin_manager(), INPUTS, DECLARED).resolve(None, {"without": "mask"})
    net = spec.architecture
    assert (net.causal, net.padding, net.constants) == ("time", ("mask", "ids"), {"scale": 2.0})
    assert (net.unsupported, net.constraints) == ({"onnx": "not = yet"}, ("batch * time <= 64",))
    assert list(spec.typed) == [*words, "--without", "mask"]


def test_the_checks_know_what_is_declared(words, nnkit_command):
    done = nnkit_command("smoke-run", *words, "--check", "causality")
    assert done.code == 0
    assert "passed   causality  outputs along time" in done.out
    refused = nnkit_command("export", *words, "--onnx")
    assert "net doesn't support onnx: not = yet" in refused.err
    assert not list(Path().glob("*.onnx"))
    text = nnkit_command("info", *words).out
    assert "ids: int64[batch, time] < 100 padding 0" in text
    assert "marked by mask, ids" in text


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("causl=time", "can't declare 'causl'", "did you mean causal?"),
        ("speed=fast", "can't declare 'speed'", "what can be declared: causal=time, padding=mask"),
        ("causal", "can't read the declaration 'causal'", "for example: --declare causal=time"),
        ("causal=", "can't read the declaration 'causal='", "for example: --declare causal=time"),
        ("unsupported=slow", "can't read the declaration", "for example: --declare unsupported.derivative="),
        ("causal=tim", "net.py:Net: causal names 'tim', which is no dim; did you mean time?", "correct --declare"),
        ("padding=msk", "net.py:Net: padding names 'msk', which is no input; did you mean mask?", "correct"),
        ("constraint=time", "net.py:Net: constraint 'time': 'time' is not a comparison", "correct"),
        ("stochastic=often", "net.py:Net: stochastic is 'often'", "correct"),
        ("tied=head.weight", "net.py:Net: tied has ('head.weight',), not a group of names", "correct"),
        ("container.cache=set", "net.py:Net: containers['cache'] is 'set'", "correct"),
    ],
)  # fmt: skip
def test_a_declaration_that_can_not_be_is_one_error_with_a_hint(nnkit_command, text, error, hint):
    Path("net.py").write_text(NET)
    flags = [word for each in INPUTS for word in ("--input", each)]
    done = nnkit_command("summary", "net.py:Net", *flags, "--declare", text)
    assert (done.code, done.out) == (2, "")
    said = done.err.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"Error: {error}")
    assert said[1].startswith(f"hint: {hint}")


def test_every_key_has_an_example_that_can_be_read():
    declared = declare(plugin_manager().find("simple-cnn")[1], [text.replace('"', "") for text in EXAMPLES])
    assert declared.pointwise == ("height", "width")
    assert declared.tied == (("embedding.weight", "head.weight"),)
    assert {re.split("[=.]", text)[0] for text in EXAMPLES} == set(KEYS)
    with pytest.raises(UsageProblem, match="causal is declared twice"):
        declare(declared, ["causal=time", "causal=rows"])


def test_declarations_of_python_are_those_of_the_command_line():
    declarations = {
        "causal": "time",
        "pointwise": ("height", "width"),
        "permutation": "points",
        "tied": [("a", "b"), ("c", "d")],
        "constraints": ["past <= time"],
        "unsupported": {"onnx": "not yet"},
        "straight_through": (),
    }
    assert as_texts(declarations) == (
        "causal=time",
        "pointwise=height,width",
        "permutation=points",
        "tied=a,b",
        "tied=c,d",
        "constraint=past <= time",
        "unsupported.onnx=not yet",
    )


@pytest.mark.parametrize(
    "text", [*INPUTS[:2], "n: int64[batch] in 0..time", "u: float32[batch, 3] unit = none"]
)
def test_a_tensor_is_shown_as_it_is_typed(text):
    (tensor,) = parse_inputs([text]).tensors
    shown = as_typed(tensor)
    assert parse_inputs([shown]).tensors == (tensor,)
