"""The line on stderr: for somebody who watches, and for nobody else."""

import io
import os
import pty
import subprocess
import sys

import pytest

from nnkit.cli.progress import ERASE, INTERVAL, StatusLine, status_line

SLOW = """
import nnkit, click, sys, time
from nnkit.cli.settings import Settings, settings_options

@click.command()
@settings_options
@click.pass_obj
def command(settings):
    settings.progress("waiting", 0.5)
    time.sleep(0.8)
    {then}
"""
RUN = """
import slow
from nnkit.cli.main import TopGroup, main
TopGroup.get_command = lambda group, context, name: slow.command
main()
"""


def watched(*command, cwd=None, **variables):
    """Run a command with a terminal for its stderr alone; return what it printed there and on stdout."""
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **variables}
    with subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=writer,
        env=environment,
        cwd=cwd,
        encoding="utf-8",
    ) as running:
        os.close(writer)
        told = b""
        while True:
            try:
                more = os.read(reader, 65536)
            except OSError:  # what Linux raises where the other end is closed
                break
            if not more:
                break
            told += more
        out = running.stdout.read()
    os.close(reader)
    return told.decode(), out


@pytest.fixture
def slow(tmp_path):
    """Run a command that takes a second, and then does what the test says."""

    def run(then, *args, **variables):
        (tmp_path / "slow.py").write_text(SLOW.format(then=then))
        return watched("-c", RUN, "slow", *args, cwd=tmp_path, PYTHONPATH=os.fspath(tmp_path), **variables)

    return run


def test_a_smoke_run_shows_its_checks_to_who_watches_and_leaves_no_trace():
    told, out = watched("-m", "nnkit", "smoke-run", "resnet18", "--check", "derivative", "--check", "finite")
    assert "checking derivative" in told
    assert told.endswith(ERASE)
    assert "checking" not in out
    assert "passed   derivative" in out


def test_any_command_that_takes_long_says_so_and_its_result_takes_the_place(slow):
    told, out = slow("click.echo('the result')")
    assert "━━━━━━━━━━────────── waiting 0:00" in told
    assert told.endswith(ERASE)
    assert out == "the result\n"


def test_what_else_is_written_to_the_terminal_has_lines_of_its_own(slow):
    told, _ = slow("print('a warning', file=sys.stderr); time.sleep(0.3)")
    before, _, after = told.partition("a warning\r\n")
    assert before.endswith(ERASE)
    assert "waiting" in after
    assert after.endswith(ERASE)


def test_an_unfinished_line_is_left_alone(slow):
    """Such as a question, or the bar of a download."""
    told, _ = slow("print('Continue?', end=' ', file=sys.stderr, flush=True); time.sleep(0.3)")
    assert told.endswith(f"{ERASE}Continue? ")


def test_what_captures_the_output_of_a_library_captures_no_line(slow):
    then = "import os; os.dup2(os.open('captured', os.O_CREAT | os.O_WRONLY), 2); time.sleep(0.3)"
    told, out = slow(f"{then}; print(os.stat('captured').st_size)")
    assert out == "0\n"
    assert told.endswith(ERASE)


def test_a_pager_that_reads_the_result_has_the_terminal_for_itself(slow):
    told, _ = slow("print('first'); time.sleep(0.3); print('x', file=sys.stderr)")
    assert told.endswith(f"{ERASE}x\r\n")
    assert told.count("waiting") < 0.6 / INTERVAL


@pytest.mark.parametrize(("args", "variables"), [(["-q"], {}), ([], {"TERM": "dumb"}), ([], {"RANK": "1"})])
def test_nothing_is_drawn_for_who_does_not_want_it_or_could_not_read_it(slow, args, variables):
    assert slow("print('done')", *args, **variables) == ("", "done\n")


def test_a_terminal_of_ascii_gets_signs_that_it_has(slow):
    told, _ = slow("print('done')", PYTHONIOENCODING="ascii")
    assert told.isascii()
    assert "##########---------- waiting" in told


def test_no_line_is_wider_than_the_terminal_and_none_steers_it():
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    status = StatusLine(screen, lambda: True)
    status("a\x1b[2J" + "wide " * 50)
    status.draw()
    screen.seek(0)
    shown = screen.read().removeprefix(ERASE + "\x1b[?7l").removesuffix("\x1b[?7h")
    assert len(shown) == 79
    assert "\x1b" not in shown
    assert "a\\x1b[2Jwide" in shown


def test_a_measurement_is_not_disturbed_by_the_thread():
    """The line is drawn when it changes, else at most every tenth of a second, and only by the calls."""
    screen = io.StringIO()
    status = StatusLine(screen, lambda: True)
    with status.drawn_by_calls():
        for share in range(100):
            status("half", share / 100)
        status("what comes next", 0.7)
        assert not status._ticking.is_set()
    assert 1 <= screen.getvalue().count("half") < 10
    assert screen.getvalue().count("what comes next") == 1


def test_without_a_terminal_the_streams_stay_as_they_are(capsys):
    before = sys.stdout, sys.stderr
    with status_line(lambda: True) as status:
        assert status is None
        assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("", "")
