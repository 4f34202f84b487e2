"""files.py: what lies at a path while a file is put there, whatever ends the process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nnkit.errors import NnkitError, UsageProblem
from nnkit.verbs.exporting.files import staged

CUT = """
import os, pathlib, signal, sys
from nnkit.verbs.exporting.files import staged
target, stop, call = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
owner = os if call in ('link', 'fsync') else pathlib.Path
seen, original = 0, getattr(owner, call)
def counted(*args, **more):
    global seen
    if seen == stop:
        os.kill(os.getpid(), signal.SIGKILL)
    seen += 1
    return original(*args, **more)
setattr(owner, call, counted)
with staged(target, force=True) as path:
    path.write_text("new")
    if len(sys.argv) > 4:
        path.with_name(sys.argv[4]).write_text("new data")
"""


def write(target, text="new", force=False):
    with staged(target, force) as path:
        path.write_text(text)


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_is_never_replaced(tmp_path, force):
    folder = tmp_path / "net.onnx"
    folder.mkdir()
    (folder / "thesis").write_text("precious")
    with pytest.raises(UsageProblem, match="is a folder"):
        write(folder, force=force)
    (tmp_path / "link.onnx").symlink_to(folder)
    with pytest.raises(UsageProblem, match="is a folder"):
        write(tmp_path / "link.onnx", force=force)
    assert (folder / "thesis").read_text() == "precious"


def test_a_companion_s_place_that_is_a_folder_is_refused_before_anything_is_replaced(tmp_path):
    (tmp_path / "net.onnx").write_text("old")
    (tmp_path / "net.onnx.data").mkdir()
    with pytest.raises(UsageProblem, match="is a folder"), staged(tmp_path / "net.onnx", True) as path:
        path.write_text("new")
        path.with_name("net.onnx.data").write_text("data")
    assert (tmp_path / "net.onnx").read_text() == "old"


def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageProblem, match="not a regular file"):
        write(tmp_path / "pipe", force=True)


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, links):
    if not links:  # as on a file system without hard links
        monkeypatch.setattr(os, "link", lambda *paths: (_ for _ in ()).throw(PermissionError(1, "no links")))
    with pytest.raises(UsageProblem, match="already exists"), staged(tmp_path / "net", False) as path:
        path.write_text("mine")
        (tmp_path / "net").write_text("theirs")
    assert (tmp_path / "net").read_text() == "theirs"
    write(tmp_path / "other")
    assert (tmp_path / "other").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["net", "other"]


def test_of_two_files_neither_is_put_where_one_appears_meanwhile(tmp_path):
    with pytest.raises(UsageProblem, match="already exists"), staged(tmp_path / "net", False) as path:
        path.write_text("mine")
        path.with_name("net.data").write_text("data")
        (tmp_path / "net").write_text("theirs")
    assert os.listdir(tmp_path) == ["net"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "store").mkdir()
    real, link = tmp_path / "store" / "real", tmp_path / "link"
    link.symlink_to(real)
    write(link, "first")
    with pytest.raises(UsageProblem, match="already exists"):
        write(link)
    write(link, "second", force=True)
    assert link.is_symlink()
    assert real.read_text() == "second"
    assert not real.is_symlink()
    assert os.listdir(tmp_path / "store") == ["real"]


def test_a_file_with_a_companion_is_not_written_through_a_link(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "net").symlink_to(tmp_path / "store" / "net")
    with pytest.raises(UsageProblem, match="symbolic link"), staged(tmp_path / "net", True) as path:
        path.write_text("net")
        path.with_name("net.data").write_text("data")
    assert os.listdir(tmp_path / "store") == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_is_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with staged(tmp_path / "net", False) as path:
            path.touch(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "net").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("call", ["replace", "link", "unlink", "chmod", "fsync"])
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_kill_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path, call, stop):
    target = tmp_path / "net"
    target.write_text("old")
    subprocess.run([sys.executable, "-c", CUT, target, str(stop), call], check=False)
    assert target.read_text() in ("old", "new")


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_of_a_pair_the_file_that_names_the_other_is_never_ahead(tmp_path, stop):
    target = tmp_path / "net"
    target.write_text("old")
    (tmp_path / "net.data").write_text("old data")
    subprocess.run([sys.executable, "-c", CUT, target, str(stop), "replace", "net.data"], check=False)
    pair = target.read_text(), (tmp_path / "net.data").read_text()
    assert pair == [("old", "old data"), ("old", "new data"), ("new", "new data")][stop]


def test_a_second_file_that_fails_puts_the_first_one_back(tmp_path, monkeypatch):
    (tmp_path / "net").write_text("old")
    (tmp_path / "net.data").write_text("old data")
    original = Path.replace

    def failing(self, destination):
        if (self.name, self.parent.name) == ("net", "new"):
            raise OSError(5, "Input/output error")
        return original(self, destination)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(NnkitError, match="Input/output"), staged(tmp_path / "net", True) as path:
        path.write_text("new")
        path.with_name("net.data").write_text("new data")
    assert (tmp_path / "net").read_text() == "old"
    assert (tmp_path / "net.data").read_text() == "old data"
    assert sorted(os.listdir(tmp_path)) == ["net", "net.data"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_asked_to_end_leaves_nothing(tmp_path, number):
    code = (
        "import os, sys, nnkit.verbs.exporting.files as files; from nnkit.cli import main\n"
        "def command(**options):\n"
        f"    with files.staged(files.Path({str(tmp_path / 'net')!r}), False) as path:\n"
        f"        path.write_text('half'); os.kill(os.getpid(), {int(number)})\n"
        "main.cli.main = command; main.main([])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -number, done.stderr
    assert os.listdir(tmp_path) == []
