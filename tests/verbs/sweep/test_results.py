"""results.py: what is read from a file of results that crashes, copies and `cat` have damaged."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnkit.errors import NnkitError, UsageProblem
from nnkit.verbs.sweep.report import ModelResult
from nnkit.verbs.sweep.results import SCHEMA, results_in


def task(name):
    """What results_in needs of a task: its name, and what its result depends on."""
    return SimpleNamespace(name=name, to_dict=lambda: {"name": name})


def line(name):
    content = {
        "name": name,
        "status": "passed",
        "message": "",
        "command": "",
        "seconds": 1.0,
        "peak_memory": 1,
    }
    return json.dumps({"schema": SCHEMA, "task": {"name": name}, **content, "report": None}).encode()


A, B, C = line("a"), line("b"), line("c")
NAMES = "abcd"


def finished(path):
    with results_in(path) as results:
        return sorted(results.finished(map(task, NAMES)))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (A + b"\n" + B + b"\n" + C, "abc"),
        (A + b"\n" + B[:50] + b"\n" + C + b"\n", "ac"),
        (A[:1] + b"\n" + B + b"\n", "b"),
        (A + b"\n" + B[50:] + b"\n" + C + b"\n", "ac"),
        (B[50:] + b"\n" + C + b"\n", "c"),
        (A + b"\n" + B[:50] + C + b"\n", "ac"),
        (A + B + C, "abc"),
        (A + b"\n\n" + b"\0" * 40 + b"\n" + C, "ac"),
        (A + b"\n" + B.replace(b'"passed"', b'"\xff"') + b"\n" + C + b"\n", "ac"),
        (A + b"\n" + B.replace(b'"task"', b'"tusk"') + b"\n" + C + b"\n", "ac"),
        (A.replace(b": ", b":") + b"\r\n" + B + b"\n", "ab"),
        (A + B[:50], "a"),
    ],
)
def test_a_torn_line_costs_that_line_alone(tmp_path, content, names):
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    assert finished(path) == list(names)
    with results_in(path) as results:
        results.append(task("d"), ModelResult(name="d", status="passed", message=""))
    assert finished(path) == [*names, "d"]


def test_a_device_is_not_read_without_end(monkeypatch):
    """/dev/full gives zeros for ever and takes nothing, as a disk does that is full."""
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("a device was read"))
    with results_in(Path("/dev/full")) as results, pytest.raises(NnkitError, match="No space left"):
        results.append(task("a"), ModelResult(name="a", status="passed", message=""))


@pytest.mark.parametrize(
    ("content", "number"),
    [(b'{"schema": "nnkit.list/1"}', 1), (A + b'\n{"schema": "nnkit.smoke-sweep-model/2"}\n', 2),
     (A + b"\n[1]\n", 2), (b"notes\n", 1)],
)  # fmt: skip
def test_a_file_of_something_else_is_left_alone(tmp_path, content, number):
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageProblem, match=f"line {number} of .* is not a result of a sweep"):
        finished(path)
    assert path.read_bytes() == content
