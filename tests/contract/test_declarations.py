"""declarations.py and declared_tensors.py: what can't be is refused when it is declared, in one sentence."""

import re
from dataclasses import dataclass, replace
from typing import Annotated

import pytest
from conftest import ROOT

from nnkit import Architecture, Dim, Meta, TensorSpec, TrainingStep
from nnkit.contract.config import RESERVED, RESERVED_SINCE
from nnkit.contract.declarations import declaration_problem


@dataclass(frozen=True, kw_only=True)
class Config:
    context: Annotated[int, Meta(ge=1)] = 16
    levels: int = 2
    rate: float = 0.5


X = TensorSpec("x", ("batch", "time", 3))
PAST = TensorSpec("cache.0.key", ("batch", "past", 3), optional=True)
MASK = TensorSpec("mask", ("batch", "past + time"), "bool", "prefix", "past + time", optional=True)
IDS = TensorSpec("ids", ("batch", "time"), "int64", "index", 100, padding=0)
SCORES = TensorSpec("scores", ("batch", "past + time", "2 ** levels"))

NET = Architecture(
    name="net",
    summary="",
    build="somewhere:Net",
    config=Config,
    inputs=[X, IDS, PAST, MASK],
    outputs=[SCORES],
    dims={
        "batch": Dim(default=2),
        "time": Dim(default=8, max="context", multiple_of="2 ** levels"),
        "past": Dim(default=4, min=0),
    },
    constants={"train": False, "cache.1": None},
    containers={"cache": "tuple", "cache.*": "somewhere:KeyValue"},
    constraints=("past + time <= context",),
    causal="time",
    padding=("mask", "ids"),
    permutation=("past",),
    pointwise=("time",),
    tied=[("a.weight", "b.weight")],
    stochastic="training",
    straight_through=("quantizer",),
    steps={"first": TrainingStep(outputs=("scores",), trains=("body",))},
)


def test_a_whole_declaration_is_accepted():
    assert declaration_problem(NET) == ""
    later = replace(
        NET, inputs=lambda c: NET.inputs, outputs=lambda c: NET.outputs, constants=lambda c: NET.constants
    )
    assert declaration_problem(later) == ""


def dim(**bounds):
    return {"dims": {**NET.dims, "time": Dim(**{"default": 8, **bounds})}}


def with_input(*tensors, **changes):
    return {"inputs": [*NET.inputs, *tensors], **changes}


