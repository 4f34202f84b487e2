"""On a terminal `nnkit list` and `nnkit info` wrap words inside their column; nothing is cut, and no word broken."""

import re

import pytest

from nnkit import compare, resolve
from nnkit.cli import info
from nnkit.cli import list as listing
from nnkit.render import compare as comparison
from nnkit.render.table import beside, wrapped
from nnkit.verbs.core_handlers import plugin_manager

ARCHITECTURES = plugin_manager().architectures()
WIDTHS = (40, 60, 80, 100)


def check(lines, plain, width):
    """No line is wider than the terminal, but for a word that is; and the words are those of the plain text."""
    for line in lines:
        assert len(line) <= width or " " not in line.strip(), line
    assert " ".join(lines).split() == plain.split()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_list_keeps_its_columns(width):
    plain = "\n".join(listing._lines(ARCHITECTURES, None))
    lines = list(listing._lines(ARCHITECTURES, width))
    check(lines, plain, width)
    names = {line.split()[0] for line in plain.splitlines() if line.startswith("  ")}
    assert names <= {line.split()[0] for line in lines}
    if width >= 80:
        column = plain.splitlines()[1].index("Variational")
        assert all(line[:column].isspace() for line in lines if re.match(r" {5}", line))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_each_architecture_fits(width):
    for name in ARCHITECTURES:
        spec = resolve(name)
        handlers = plugin_manager().handlers(spec)
        check(info._as_text(spec, handlers, width).splitlines(), info._as_text(spec, handlers, None), width)


def test_what_belongs_together_stays_on_one_line():
    text = "use --num-classes 7 or so  [default: all of it]"
    assert wrapped(text, 22) == ["use --num-classes 7 or", "so", "[default: all of it]"]
    assert wrapped(text, None) == [text]


def test_a_column_that_would_be_too_narrow_is_beneath():
    assert beside("  a-long-name  plugin", "What it is and does", 24, 60) == [
        "  a-long-name  plugin   What it is and does"
    ]
    assert beside("  a-long-name  plugin", "What it is and does", 24, 40) == [
        "  a-long-name  plugin",
        "      What it is and does",
    ]


def test_a_line_break_in_a_text_forges_no_line():
    assert wrapped("a\nb\x1b[2J", 80) == ["a\\nb\\x1b[2J"]


def test_the_steps_that_differ_keep_their_whole_path(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    report = compare("resnet18", "resnet34")
    lines = comparison.as_text(report, terminal=True).splitlines()
    assert max(map(len, lines)) <= 80
    steps = [line[4:].split()[0] for line in lines if line.startswith("+ ")]
    assert steps == [change.path for change in report.changes]
