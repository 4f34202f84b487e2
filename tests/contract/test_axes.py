"""axes.py: what an axis is declared by."""

from dataclasses import dataclass, replace

import pytest
from torch import nn

import nnkit
from nnkit import Architecture, Dim, TensorSpec
from nnkit.contract.axes import names_in, size_of, substitute
from nnkit.contract.declarations import declaration_problem
from nnkit.errors import UsageProblem, VerificationFailed
from nnkit.models.references import Reference

SIZES = {"batch": 2, "time": 7, "width": 16}


@pytest.mark.parametrize(
    ("axis", "known", "expected"),
    [
        ("past + time", {"past": 0}, "time"),
        ("past + time", {"past": 3}, "3 + time"),
        ("past + time", {"past": 3, "time": 4}, 7),
        ("(time+1)//2", {"past": 3}, "(time+1)//2"),
        ("(past + time) * heads", {"past": 2, "heads": 1}, "2 + time"),
        ("time - past", {"past": 0}, "time"),
        (5, {"past": 0}, 5),
    ],
)
def test_an_axis_with_numbers_for_the_names_that_are_known(axis, known, expected):
    assert substitute(axis, known) == expected


@pytest.mark.parametrize(
    "expression", ["time", "(time + 1) // 2", "2 * time - 1", "batch * time", "width // (time - 3)", "12", "1 - time"]
)  # fmt: skip
def test_an_expression_is_what_python_makes_of_it(expression):
    assert size_of(expression, SIZES) == eval(expression, {}, SIZES)
    assert names_in(expression) == {name for name in SIZES if name in expression}


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("time //", "'time //' is not arithmetic"),
        ("time / 2", "'time / 2' is not arithmetic"),
        ("time % 2", r"'time % 2' is not arithmetic"),
        ("len(time)", r"'len\(time\)' is not arithmetic"),
        ("time.real", "'time.real' is not arithmetic"),
        ("time * 0.5", "'0.5' is not arithmetic"),
        ("", "'' is not arithmetic"),
    ],
)
def test_what_is_no_arithmetic_is_refused(expression, problem):
    with pytest.raises(ValueError, match=problem):
        size_of(expression, SIZES)
    with pytest.raises(ValueError, match=problem):
        names_in(expression)


def test_a_name_without_a_size_and_a_division_by_zero():
    with pytest.raises(KeyError):
        size_of("nodes // 2", SIZES)
    with pytest.raises(ValueError, match="divides by zero"):
        size_of("time // (time - 7)", SIZES)


# An architecture that says so


@dataclass(frozen=True, kw_only=True)
class StridedConfig:
    stride: int = 2


class Strided(nn.Module):
    """A convolution along time, with nothing after the step that it stands at."""

    def __init__(self, config: StridedConfig):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, stride=config.stride)

    def forward(self, x):
        return self.conv(nn.functional.pad(x, (2, 0)))


class Leaking(Strided):
    """The same, one step too early."""

    def forward(self, x):
        return self.conv(nn.functional.pad(x, (1, 1)))


def strided(axis, build=Strided):
    return Architecture(
        name="strided", summary="A convolution that leaves steps out", build=build, config=StridedConfig,
        inputs=[TensorSpec("x", ("batch", 3, "time"))], outputs=[TensorSpec("y", ("batch", 4, axis))],
        dims={"batch": Dim(default=2), "time": Dim(default=8)}, causal="time",
    )  # fmt: skip


def spec_of(architecture, **options):
    return Reference(architecture, "").resolve(options=options)


@pytest.mark.parametrize(("stride", "axis"), [(2, "(time + 1) // 2"), (3, "(time - 1) // stride + 1")])
def test_a_model_with_a_computed_axis_is_proven_and_passes_every_check(tmp_path, stride, axis):
    import onnx

    spec = spec_of(strided(axis), stride=stride)
    report = nnkit.export(spec, tmp_path / "net.onnx")
    assert report.verified
    (output,) = onnx.load(tmp_path / "net.onnx").graph.output
    named = [each.dim_param or each.dim_value for each in output.type.tensor_type.shape.dim]
    assert named[:2] == ["batch", 4]
    assert (named[2] == axis) is ("stride" not in axis)  # of options a file knows nothing
    assert [eval(named[2], {}, {"time": time}) for time in (7, 8, 9)] == [
        -(-time // stride) for time in (7, 8, 9)
    ]
    checks = {check.name: check for check in nnkit.smoke_run(spec).checks}
    assert {name for name, check in checks.items() if check.status == "failed"} == set()
    assert checks["causality"].status == "passed"


def test_a_wrong_expression_is_found_by_the_proof_and_by_the_checks(tmp_path):
    spec = spec_of(strided("time // 2"))
    with pytest.raises(VerificationFailed, match=r"declared with time // 2 on axis 2 but has \d"):
        nnkit.export(spec, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
    (check,) = nnkit.smoke_run(spec, checks=["shapes"]).checks
    assert check.status == "failed"


class Cut(Strided):
    """Always of the same length."""

    def forward(self, x):
        return super().forward(x)[..., :1]


def test_an_axis_that_never_moves_is_no_expression(tmp_path):
    with pytest.raises(VerificationFailed, match=r"axis 2 of output 'y' is always 1, not \(time \+ 1\) // 2"):
        nnkit.export(spec_of(strided("(time + 1) // 2", Cut)), tmp_path / "net.onnx")


def test_what_sees_the_future_is_found_behind_a_stride():
    (check,) = nnkit.smoke_run(spec_of(strided("(time + 1) // 2", Leaking)), checks=["causality"]).checks
    assert (check.status, check.message) == ("failed", "output y before time 7 depends on inputs after it")


@pytest.mark.parametrize(
    ("part", "axis", "problem"),
    [
        ("outputs", "time /", "a shape names 'time /': 'time /' is not arithmetic of names and integers"),
        ("outputs", "(tim + 1) // 2", "a shape names 'tim', which is neither a dim nor a config field"),
        ("inputs", "2 * time", "the shape of an input names '2 * time', but no input has 'time' as an axis of its own, which shows its size"),
    ],
)  # fmt: skip
def test_a_declaration_that_cannot_be_is_refused(part, axis, problem):
    architecture = strided("time")
    assert declaration_problem(architecture) == ""
    assert declaration_problem(replace(architecture, **{part: [TensorSpec("z", ("batch", axis))]})) == problem


def test_shapes_that_depend_on_the_config_are_checked_when_they_are_used():
    spec = spec_of(replace(strided("time"), outputs=lambda config: [TensorSpec("y", ("batch", "time /"))]))
    with pytest.raises(UsageProblem, match="the shape of 'y': 'time /' is not arithmetic"):
        spec.shape(spec.outputs[0])
