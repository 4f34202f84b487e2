"""The command that summarizes a whole zoo finds what differs, and goes on where it was stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sweep
from conftest import ROOT

SEED = 20261127


def row(name, **values):
    figures = {"parameters": 10, "macs": 20, "method": "meta", "built": 10, "flop_counter": 20}
    return {"name": name, "version": "1", "error": "", **figures, **values}


def table_of(monkeypatch, capsys, entries, *rows):
    exceptions = sweep.Exceptions(entries)
    monkeypatch.setattr(sweep.Exceptions, "of", lambda zoo: exceptions)
    by_name = {each["name"]: each for each in rows}
    code = sweep.print_table("zoo", by_name, asked=len(rows), whole=True)
    return code, capsys.readouterr().out


def test_equal_figures_are_counted(monkeypatch, capsys):
    code, text = table_of(monkeypatch, capsys, [], row("a"), row("b", flop_counter=None))
    assert code == 0
    assert "parameters equal to an independent build: 2 of 2" in text
    assert "multiply-adds equal to torch's flop counter: 1 of 1" in text


@pytest.mark.parametrize(
    ("values", "about", "said"),
    [
        ({"built": 11}, "parameters", "a: parameters: 10 is 11 by the independent"),
        ({"flop_counter": 19}, "macs", "a: macs: 20 is 19 by the flop counter"),
        ({"error": "NnkitError: no"}, "summary", "a: summary: NnkitError: no"),
        ({"built": "TypeError: no"}, "independent", "a: independent: TypeError: no"),
        ({"flop_counter": "TypeError: no"}, "flop counter", "a: flop counter: TypeError: no"),
    ],
)
def test_what_differs_needs_a_reason(monkeypatch, capsys, values, about, said):
    code, text = table_of(monkeypatch, capsys, [], row("a", **values), row("b"))
    assert (code, said in text) == (1, True)
    code, text = table_of(monkeypatch, capsys, [("a*", about, "a reason")], row("a", **values), row("b"))
    assert (code, said in text) == (0, False)
    assert f"{about}: 1 × a reason" in text


def test_a_reason_that_no_name_needs_is_a_fault(monkeypatch, capsys):
    code, text = table_of(monkeypatch, capsys, [("c*", "macs", "a reason")], row("a"))
    assert code == 1
    assert "not needed: macs of c*: a reason" in text
    code, text = table_of(monkeypatch, capsys, [("a*", "macs", "a reason")], row("a", flop_counter=None))
    assert (code, "not needed" in text) == (0, False)


def test_a_name_is_measured_once_for_each_version(tmp_path):
    results = tmp_path / "zoo.jsonl"
    lines = [row("a", error="no"), row("a"), row("b", error="no"), row("c", version="0")]
    results.write_text("".join(json.dumps(each) + "\n" for each in lines))
    known = sweep.rows_in(results, "1")
    left = {name: sweep.is_left(known.get(name), None) for name in "abcd"}
    assert left == {"a": False, "b": False, "c": True, "d": True}
    assert [name for name in "abcd" if sweep.is_left(known.get(name), "failed")] == ["b", "c", "d"]


def test_a_tenth_of_the_names_meets_the_flop_counter():
    names = [f"net{number}" for number in range(2000)]
    assert 150 < sum(sweep.is_of_the_tenth("zoo", name) for name in names) < 250


@pytest.mark.slow
def test_a_sample_of_torchvision_is_equal(tmp_path):
    results = tmp_path / "torchvision.jsonl"
    command = [sys.executable, str(Path(sweep.__file__)), "torchvision", "--results", str(results)]
    done = subprocess.run(
        [*command, "--sample", "4", "--seed", str(SEED), "--check", "all"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "operators")},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "multiply-adds equal to torch's flop counter: 4 of 4" in done.stdout
    assert len(results.read_text().splitlines()) == 4