WRONG = [
    # dims
    ({"dims": {**NET.dims, "batch": 8}}, "dims['batch'] is 8, not a Dim; write Dim(default=8), for example"),
    ({"dims": {**NET.dims, "my-dim": Dim(default=1)}}, "dim 'my-dim': a name is an identifier"),
    (dim(max="contxt"), "the bounds of dim 'time' follow 'contxt', which is no integer field of the config; did you mean context?"),
    (dim(max="past"), "the bounds of dim 'time' follow 'past', which is a dim; hold dims together by constraints"),
    (dim(max="time"), "the bounds of dim 'time' follow 'time', which is a dim; hold dims together by constraints"),
    (dim(max="rate"), "the bounds of dim 'time' follow 'rate', which is no integer field of the config"),
    (dim(min=20, max="context"), "dim 'time' has no size under the default config: no size is from 20 to 16 and a multiple of 1"),
    # shapes
    (with_input(TensorSpec("y", ("batch", "pst + time"))), "a shape names 'pst', which is neither a dim nor a config field"),
    (with_input(TensorSpec("y", ("batch", -1))), "a shape names -1: no size is negative"),
    (with_input(TensorSpec("y", ("batch", 2.5))), "a shape names 2.5: a size is an integer, a name, or arithmetic of both as text"),
    ({"inputs": [X, IDS, MASK], "containers": {}}, "the shape of an input names 'past + time', but no input has 'past' as an axis of its own, which shows its size"),
    (with_input(replace(IDS, name="y", index_of="words")), "index_of of 'y' names 'words', which is neither a dim nor a config field"),
    # names
    (with_input(replace(X, name="my-input")), "input 'my-input': a name is an identifier; parts of it are joined by dots: cache.0.key"),
    (with_input(replace(X, name="0.x")), "input '0.x': a name is an identifier; parts of it are joined by dots: cache.0.key"),
    (with_input(X), "input 'x' is declared twice"),
    (with_input(replace(X, name="cache")), "input 'cache' can't be a value and hold 'cache.0.key'"),
    ({"constants": {"x": 1}}, "input 'x' is declared twice"),
    ({"constants": {"cache": 1}}, "input 'cache' can't be a value and hold 'cache.0.key'"),
    ({"constants": {"a b": 1}}, "constant 'a b': a name is an identifier; parts of it are joined by dots: cache.0.key"),
    ({"constants": ["train"]}, "constants is not a dict of names and values"),
    ({"outputs": [SCORES, SCORES]}, "output 'scores' is declared twice"),
    ({"outputs": [SCORES, replace(X, name="scores.0")]}, "output 'scores' can't be a value and hold 'scores.0'"),
    ({"outputs": [SCORES, X]}, "'x' is both an input and an output; give the output a name of its own"),
    # values
    (with_input(replace(X, name="y", sample="norml")), "input 'y' is drawn in the unknown way 'norml'; did you mean normal or uniform?"),
    (with_input(replace(IDS, name="y", index_of=None)), "input 'y' is drawn as index, but doesn't say of what: set index_of to a dim, a field or a number"),
    (with_input(TensorSpec("y", ("batch",), "bool", "prefix", "time")), "input 'y' is a prefix mask along 'time', which is not one of its axes"),
    (with_input(replace(X, name="y", padding=0)), "input 'y' has padding 0; only integers are padded, by one of them"),
    (with_input(TensorSpec("y", ("batch",), "int64", "lengths", "time", padding=0)), "input 'y' has a padding value; only integers that are drawn as index, sorted or zeros have an end"),
    # optional
    (with_input(replace(X, name="y", given=False)), "input 'y' is not given (given=False), but it isn't optional"),
    ({"outputs": [replace(SCORES, optional=True)]}, "output 'scores' is optional; outputs follow the config: make outputs a function that leaves it out"),
    # containers
    ({"containers": {"cache": "set"}}, "containers['cache'] is 'set'; it is list, tuple, dict, 'module:Class' or a class"),
    ({"containers": {"cahce": "list"}}, "containers names 'cahce', which holds no input"),
    ({"containers": ["cache"]}, "containers is not a dict of paths and containers"),
    # one text where several are meant
    ({"constraints": "past < time"}, "constraints is 'past < time'; it is a tuple, as in constraints=('past < time',)"),
    ({"permutation": "past"}, "permutation is 'past'; it is a tuple, as in permutation=('past',)"),
    ({"straight_through": (1,)}, "straight_through has 1, which is not text"),
    ({"tied": ("a.weight", "b.weight")}, "tied has 'a.weight', not a group of names: tied=[(\"embedding.weight\", \"head.weight\")]"),
    # constraints
    ({"constraints": ("past + time",)}, "constraint 'past + time': 'past + time' is not a comparison of two sizes, such as 'past + time <= context'"),
    ({"constraints": ("past + tim <= 4",)}, "constraint 'past + tim <= 4' names 'tim', which is neither a dim nor an integer field of the config; did you mean time?"),
    ({"constraints": ("past <= rate",)}, "constraint 'past <= rate' names 'rate', which is neither a dim nor an integer field of the config"),
    ({"constraints": ("levels <= context",)}, "constraint 'levels <= context' names no dim"),
    # invariances
    ({"causal": "tim"}, "causal names 'tim', which is no dim; did you mean time?"),
    ({"permutation": ("points",)}, "permutation names 'points', which is no dim; there is batch, time, past"),
    ({"pointwise": ("context",)}, "pointwise names 'context', which is no dim; there is batch, time, past"),
    ({"padding": ("msk",)}, "padding names 'msk', which is no input; did you mean mask?"),
    ({"padding": ("x",)}, "padding names 'x', which doesn't show where padding is: draw it as keep, prefix, suffix or lengths, or give it a padding value"),
    ({"stochastic": "sometimes"}, "stochastic is 'sometimes'; it is 'training', 'always', or left out"),
    ({"steps": {"one": "first"}}, "steps['one'] is 'first', not a TrainingStep"),
    ({"steps": {"one": TrainingStep(outputs="scores", trains=("a",))}}, "outputs of step 'one' is 'scores'; it is a tuple, as in outputs=('scores',)"),
    ({"steps": {"one": TrainingStep(outputs=("score",), trains=("a",))}}, "step 'one' names 'score', which is no output; did you mean scores?"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "problem"), WRONG, ids=[problem[:60] for _, problem in WRONG])
def test_what_can_not_be_is_refused_in_one_sentence(changes, problem):
    assert declaration_problem(replace(NET, **changes)) == problem


def test_what_an_earlier_version_let_pass_still_loads():
    """Networks of API 1.0 could be built and summarized with each of these."""
    for changes in (
        {"outputs": [SCORES, X]},
        {"causal": "frames"},
        {"inputs": [replace(X, sample="norml"), *NET.inputs[1:]]},
        {"inputs": [replace(X, name="my-input"), *NET.inputs[1:]]},
    ):
        assert declaration_problem(replace(NET, **changes), api="1.0") == ""
        assert declaration_problem(replace(NET, **changes)) != ""


def test_a_reserved_name_is_refused_and_says_where_all_of_them_are():
    problem = (
        "option 'without' would hide the core option --without; rename it (reserved names: docs/contract.md)"
    )
    shape = TensorSpec("y", ("without",))
    changed = replace(NET, inputs=[*NET.inputs, shape], dims={**NET.dims, "without": Dim(default=1)})
    assert declaration_problem(changed) == problem
    assert declaration_problem(changed, api="1.0") == ""


def test_the_page_lists_the_reserved_names_by_version():
    page = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8").partition("## Reserved names")[2]
    for (major, minor), names in RESERVED_SINCE.items():
        (row,) = re.findall(rf"^\| {major}\.{minor} \| (.+) \|$", page, re.MULTILINE)
        assert re.findall(r"`([a-z0-9_]+)`", row) == sorted(names.split())
    assert len(RESERVED) == sum(len(names.split()) for names in RESERVED_SINCE.values())
