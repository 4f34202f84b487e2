"""The bar on stderr: for somebody who watches, and for nobody else."""

import io
import os
import pty
import subprocess
import sys

import pytest
from rich.console import Console
from rich.progress import Progress

from nnkit.cli.progress import _Drawn, progress_bar
from nnkit.cli.settings import Settings


def watched(*args):
    """Run nnkit with a terminal for its stderr alone; return what it printed there and on stdout."""
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "nnkit", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, text=True) as running:
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


def test_a_smoke_run_shows_its_checks_to_who_watches_and_leaves_no_trace():
    told, out = watched("smoke-run", "gcn", "--check", "finite", "--check", "shapes")
    assert "checking finite" in told
    assert "checking shapes" in told
    assert told.endswith("\x1b[2K")  # the line is wiped
    assert "checking" not in out


def test_a_share_fills_the_bar_which_is_seldom_drawn():
    screen = io.StringIO()
    with Progress(console=Console(file=screen, force_terminal=True), auto_refresh=False) as bar:
        told = _Drawn(bar)
        told("half", 0.5)
        assert bar.tasks[0].percentage == 50
        for _ in range(100):
            told("half", 0.6)
        told("what comes next", 0.7)
    assert screen.getvalue().count("half") < 10
    assert "what comes next" in screen.getvalue()


@pytest.mark.parametrize("quiet", [True, False])
def test_without_a_terminal_nothing_is_drawn_and_rich_stays_out(capsys, quiet):
    with progress_bar(Settings(quiet=quiet)) as progress:
        progress("alone")
        progress("with a share", 0.5)
    assert capsys.readouterr() == ("", "")
