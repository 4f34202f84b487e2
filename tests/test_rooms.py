"""The rooms of nnkit: each imports only rooms below it, and says in its docstring what lives there."""

import importlib
import re

import pytest
from conftest import ROOT, python

ROOMS = ("contract", "host", "models", "verbs", "render", "authoring", "cli")


def test_each_room_imports_only_rooms_below_it():
    pytest.importorskip("importlinter", reason="import-linter is not installed: pip install -e '.[test]'")
    done = python("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b0 broken", done.stdout)


def test_no_room_has_an_exception():
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_says_what_it_imports(room):
    assert re.search(r"\b[Ii]mports? ", importlib.import_module(f"nnkit.{room}").__doc__)
