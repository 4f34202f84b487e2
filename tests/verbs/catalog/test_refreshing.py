"""Measuring a zoo: what works has its figures, what doesn't its reason, and a rerun goes on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_zoo

from nnkit.contract.catalog import CatalogRow
from nnkit.errors import NnkitError, PluginProblem, UsageProblem
from nnkit.host.catalog import as_line, measured_file, read_catalog
from nnkit.verbs.catalog import measuring, refreshing
from nnkit.verbs.catalog.refreshing import RefreshRequest, refresh
from nnkit.verbs.catalog.row import measure
from nnkit.verbs.core_handlers import plugin_manager

pytestmark = pytest.mark.usefixtures("fresh_plugins")
zoo = tiny_zoo.zoo


@pytest.fixture
def here(monkeypatch):
    """Measure in this process: starting one takes longer than what it measures."""

    def measure_here(names, quick, time_limit, jobs):
        for name in names:
            *_, row = measure(name, plugin_manager(), quick)
            yield name, row

    monkeypatch.setattr(refreshing, "measure_all", measure_here)


def figures(width):
    """A layer of 4×width and one of width×4, by hand; Adam keeps weights, gradients and two states."""
    return {"parameters": 8 * width + width + 4, "macs": 8 * width, "activations": width + 4}


def test_rows_are_those_that_a_hand_computes(zoo, tmp_path):
    manager = zoo("net_8 dies fails undeclared net_3")
    names = [f"tiny/{name}" for name in manager.members("tiny")]
    seen = []
    path = tmp_path / "catalog.tsv"
    request = RefreshRequest(
        manager=manager,
        names=names,
        output=path,
        finished=lambda *seen_now: seen.append(seen_now),
    )
    report = refresh(request)
    catalog = read_catalog(path)
    assert {name: row.version for name, row in catalog.rows.items()} == dict.fromkeys(
        sorted(tiny_names(names)), "1.0"
    )
    assert [catalog.versions[name] for name in ("tiny-zoo", "nnkit")] == ["1.0", "0.1.0"]
    for width, pretrained in ((8, True), (3, False)):
        row = catalog.rows[f"net_{width}"]
        expected = figures(width)
        assert {name: getattr(row, name) for name in expected} == expected, row.method
        assert row.training >= 4 * 4 * expected["parameters"]
        assert (row.input, row.sizes, row.detail, row.task) == ("4", "4", "found\tout", "nothing")
        assert (row.family, row.method, row.pretrained) == ("linear", "meta", pretrained)
    reasons = {name: catalog.rows[name].method for name in ("dies", "fails", "undeclared")}
    assert reasons["dies"] == "its process died: exit code 7"
    assert "mat1 and mat2 shapes cannot be multiplied" in reasons["fails"]
    assert "no such luck" in reasons["undeclared"]
    assert (report.measured, report.known, set(report.failed)) == (2, 0, {f"tiny/{name}" for name in reasons})
    assert [number for _, _, number, _ in seen] == [1, 2, 3, 4, 5]
    assert list(catalog.rows) == sorted(catalog.rows)


def test_what_takes_too_long_is_given_up(zoo, tmp_path):
    manager, path = zoo("sleeps"), tmp_path / "catalog.tsv"
    report = refresh(RefreshRequest(manager=manager, names=["tiny/sleeps"], output=path, time_limit=1))
    assert report.failed == {"tiny/sleeps": "it takes more than 1 s"}
    assert read_catalog(path).rows["sleeps"].version == "1.0"


def tiny_names(names):
    return [name.partition("/")[2] for name in names]


def test_a_rerun_measures_only_what_is_missing_or_of_another_version(zoo, here, tmp_path):
    manager = zoo("net_2 net_3")
    path = tmp_path / "catalog.tsv"

    def run(manager, quick=True):
        seen = []
        names = [f"tiny/{name}" for name in manager.members("tiny")]
        refresh(
            RefreshRequest(
                manager=manager,
                names=names,
                output=path,
                quick=quick,
                finished=lambda name, *_: seen.append(name),
            )
        )
        return seen

    assert run(manager) == ["tiny/net_2", "tiny/net_3"]
    quick = read_catalog(path).rows["net_2"]
    assert (quick.macs, quick.training, quick.pretrained) == (16, None, None)
    assert run(manager) == []
    with path.open("a") as file:
        file.write(as_line(read_catalog(path).rows["net_3"])[:-20])  # a line that was cut short
    assert run(zoo("net_2 net_3 net_4")) == ["tiny/net_4"]
    assert read_catalog(path).damaged == ()
    assert run(manager, quick=False) == ["tiny/net_2", "tiny/net_3"]
    assert run(zoo("net_2", version="2.0"), quick=False) == ["tiny/net_2"]
    assert read_catalog(path).versions["tiny-zoo"] == "2.0"


def test_what_a_user_measures_is_found_again(zoo, here):
    manager = zoo("net_2 net_3")
    assert dict(manager.catalog("tiny")) == {}
    refresh(RefreshRequest(manager=manager, names=["tiny/net_2"], quick=True))
    again = zoo("net_2 net_3")
    assert again.catalog("tiny")["net_2"].macs == 16
    assert set(again.catalog("tiny")) == {"net_2"}
    # Under another version it is no longer what the adapter is given, but still shown.
    later = zoo("net_2 net_3", version="2.0")
    assert later.catalog("tiny")["net_2"].version == "1.0"


def test_the_adapter_gets_the_row_of_the_installed_version(zoo):
    text = "# nnkit catalog 1\nname\tsizes\tversion\nnet_2\t5\t1.0\nnet_3\t5\t0.9\n"
    manager = zoo("net_2 net_3", catalog=text)
    widths = {name: manager.find(f"tiny/{name}")[1].inputs[0].shape[1] for name in ("net_2", "net_3")}
    assert widths == {"net_2": 5, "net_3": 4}


def test_damage_is_told_once(zoo):
    manager = zoo(
        "net_2", catalog="# nnkit catalog 1\nname\tmacs\tversion\nnet_2\t5\t1.0\nnet_3\tmany\t1.0\n"
    )
    assert set(manager.catalog("tiny")) == {"net_2"}
    manager.catalog("tiny")
    (failure,) = manager.failures
    assert failure.harmless
    assert "1 line that can't be read, the first is line 4" in failure.line
    assert "nnkit list --refresh tiny/" in failure.line


def test_a_zoo_that_cannot_be_imported_ends_the_measuring(zoo, tmp_path):
    manager = zoo("net_1 net_2 net_3 net_4 net_5 net_6")
    (tmp_path / "nnkit_tiny" / "zoo.py").write_text(
        tiny_zoo.ZOO.replace("    if request", "    import no_such_thing\n    if request")
    )
    names = [f"tiny/net_{width}" for width in range(1, 7)]
    with pytest.raises(PluginProblem, match="no_such_thing"):
        refresh(RefreshRequest(manager=manager, names=names, quick=True))


def test_a_catalog_to_ship_is_of_one_zoo(zoo, tmp_path):
    manager = zoo("net_1")
    with pytest.raises(UsageProblem, match="--output is for one zoo"):
        refresh(RefreshRequest(manager=manager, names=["tiny/net_1", "vision/x"], output=tmp_path / "c.tsv"))
    (tmp_path / "file").touch()
    with pytest.raises(NnkitError, match="can't write"):
        refresh(RefreshRequest(manager=manager, names=["tiny/net_1"], output=tmp_path / "file" / "c.tsv"))


def test_interrupted_it_keeps_what_it_has_and_leaves_no_process(zoo, tmp_path):
    zoo("net_2 sleeps")
    path = tmp_path / "catalog.tsv"
    command = ["-m", "nnkit", "list", "--refresh", "tiny/", "--quick", "--output", str(path)]
    script = f"import sys; sys.path[:] = {sys.path!r}; from nnkit.cli.main import main; main({command[2:]!r})"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    while "net_2" not in line and process.poll() is None:
        line = process.stderr.readline()
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    child = Path(children).read_text().split()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "interrupted; 1 of 2 measured" in err
    assert "repeat the command to continue" in err
    assert read_catalog(path).rows["net_2"].macs == 16
    time.sleep(0.1)
    assert child
    assert not any(alive(pid) for pid in child)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_figures_are_those_of_a_summary(zoo):
    import nnkit

    monkey = zoo("net_8")
    (row, *_) = measure("tiny/net_8", monkey, quick=True)
    totals = nnkit.summarize("tiny/net_8").totals
    assert (row.parameters, row.macs, row.activations) == (totals.parameters, totals.macs, totals.activations)


def test_figures_that_are_known_stay_where_measuring_fails(zoo, here, tmp_path):
    manager, path = zoo("fails"), tmp_path / "catalog.tsv"
    refresh(RefreshRequest(manager=manager, names=["tiny/fails"], output=path))
    with path.open("a") as file:
        file.write(
            as_line(CatalogRow(name="fails", parameters=7, macs=5, method="run", version="1.0")) + "\n"
        )
    report = refresh(RefreshRequest(manager=manager, names=["tiny/fails"], output=path))
    assert (read_catalog(path).rows["fails"].macs, set(report.failed)) == (5, {"tiny/fails"})


def test_the_smallest_is_measured_first_and_what_has_no_size_last(zoo, here, tmp_path):
    manager = zoo("net_1 net_3 net_9")
    refresh(RefreshRequest(manager=manager, names=["tiny/net_9", "tiny/net_3"], quick=True))
    with measured_file(manager.cache, "tiny").open("a") as file:
        file.write(as_line(CatalogRow(name="net_1", method="it takes too long", version="1.0")) + "\n")
    seen = []
    refresh(
        RefreshRequest(
            manager=zoo("net_1 net_3 net_9"),
            names=["tiny/net_1", "tiny/net_9", "tiny/net_3"],
            output=tmp_path / "catalog.tsv",
            finished=lambda name, *_: seen.append(name),
        )
    )
    assert seen == ["tiny/net_3", "tiny/net_9", "tiny/net_1"]


DIES_BETWEEN_TWO = """
import json, os, sys
name = json.loads(sys.stdin.readline())["names"][0]
row = {{"name": name.partition("/")[2], "macs": 4, "method": "meta"}}
for event in ({{"at": name}}, {{"row": row}}, {{"done": name}}):
    print(json.dumps(event), flush=True)
sys.exit(9)
"""


def test_a_process_that_dies_between_two_names_is_replaced(monkeypatch):
    monkeypatch.setattr(measuring, "START", DIES_BETWEEN_TWO)
    rows = dict(measuring.measure_all(["tiny/a", "tiny/b", "tiny/c"], quick=True, time_limit=60))
    assert {name: row.method for name, row in rows.items()} == dict.fromkeys(
        ["tiny/a", "tiny/b", "tiny/c"], "meta"
    )


def test_a_process_that_dies_before_its_first_name_is_an_error(monkeypatch):
    monkeypatch.setattr(measuring, "START", "import sys; sys.exit('no torch here')")
    with pytest.raises(NnkitError, match="can't start") as error:
        list(measuring.measure_all(["tiny/a"], quick=True, time_limit=60))
    assert error.value.hint == "no torch here"
