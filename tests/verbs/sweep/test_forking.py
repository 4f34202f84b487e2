"""Forked models: each child is like a new process, and what can't be copied isn't forked."""

import fcntl
import gzip
import json
import os
import resource
import signal
import socket
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import python

import nnkit
from nnkit.verbs.sweep import executors
from nnkit.verbs.sweep.forking import ForkServer, can_fork
from nnkit.verbs.sweep.running import Run, run_task

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks"),
    pytest.mark.usefixtures("mirror"),
]
OWN = {"pid", "parent", "python", "numpy"}  # what differs between any two processes


@pytest.fixture
def mirror(tmp_path, monkeypatch, fresh_plugins):
    """Install the plugin mirror, and no other."""
    info = tmp_path / "site" / "nnkit_mirror-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nnkit-mirror\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nnkit]\nmirror = sweep_mirror\n")
    (info.parent / "parts.py").write_text("SCALE = 1\n")
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setenv("NNKIT_PLUGINS", "mirror")
    monkeypatch.setenv("MIRROR_FILE", str(tmp_path / "facts"))
    monkeypatch.chdir(tmp_path)
    return info.parent


def facts():
    """Return what the first process of each model has written down, and forget it."""
    file = Path(os.environ["MIRROR_FILE"])
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    file.unlink(missing_ok=True)
    first = {line["pid"]: line for line in reversed(lines)}
    return [
        {**line, "written": file.with_suffix(f".{pid}").read_text()} for pid, line in reversed(first.items())
    ]


def sweep(*names, **options):
    report = nnkit.smoke_sweep(*names, checks=["finite"], **options)
    assert report.passed, report.models
    return facts()


