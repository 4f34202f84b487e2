"""sizes.py and files.py: where a model is proven, and how a file takes its place."""

import os

import pytest

from nnkit import Dim
from nnkit.contract.sizes import Dims
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.sizes import complete, ladders, other_sizes, traced_sizes
from nnkit.verbs.exporting.files import staged


def dims_of(*constraints, known=None, **dims):
    """Return dims with numbers for their bounds."""
    return Dims({name: dim.resolve({}) for name, dim in dims.items()}, constraints, known)


BATCH = dims_of(batch=Dim(default=1))
GRAPH = dims_of(nodes=Dim(default=34), edges=Dim(default=156, min=0))
IMAGE = dims_of(batch=Dim(default=1), height=Dim(default=224, min=32), width=Dim(default=224, min=32))
STEPS = dims_of(batch=Dim(default=1, max=4), time=Dim(default=8, min=4, multiple_of=4))
PATCHES = dims_of(batch=Dim(default=1), side=Dim(default=64, min=20, multiple_of=16))
DECODER = dims_of(
    "past + time <= context",
    known={"context": 24},
    batch=Dim(default=1),
    past=Dim(default=0, min=0),
    time=Dim(default=8),
)
CROSS = dims_of("targets <= sources", sources=Dim(default=2), targets=Dim(default=9))


@pytest.mark.parametrize("dims", [BATCH, GRAPH, IMAGE, STEPS, PATCHES])
def test_at_least_four_other_assignments_each_allowed_and_none_the_traced(dims):
    traced = traced_sizes(dims, {})
    others = other_sizes(dims, traced)
    assert len(others) >= 4 or dims is STEPS
    assert traced not in others
    for sizes in [traced, *others]:
        assert not any(dims[name].problem_with(size) for name, size in sizes.items())
        assert len(set(sizes.values())) == len(sizes)
    for name, dim in dims.items():
        assert any(sizes[name] == dim.least for sizes in others)
        assert dim.max is not None or any(sizes[name] > traced[name] for sizes in others)


def test_tracing_avoids_the_sizes_that_torch_takes_for_constants():
    assert traced_sizes(BATCH, {"batch": 1}) == {"batch": 2}
    assert traced_sizes(IMAGE, {}) == {"batch": 2, "height": 224, "width": 225}
    assert traced_sizes(GRAPH, {"nodes": 5, "edges": 0}) == {"nodes": 5, "edges": 2}


@pytest.mark.parametrize("dims", [DECODER, CROSS])
def test_every_assignment_satisfies_the_constraints(dims):
    traced = traced_sizes(dims, {name: dim.default for name, dim in dims.items()})
    coarse, fine = ladders(dims, traced)
    further = [sizes for ladder in (*coarse, *fine) for sizes in ladder]
    for sizes in [traced, *other_sizes(dims, traced), complete(dims, {"time": 24}), *further]:
        assert not dims.problem_with(sizes), sizes
    assert min(traced.values()) >= 2
    assert len(set(traced.values())) == len(traced)


def test_sizes_go_down_to_the_smallest_and_up_to_what_the_constraints_allow():
    traced = traced_sizes(DECODER, {"batch": 1, "past": 0, "time": 8})
    assert traced == {"batch": 2, "past": 3, "time": 8}
    assert any(sizes["past"] == 0 for sizes in other_sizes(DECODER, traced))
    coarse, _ = ladders(DECODER, traced)
    reached = [sizes for ladder in coarse for sizes in ladder]
    assert {"batch": 2, "past": 23, "time": 1} in reached
    assert {"batch": 2, "past": 0, "time": 24} in reached


def test_a_dim_is_traced_at_two_where_the_constraints_leave_no_distinct_sizes():
    tight = dims_of("past + time <= 4", past=Dim(default=0, min=0), time=Dim(default=8, max=8))
    assert traced_sizes(tight, {"past": 0, "time": 4}) == {"past": 2, "time": 2}


def test_a_model_without_dims_has_no_other_assignment():
    assert other_sizes(Dims({}), {}) == []


def test_a_file_and_its_companion_take_their_place_together(tmp_path):
    target = tmp_path / "net.onnx"
    with staged(target, force=False) as path:
        path.write_text("net")
        (path.parent / "net.onnx.data").write_text("weights")
        assert path.name == "net.onnx"
        assert not target.exists()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "net.onnx": "net",
        "net.onnx.data": "weights",
    }


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_ends_early_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "net.onnx"
    target.write_text("old")
    with pytest.raises(error), staged(target, force=True) as path:
        path.write_text("half")
        raise error
    assert os.listdir(tmp_path) == ["net.onnx"]
    assert target.read_text() == "old"


def test_a_failed_write_is_told_with_its_cause(tmp_path):
    with pytest.raises(NnkitError, match="No space left on device"), staged(tmp_path / "a", force=False):
        raise OSError(28, "No space left on device")


def test_a_file_that_is_there_and_a_folder_that_is_not(tmp_path):
    (tmp_path / "net.onnx").write_text("old")
    with pytest.raises(UsageProblem, match="already exists"), staged(tmp_path / "net.onnx", force=False):
        pass
    with pytest.raises(UsageProblem, match="does not exist"), staged(tmp_path / "no" / "a", force=True):
        pass
