"""sizes.py and files.py: where a model is proven, and how a file takes its place."""

import os

import pytest

from nnkit import Dim
from nnkit.errors import NnkitError, UsageProblem
from nnkit.verbs.exporting.files import staged
from nnkit.verbs.exporting.sizes import other_sizes, traced_sizes

BATCH = {"batch": Dim(default=1)}
GRAPH = {"nodes": Dim(default=34), "edges": Dim(default=156, min=0)}
IMAGE = {"batch": Dim(default=1), "height": Dim(default=224, min=32), "width": Dim(default=224, min=32)}
STEPS = {"batch": Dim(default=1, max=4), "time": Dim(default=8, min=4, multiple_of=4)}
PATCHES = {"batch": Dim(default=1), "side": Dim(default=64, min=20, multiple_of=16)}


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


def test_a_model_without_dims_has_no_other_assignment():
    assert other_sizes({}, {}) == []


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