@pytest.mark.slow
def test_a_child_is_like_a_new_process(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = {}
    for least in (1000, 2):
        monkeypatch.setattr(executors, "WORTHWHILE", least)
        found[least] = sweep("one", "two")
    new, forked = found[1000], found[2]
    assert {each["parent"] for each in new} == {os.getpid()}
    (server,) = {each["parent"] for each in forked}
    assert server != os.getpid()
    for one, other in zip(new, forked, strict=True):
        assert {name: one[name] for name in one.keys() - OWN} == {
            name: other[name] for name in one.keys() - OWN
        }
    assert [each["written"] for each in forked] == ["open thread exit ", "deleted open thread exit "]
    assert len({each[name] for each in (*new, *forked) for name in ("python", "numpy")}) == 8


@pytest.mark.parametrize(
    ("at_import", "shared"),
    [
        ("", ""),
        ("file", "descriptors"),
        ("folder", "exit handlers"),
        ("exit", "exit handlers"),
        ("process", "processes"),
    ],
)
def test_what_a_plugin_has_made_at_import_is_not_shared(monkeypatch, at_import, shared):
    monkeypatch.setenv("MIRROR", at_import)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    done = python("-c", "from nnkit.verbs.sweep.server import import_plugins; print(repr(import_plugins()))")
    assert done.stdout.splitlines() == [repr(shared)], done.stderr


END = """
import gzip, os, sys, tempfile, zipfile
from nnkit.verbs.sweep.ending import Ending
ending = Ending()
exec(sys.argv[1])
ending.end()
print("by Python")
"""


@pytest.mark.parametrize(
    ("left", "by_python"),
    [
        ("kept = open('left.txt', 'w'); kept.write('last')", False),
        ("kept = tempfile.NamedTemporaryFile(dir='.')", True),
        ("kept = gzip.open('left.gz', 'wt'); kept.write('last')", True),
        ("kept = zipfile.ZipFile('left.zip', 'w'); kept.writestr('a', 'last')", True),
    ],
)
def test_what_a_child_has_not_closed_is_whole_and_what_is_temporary_is_gone(tmp_path, left, by_python):
    folder = tmp_path / "left"
    folder.mkdir()
    done = python("-c", END, left, cwd=folder)
    assert (done.returncode, done.stdout) == (0, "by Python\n" * by_python), done.stderr
    for file in folder.iterdir():
        content = _read_zip(file) if file.suffix == ".zip" else file.read_bytes()
        assert (gzip.decompress(content) if file.suffix == ".gz" else content) == b"last"


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read("a")


@pytest.mark.slow
def test_with_a_second_thread_each_model_gets_a_new_process(monkeypatch):
    monkeypatch.setenv("MIRROR", "thread")
    assert {each["parent"] for each in sweep("one", "two")} == {os.getpid()}


def test_only_models_for_the_cpu_of_linux_are_forked(monkeypatch):
    assert [can_fork(device) for device in ("cpu", "cpu:0", "cuda", "cuda:1", "mps")] == [
        True,
        True,
        *[False] * 3,
    ]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not can_fork("cpu")


def task(name="mirror/one"):
    spec = nnkit.resolve(name).to_dict()
    options = {"device": "cpu", "checks": ["finite"], "full": False, "compiled": False}
    return {"spec": spec, **options, "versions": {}, "time_limit": 600.0, "memory_limit": None}


@pytest.mark.slow
def test_what_changes_between_two_models_is_not_stale(mirror, monkeypatch):
    """`parts` is imported by the model; a plugin imports `declared`, which the server has read."""
    (mirror / "declared.py").write_text("MARK = 'a'\n")
    (mirror / "nnkit_mirror_more.py").write_text(
        "from sweep_mirror import *\nimport os, declared\nos.environ['MARK'] = declared.MARK\n"
    )
    entry_points = mirror / "nnkit_mirror-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text("[nnkit]\nmirror = nnkit_mirror_more\n")
    seen, wanted = [], task()
    for name, text in (("parts", "SCALE = 1\n"), ("parts", "SCALE = 22\n"), ("declared", "MARK = 'new'\n")):
        (mirror / f"{name}.py").write_text(text)
        monkeypatch.delitem(os.environ, "MARK", raising=False)
        assert run_task(wanted)["status"] == "passed"
        (fact,) = facts()
        seen.append((fact["scale"], fact["environment"]["MARK"], fact["parent"]))
    assert [each[:2] for each in seen] == [(1, "a"), (22, "a"), (22, "new")]
    assert seen[0][2] == seen[1][2]  # one server forked both


def test_a_server_works_for_a_process_that_has_many_files_open():
    ours, theirs = socket.socketpair()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    try:
        server = ForkServer.__new__(ForkServer)
        server.reason, server._channel = "", socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD, 1100))
        with theirs, ours, server._channel:
            theirs.send(b"report")
            server.wait(60)
            assert server._channel.recv(6) == b"report"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_a_server_that_is_killed_costs_no_result(monkeypatch):
    from nnkit.verbs.sweep.launching import Launcher

    launcher = Launcher(dict(os.environ), forks=True)
    while launcher.is_starting:
        launcher.wait(0.1)
    first = Run(task(), launcher)
    file = Path(os.environ["MIRROR_FILE"])
    while not file.exists() or not file.read_text().endswith("\n"):
        time.sleep(0.01)
    os.kill(facts()[0]["parent"], signal.SIGKILL)
    while (outcome := first.poll()) is None:
        launcher.wait(0.1)
    assert outcome["status"] == "passed"
    second = Run(task("mirror/two"), launcher)
    while (outcome := second.poll()) is None:
        launcher.wait(0.1)
    assert outcome["status"] == "passed"
    launcher.close()


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "package"), [("slurm", "submitit"), ("dask", "distributed")])
def test_a_worker_forks_all_of_its_models(monkeypatch, executor, package):
    pytest.importorskip(package)
    monkeypatch.setenv("NNKIT_PLUGINS", f"mirror {executor}")
    monkeypatch.setenv("NNKIT_SLURM", "cluster=local folder=jobs cpus_per_task=1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    one, two = sweep("one", "two", executor=executor, jobs=1)
    assert one["parent"] == two["parent"] != os.getpid()
    assert one["pid"] != two["pid"]
