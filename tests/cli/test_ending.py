"""The program `nnkit` ends as Python itself would end it, only faster.

Each case is a command of a plugin, run as the program and, for comparison, by `main()` in a process that Python
ends. Both must exit, print and leave files alike.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
leave, mark = os._exit, int(sys.argv.pop())
def leave_marked(code):
    os.write(mark, b"at once")
    leave(code)
os._exit = leave_marked
from nnkit.cli.program import run
run()
"""
MAIN = "import sys; from nnkit.cli.main import main; main(sys.argv[1:])"

COMMANDS = """
import atexit, ctypes, multiprocessing, os, sys, tempfile, threading, time
import click

kept = []

class Last:
    def __del__(self, write=os.write):
        write(2, b"deleted\\n")

def late():
    time.sleep(0.2)
    print("from a thread", file=sys.stderr)

def forever():
    while True:
        time.sleep(0.05)

def goodbye():
    print("goodbye", file=sys.stderr)

def fail():
    raise ValueError("at exit")

def leave():
    sys.exit(9)

def wait():
    os.write(2, b"ready\\n")
    time.sleep(5)

def wait_at_end():
    threading.main_thread().join()  # until Python waits for this thread
    wait()

def say_in_child():
    time.sleep(0.2)
    os.write(2, b"from a child\\n")

def child(daemon=False, target=say_in_child):
    multiprocessing.get_context("fork").Process(target=target, daemon=daemon).start()

class Buffered:
    def write(self, text): pass
    def flush(self): raise OSError(28, "No space left on device")

def memory():
    from multiprocessing import shared_memory
    kept.append(shared_memory.SharedMemory(create=True, size=16, name=f"nnkit-{os.getpid()}"))

WHAT = {
    "atexit": lambda: [atexit.register(goodbye), atexit.register(fail), atexit.register(goodbye)],
    "atexit-exits": lambda: atexit.register(leave),
    "thread": lambda: threading.Thread(target=late).start(),
    "daemon": lambda: threading.Thread(target=forever, daemon=True).start(),
    "open-file": lambda: [kept.append(open("left.txt", "w")), kept[-1].write("last line")],
    "binary-file": lambda: [kept.append(open("left.bin", "wb")), kept[-1].write(b"last line")],
    "temporary": lambda: kept.append(tempfile.NamedTemporaryFile(dir=".")),
    "deleted": lambda: kept.append(Last()),
    "from-c": lambda: ctypes.CDLL(None).printf(b"from C\\n"),
    "print": lambda: print("to stdout"),
    "stderr": lambda: sys.stderr.write("no end of line"),
    "child": child,
    "daemon-child": lambda: child(True, forever),
    "shared-memory": memory,
    "pool": lambda: kept.append(multiprocessing.get_context("fork").Pool(1)),
    "error": lambda: open("nowhere"),
    "exit": lambda: sys.exit(5),
    "full-stderr": lambda: setattr(sys, "stderr", Buffered()),
    "waiting-thread": lambda: threading.Thread(target=wait_at_end).start(),
    "waiting-atexit": lambda: [atexit.register(goodbye), atexit.register(wait)],
    "futures": lambda: __import__("concurrent.futures").futures.ThreadPoolExecutor(1).submit(late),
}

@click.command()
@click.argument("ways", nargs=-1)
@click.option("-v", "verbose", is_flag=True)
@click.pass_context
def end(ctx, ways, verbose):
    ctx.obj.verbose = verbose
    for what in ways:
        WHAT[what]()
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """Return the folder of a distribution that adds the command `end`."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "ending_commands.py").write_text(COMMANDS)
    info = folder / "ending-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ending\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nnkit.commands]\nend = ending_commands:end\n")
    return folder


@pytest.fixture
def run(plugin, tmp_path):
    """Run a script with arguments; return its code, output and files, and whether it ended at once."""

    def start(script, *args, options=(), stop=None, **streams):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        reader, writer = os.pipe()
        path = os.pathsep.join([str(plugin), *filter(None, [os.environ.get("PYTHONPATH")])])
        mark = [str(writer)] if script is PROGRAM else []
        process = subprocess.Popen(
            [sys.executable, *options, "-c", script, *args, *mark],
            cwd=folder, pass_fds=[writer], env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": ""},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
        )  # fmt: skip
        os.close(writer)
        ready = b""
        if stop:
            ready = process.stderr.readline()
            process.send_signal(stop)
        out, err = process.communicate(timeout=60)
        at_once = bool(os.read(reader, 1))
        os.close(reader)
        files = {each.name: each.read_bytes() for each in folder.iterdir()}
        errors = (ready + (err or b"")).decode().replace(str(process.pid), "PID")
        errors = re.sub(r" at 0x\w+", "", errors)
        return (process.returncode, (out or b"").decode(), errors, files), at_once

    return start


def same(run, *args, **options):
    """Run the program and main(); return what both have shown, and whether the program ended at once."""
    ours, at_once = run(PROGRAM, *args, **options)
    theirs, _ = run(MAIN, *args, **options)
    assert ours == theirs
    return ours, at_once


FILES = {"left.txt": b"last line", "left.bin": b"last line"}


