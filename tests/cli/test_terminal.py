"""What a person sees: each case in a real pseudo-terminal, which alone makes `isatty` true."""

import fcntl
import io
import json
import os
import pty
import re
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from nnkit import schemas
from nnkit.cli.streams import make_readable
from nnkit.verbs.core_handlers import plugin_manager

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NNKIT = f"{shlex.quote(sys.executable)} -m nnkit"
TABLE = f"{NNKIT} summary weights.safetensors"  # drawn by rich as any table, and without torch


@pytest.fixture(autouse=True)
def weights(tmp_path):
    """Write a file of two tensors by the letter of the format."""
    tensors = {
        "conv.weight": {"dtype": "F32", "shape": [64, 3, 7, 7], "data_offsets": [0, 37632]},
        "fc.a-name-that-is-long.weight": {"dtype": "F32", "shape": [10, 64], "data_offsets": [37632, 40192]},
    }
    header = json.dumps(tensors).encode()
    file = tmp_path / "weights.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(40192))


@dataclass
class Terminal:
    """A command in a terminal of its own."""

    process: subprocess.Popen[bytes]
    screen: int
    folder: Path

    def read(self, until: bytes = b"") -> str:
        """Return what appears, up to `until` or to the end."""
        seen = b""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (until and until in seen):
            ready, _, _ = select.select([self.screen], [], [], 1)
            if not ready:
                continue
            try:
                more = os.read(self.screen, 65536)
            except OSError:  # Linux says so when the other end has gone
                break
            if not more:
                break
            seen += more
        return seen.decode("utf-8", "replace").replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())


@pytest.fixture
def terminal(tmp_path):
    """Run a line of shell in a terminal: `terminal("nnkit list", width=40, NO_COLOR="1")`."""
    opened: list[Terminal] = []

    def run(line: str, *, width: int = 100, **variables: str) -> Terminal:
        screen, keyboard = pty.openpty()
        fcntl.ioctl(keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "LINES")}
        device = os.ttyname(keyboard)  # which becomes that of the session where it is opened
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", f"exec <{device}; {line}"],
            stdin=keyboard,
            stdout=keyboard,
            stderr=keyboard,
            cwd=tmp_path,
            env={**inherited, "TERM": "xterm-256color", **variables},
            start_new_session=True,
        )
        os.close(keyboard)
        opened.append(Terminal(process, screen, tmp_path))
        return opened[-1]

    yield run
    for each in opened:
        each.process.kill()
        each.process.wait()
        os.close(each.screen)


def without_status(text: str) -> str:
    """Return what is left on the screen: a slow machine shows what a command is doing, and erases it."""
    return re.sub(r"\r\x1b\[K[^\n]*(?=\r\x1b\[K)", "", text).replace("\r\x1b[K", "")


def shown(started: Terminal) -> str:
    text = without_status(started.read())
    assert started.process.wait(timeout=60) == 0, text
    return text


def test_colours_are_for_a_terminal_and_no_color_takes_them_away(terminal):
    assert ESCAPE.search(shown(terminal(TABLE)))
    assert not ESCAPE.search(shown(terminal(TABLE, NO_COLOR="1")))
    assert not ESCAPE.search(shown(terminal(TABLE, TERM="dumb")))


def test_color_is_stronger_than_no_color_and_than_a_pipe(terminal):
    assert not ESCAPE.search(shown(terminal(f"{TABLE} --color never")))
    assert ESCAPE.search(shown(terminal(f"{TABLE} --color always", NO_COLOR="1")))
    assert ESCAPE.search(shown(terminal(f"{TABLE} --color always | cat")))
    assert not ESCAPE.search(shown(terminal(f"{TABLE} | cat")))


@pytest.mark.parametrize(("width", "variables"), [(55, {}), (100, {"COLUMNS": "55"})])
def test_no_line_is_wider_than_the_terminal(terminal, width, variables):
    lines = shown(terminal(TABLE, width=width, NO_COLOR="1", **variables)).splitlines()
    limit = int(variables.get("COLUMNS", width))
    assert max(map(len, lines)) <= limit
    assert "fc.a-na…" in "".join(lines)


def test_a_reader_that_goes_away_leaves_no_trace(terminal):
    for command in ("list", "summary weights.safetensors --format csv", "--help"):
        text = without_status(terminal(f"{NNKIT} {command} | head -1").read())
        assert len(text.splitlines()) == 1, text


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "NO_COLOR": "1"},
    ],
)
def test_a_terminal_of_ascii_gets_signs_that_read_the_same(terminal, variables):
    text = shown(terminal(TABLE, **variables))
    assert text.isascii()
    assert "64x3x7x7" in text
    assert "weights.safetensors - safetensors - 39.4 KiB" in text
    assert "-" * 20 in text
    assert "?" not in text


def test_a_terminal_of_another_encoding_gets_the_letters_that_it_has(terminal):
    text = shown(terminal(f"{TABLE} | iconv -f latin1 -t utf-8", PYTHONIOENCODING="latin-1"))
    assert "64×3×7×7" in text
    text = shown(terminal(f"{NNKIT} info gat | iconv -f latin1 -t utf-8", PYTHONIOENCODING="latin-1"))
    assert "alpha" in text
    assert "?" not in text


