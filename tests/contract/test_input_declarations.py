"""input_declarations.py: what is typed after --input, read into tensors, dims and constants."""

import pytest

from nnkit import Dim, TensorSpec
from nnkit.contract.input_declarations import parse_inputs
from nnkit.errors import UsageProblem

TENSORS = {
    "x: float32[batch, 3, height=64 min=32]": TensorSpec("x", ("batch", 3, "height"), "float32"),
    "batch.image: float32[8, 8]": TensorSpec("batch.image", (8, 8), "float32"),
    "cache.0.key: float[batch, past] = none": TensorSpec(
        "cache.0.key", ("batch", "past"), optional=True, given=False
    ),
    "mask: bool[batch, past + time]": TensorSpec("mask", ("batch", "past + time"), "bool", "mask"),
    "mask: bool[batch, time] ?": TensorSpec("mask", ("batch", "time"), "bool", "mask", optional=True),
    "mask: bool[time] prefix mask of time?": TensorSpec(
        "mask", ("time",), "bool", "prefix", "time", optional=True
    ),
    "mask: bool[past + time] prefix mask of past + time": TensorSpec(
        "mask", ("past + time",), "bool", "prefix", "past + time"
    ),
    "mask: bool[batch, time] padding mask of time": TensorSpec(
        "mask", ("batch", "time"), "bool", "suffix", "time"
    ),
    "mask: bool[batch, time] keep": TensorSpec("mask", ("batch", "time"), "bool", "keep"),
    "n: int64[batch] lengths of time": TensorSpec("n", ("batch",), "int64", "lengths", "time"),
    "n: int64[batch] in 0..time": TensorSpec("n", ("batch",), "int64", "lengths", "time", least=0),
    "ids: int64[time]": TensorSpec("ids", ("time",), "int64", "zeros"),
    "ids: int64[time] < 1000": TensorSpec("ids", ("time",), "int64", "index", 1000),
    "ids: int64[time] < vocabulary padding -100": TensorSpec(
        "ids", ("time",), "int64", "index", "vocabulary", padding=-100
    ),
    "ids: int64[time] < (2 * width) sorted": TensorSpec("ids", ("time",), "int64", "sorted", "(2 * width)"),
    "t: float32[time] sorted": TensorSpec("t", ("time",), "float32", "sorted"),
    "s: float32[batch] positive": TensorSpec("s", ("batch",), "float32", "positive"),
    "u: float32[batch, 3] unit ?": TensorSpec("u", ("batch", 3), "float32", "unit", optional=True),
    "a: float32[batch] angles": TensorSpec("a", ("batch",), "float32", "angles"),
    "p: float32[batch] uniform = none": TensorSpec(
        "p", ("batch",), "float32", "uniform", optional=True, given=False
    ),
}


@pytest.mark.parametrize("text", TENSORS)
def test_a_tensor_is_read(text):
    assert parse_inputs([text]).tensors == (TENSORS[text],)


@pytest.mark.parametrize(
    ("axis", "dim"),
    [
        ("batch", Dim(default=1)),
        ("time", Dim(default=8)),
        ("time=5", Dim(default=5)),
        ("time min=3 multiple_of=6", Dim(default=12, min=3, multiple_of=6)),
        ("time max=context", Dim(default=8, max="context")),
        (
            "time=64 multiple_of=2**levels max=context-1",
            Dim(default=64, multiple_of="2**levels", max="context-1"),
        ),
        ("time=context", Dim(default="context")),
    ],
)
def test_a_dim_has_its_default_and_its_bounds(axis, dim):
    (read,) = parse_inputs([f"x: float32[{axis}]"]).dims.values()
    assert read == dim


def test_a_dim_may_get_its_size_where_it_comes_second():
    declared = parse_inputs(["x: float32[batch, time]", "y: float32[time=5]", "z: float32[past + time]"])
    assert declared.dims == {"batch": Dim(default=1), "time": Dim(default=5)}
    assert declared.sized == {"time"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("train = false", False),
        ("train=True", True),
        ("mask = none", None),
        ("scale = 0.5", 0.5),
        ("groups = -3", -3),
        ('mode = "fast"', "fast"),
        ("batch.mode = 'a = b: c[d]'", "a = b: c[d]"),
        ("size = (2, 3)", (2, 3)),
    ],
)
def test_a_constant_is_read(text, value):
    declared = parse_inputs(["x: float32[3]", text])
    assert declared.constants == {text.partition("=")[0].strip(): value}
    assert len(declared.tensors) == 1


WRONG = {
    "x": "can't read the input 'x'",
    "x float32[3]": "can't read the input",
    "x..y: float32[3]": "can't read the input",
    "x = fast": "can't read the value 'fast'",
    "x = float32[3]": "can't read the value 'float32[3]'",
    "x = print(1)": "can't read the value 'print(1)'",
    "x: float32[a b]": "can't read the axis 'a b'",
    "x: float32[time +]": "can't read the axis 'time +'",
    "x: float32[f(x)]": "can't read the axis 'f(x)'",
    "x: float32[time mn=3]": "time has an unknown bound 'mn'",
    "x: float32[time=a/b]": "can't read the size of time 'a/b'",
    "x: float32[time=3 min=4]": "the default of a dim must be at least 4, got 3",
    "x: float32[time multiple_of=0]": "multiple_of must be at least 1, got 0",
    "x: float32[time=3, time=4]": "time is declared twice",
    "x: float32[3] postive": "can't read the values 'postive'",
    "x: int64[3] < -3": "can't read the values '< -3'",
    "x: int64[3] < 99999999999999999999": "is too large",
    "x: int64[3] padding 0": "padding in 'x: int64[3] padding 0' needs a limit",
    "x: int64[3] < 3 in 1..4": "are declared in two ways",
    "x: int64[3] < 3 < 4": "two values are declared",
    "x: int64[3] < 3 unit": "are declared in two ways",
    "x: bool[3] prefix mask": "can't read the values 'prefix mask'",
    "x: bool[3] prefix mask of": "can't read the values",
    "x: bool[3] lengths of a b": "can't read lengths 'a b'",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_can_not_be_read_is_one_error_with_a_hint(text):
    with pytest.raises(UsageProblem) as raised:
        parse_inputs([text])
    assert WRONG[text] in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["x: float32[3]", "x: float32[3]"], "the input 'x' is declared twice"),
        (["x: float32[3]", "x = none"], "the input 'x' is declared twice"),
        (["cache.0: float32[3]", "cache = none"], "the input 'cache' can't be a value and hold 'cache.0'"),
        (["a.b: float32[3]", "a.b.c: float32[3]"], "the input 'a.b' can't be a value and hold 'a.b.c'"),
    ],
)
def test_names_that_clash_are_refused(texts, message):
    with pytest.raises(UsageProblem) as raised:
        parse_inputs(texts)
    assert raised.value.message == message


def test_the_nearest_word_is_offered():
    for text, hint in {
        "x: float32[3] postive": "did you mean positive?",
        "x: float32[t mx=3]": "did you mean max?",
    }.items():
        with pytest.raises(UsageProblem) as raised:
            parse_inputs([text])
        assert raised.value.hint == hint