def test_it_ends_at_once_and_alike(run):
    """With text that is still to be written, by Python and by C, and threads that are still to end."""
    ways = ["print", "open-file", "binary-file", "from-c", "stderr", "thread", "futures"]
    (code, out, errors, files), at_once = same(run, "end", *ways)
    assert (code, out, files, at_once) == (0, "to stdout\n", FILES, True)
    assert errors == "from C\nno end of linefrom a thread\nfrom a thread\n"


@pytest.mark.parametrize(
    ("what", "shown"), [("daemon", ""), ("temporary", ""), ("deleted", "deleted\n"), ("full-stderr", "")]
)
def test_python_ends_what_it_may_show_more_of(what, shown, run):
    outcome, at_once = same(run, "end", what)
    assert outcome == (120 if what == "full-stderr" else 0, "", shown, {})
    assert not at_once


def test_what_is_registered_for_the_end_happens(run):
    ways = ["atexit", "atexit-exits", "child", "daemon-child", "pool", "shared-memory"]
    (code, _, errors, _), _ = same(run, "end", *ways)
    assert code == 0
    for text in ("goodbye", "ValueError: at exit", "SystemExit: 9", "from a child", "leaked shared_memory"):
        assert text in errors


def test_a_traceback_is_shown(run):
    (code, _, errors, _), at_once = run(PROGRAM, "end", "error", "-v")
    assert (code, at_once) == (1, True)
    assert errors.startswith("Traceback")
    assert errors.endswith("hint: check the path, its permissions and the free disk space\n")


@pytest.mark.parametrize("args", [["lst"], ["--version"], ["end", "error"], ["end", "exit"]])
def test_every_outcome_is_alike(args, run):
    assert same(run, *args)[1]


@pytest.mark.parametrize("what", ["waiting-thread", "waiting-atexit"])
def test_ctrl_c_during_the_end(what, run):
    """Python shows it, and goes on to the next step."""
    (code, _, errors, _), _ = run(PROGRAM, "end", what, stop=signal.SIGINT)
    (expected, _, theirs, _), _ = run(MAIN, "end", what, stop=signal.SIGINT)
    assert code == expected == 0
    assert "KeyboardInterrupt" in errors
    shown, expected_lines = (
        [line for line in text.splitlines() if not line.startswith(" ")] for text in (errors, theirs)
    )
    assert shown == expected_lines  # all but where it was when Ctrl-C came


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk_is_alike(stream, run):
    with Path("/dev/full").open("w") as full:
        ours, _ = run(PROGRAM, "end", "print" if stream == "stdout" else "stderr", **{stream: full})
        theirs, _ = run(MAIN, "end", "print" if stream == "stdout" else "stderr", **{stream: full})
    assert ours == theirs
    assert ours[0] != 0


def test_a_reader_that_has_gone_is_alike(run):
    outcomes = []
    for script in (PROGRAM, MAIN):
        reader, writer = os.pipe()
        os.close(reader)
        outcomes.append(run(script, "end", "print", stdout=writer)[0])
        os.close(writer)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == 1


def test_who_runs_it_gets_its_end(run, tmp_path):
    """A profiler, as coverage does, writes its file when the program has ended."""
    code = "import sys, runpy\ntry:\n    runpy.run_module('nnkit', run_name='__main__')\nfinally:\n    print('after', file=sys.stderr)"
    (ended, _, errors, _), _ = run(code, "--version")
    assert (ended, errors) == (0, "after\n")
    done = subprocess.run(
        [sys.executable, "-m", "cProfile", "-o", tmp_path / "profile", "-m", "nnkit", "--version"],
        check=False,
    )
    assert (done.returncode, (tmp_path / "profile").exists()) == (0, True)


@pytest.mark.parametrize("options", [["-X", "dev"], ["-W", "always"], ["-X", "importtime"]])
def test_options_of_python_are_left_to_it(options, run):
    (code, _, errors, _), at_once = run(PROGRAM, "end", "open-file", options=options)
    assert (code, at_once) == (0, False)
    assert ("unclosed file" in errors) == ("importtime" not in options)


COLLECTOR = """
import gc, sys, types
from nnkit.cli import collector
usual = gc.get_threshold()
collector.rest_until_torch()
import json
assert gc.get_threshold()[0] == collector.OBJECTS and gc.isenabled()
finders = len(sys.meta_path)
{how}
assert gc.get_threshold() == usual, gc.get_threshold()
assert gc.isenabled() and gc.get_freeze_count() > 1000
assert len(sys.meta_path) == finders - 1
print(sorted(vars(sys.modules["torch"].__spec__.loader)) if "torch" in sys.modules else "")
"""


@pytest.mark.parametrize(
    ("source", "how"),
    [
        ("import gc\nassert gc.get_threshold()[0] > 10_000", "import torch"),
        ("raise OSError", "try: import torch\nexcept OSError: pass"),
    ],
)
def test_the_collector_works_as_soon_as_torch_is_there(source, how, tmp_path):
    (tmp_path / "torch.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-c", COLLECTOR.format(how=how)],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "exec_module" not in done.stdout


def test_a_collector_that_somebody_else_has_set_is_left_alone():
    code = "import gc; gc.set_threshold(0); from nnkit.cli.collector import rest_until_torch; rest_until_torch(); print(gc.get_threshold()[0])"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True).stdout
        == "0\n"
    )