def test_every_sign_of_an_equation_has_a_reading(terminal):
    text = shown(terminal(f"{NNKIT} info gcn", PYTHONIOENCODING="ascii"))
    assert "  H_k = relu(A^ H_{k-1} W_k + b_k)\n  A^ = D^-1/2 (A + I) D^-1/2\n" in text
    text = shown(terminal(f"{NNKIT} info ddpm-unet", PYTHONIOENCODING="ascii"))
    assert "epsilon ~= unet(sqrt alpha_t x_0 + sqrt (1 - alpha_t) epsilon, t)" in text


def test_every_letter_of_the_zoo_has_a_reading():
    texts = [
        text
        for each in plugin_manager().architectures().values()
        for text in (each.summary, each.equation, each.paper, *each.notes)
    ]
    letters = sorted({letter for letter in "".join(texts) if not letter.isascii()})
    assert {"√", "α", "×"} <= set(letters)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    make_readable(stream)
    stream.write("\n".join(letters))
    stream.seek(0)
    readings = dict(zip(letters, stream.read().split("\n"), strict=True))
    assert [letter for letter, reading in readings.items() if not reading or "?" in reading] == []


def test_errors_and_json_on_ascii(terminal):
    failed = terminal(f"{NNKIT} summary 'résnet18'", PYTHONIOENCODING="ascii").read()
    assert failed.isascii()
    assert "unknown architecture 're" in failed
    data = shown(terminal(f"{NNKIT} info gcn --json", PYTHONIOENCODING="ascii"))
    assert "\\u00c2" in data


def test_quiet_ends_progress(terminal):
    """That there is some, the test of Ctrl-C waits for."""
    assert "smoke-run" not in shown(terminal(f"{NNKIT} smoke-run simple-cnn --check shapes -q"))


def test_verbose_shows_the_traceback_in_front_of_the_error(terminal):
    short = without_status(terminal(f"{NNKIT} summary resnet81").read())
    assert short.splitlines()[0].startswith("Error: ")
    long = without_status(terminal(f"{NNKIT} summary resnet81 -v").read())
    assert long.startswith("Traceback")
    assert long.endswith(short)


def test_ctrl_c_on_the_keyboard_is_one_error_and_exit_code_1(terminal):
    run = terminal(f"exec {NNKIT} summary resnet152 --batch max --memory 999GB")
    assert "summary" in run.read(until=b"summary resnet152")
    run.type("\x03")
    after = run.read()
    assert run.process.wait(timeout=60) == 1
    assert "Traceback" not in after
    assert after.splitlines()[-2:] == ["Error: interrupted", "hint: what was there before is unchanged"]


def test_a_smoke_run_prints_each_check_as_it_ends_and_ctrl_c_keeps_them(terminal):
    run = terminal(f"exec {NNKIT} smoke-run resnet18 --batch 16 --junit report.xml")
    before = run.read(until=b"checking batch-independence")
    assert re.match(
        r"vision/resnet18 on cpu · .*\n\npassed +shapes +logits", ESCAPE.sub("", without_status(before))
    )
    run.type("\x03")
    after = run.read()
    assert run.process.wait(timeout=60) == 1
    *_, empty, error, hint = ESCAPE.sub("", without_status(before + after)).splitlines()
    _, _, rest = ESCAPE.sub("", without_status(after)).partition("not run  ")
    names = re.findall(r"[a-z-]+", rest.partition("\n\n")[0])
    assert names[-1] == "derivative"
    done = 23 - len(names)
    assert (empty, error) == ("", f"Error: interrupted; {done} of 23 checks done")
    wanted = " ".join(f"--check {name}" for name in names)
    assert hint == f"hint: run the rest: nnkit smoke-run vision/resnet18 --batch 16 {wanted}"
    suite = ElementTree.parse(Path(run.folder, "report.xml")).getroot()
    assert [case.get("name") for case in suite if case.find("error") is not None] == names
    assert (suite.get("tests"), suite.get("errors")) == ("23", str(len(names)))


def test_ctrl_c_keeps_the_finished_checks_in_json(terminal):
    run = terminal(f"exec {NNKIT} smoke-run resnet18 --batch 16 --json > report.json")
    run.read(until=b"checking batch-independence")
    run.type("\x03")
    assert "Error: interrupted; " in run.read()
    assert run.process.wait(timeout=60) == 1
    report = json.loads(Path(run.folder, "report.json").read_text())
    jsonschema.validate(report, schemas.schema_of(report), cls=jsonschema.Draft202012Validator)
    assert report["checks"][0]["status"] == "passed"
    assert len(report["checks"]) + len(report["not_run"]) == 23
    assert not report["passed"]


def test_checks_that_are_skipped_for_one_reason_share_a_line_as_they_do_in_a_pipe(terminal):
    command = f"{NNKIT} smoke-run lstm --check finite --check causality --check tied --check cast"
    live = ESCAPE.sub("", shown(terminal(command)))
    assert live == shown(terminal(f"{command} | cat"))
    assert "skipped  causality  not declared; the same for tied" in live
