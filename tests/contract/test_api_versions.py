"""Plugins written for API 1.0, as they were then, go on working with this nnkit."""

import json
import sys
from importlib.metadata import EntryPoint

import pytest
from conftest import ROOT

import nnkit
from nnkit.errors import UsageProblem
from nnkit.verbs.core_handlers import make_manager

OLD = sorted((ROOT / "tests" / "distributions" / "api-1.0").iterdir())


@pytest.fixture
def manager(monkeypatch):
    """Load the old plugins, in this process; commands find them too."""
    points = []
    for folder in OLD:
        monkeypatch.syspath_prepend(str(folder / "src"))
        package = folder.name.replace("-", "_")
        points.append(EntryPoint(package.removeprefix("nnkit_"), f"{package}.plugin", "nnkit"))
    before = set(sys.modules)
    manager = make_manager(points, {})
    for module in ("installed", "options"):
        monkeypatch.setattr(f"nnkit.cli.{module}.plugin_manager", lambda checked=True: manager)
    yield manager
    for name in set(sys.modules) - before:
        if any(name.startswith(folder.name.replace("-", "_")) for folder in OLD):
            del sys.modules[name]


def test_all_of_them_load(manager):
    assert [str(failure) for failure in manager.failures] == []
    assert {"perceptron/perceptron", "names/pruned"} == set(manager.architectures())
    assert {executor.name for executor in manager.executors()} == {"dask", "slurm"}
    assert [exporter.name for exporter in manager.exporters()] == ["openvino"]


@pytest.mark.parametrize(
    ("name", "parameters"), [("perceptron", 784 * 128 + 128 + 128 * 10 + 10), ("pruned", 6 * 4)]
)
def test_each_verb_works(manager, name, parameters, tmp_path):
    spec = nnkit.resolve(name, manager=manager)
    assert nnkit.summarize(spec, manager=manager).totals.parameters == parameters
    for file in ("net.onnx", "net.safetensors"):
        assert nnkit.export(spec, tmp_path / file, manager=manager).verified
    report = nnkit.smoke_run(spec, manager=manager)
    assert report.passed, [check for check in report.checks if check.status == "failed"]


def test_an_option_keeps_the_name_that_nnkit_took_later(manager, nnkit_command):
    words = ("pruned", "--without", "5", "--declare", "--with", "7")
    done = nnkit_command("summary", *words, "--json")
    assert done.err == ""
    report = json.loads(done.out)
    assert report["spec"]["config"] == {"without": 5, "declare": True}
    assert report["spec"]["sizes"] == {"batch": 1, "with": 7}
    spec = nnkit.resolve("pruned", manager=manager, without=5, declare=True, **{"with": 7})
    assert spec.typed == ("names/pruned", "--without", "5", "--declare", "--with", "7")
    assert spec.to_dict() == report["spec"]
    anywhere = nnkit_command("summary", "--declare", "pruned", "--without=5", "--json")
    assert json.loads(anywhere.out)["spec"]["config"] == {"without": 5, "declare": True}


def test_the_core_option_of_that_name_has_another(manager, nnkit_command):
    text = nnkit_command("summary", "pruned", "--help").out
    assert "--without integer >= 0 and <= 7" in text
    assert "--core-without NAME" in text
    assert "--core-with NAME" in text
    done = nnkit_command("summary", "pruned", "--core-without", "mask")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: pruned has no optional input 'mask'")
    with pytest.raises(UsageProblem, match="no optional input 'mask'"):
        nnkit.resolve("pruned", manager=manager, core_without="mask")
    both = nnkit_command("compare", "pruned", "pruned", "--left.without", "5", "--json")
    assert [side["totals"]["parameters"] for side in json.loads(both.out)["models"]] == [3 * 4, 6 * 4]


def test_a_plugin_of_this_version_may_not_take_such_a_name(plugins_from):
    folder = next(folder for folder in OLD if folder.name == "nnkit-names")
    source = (folder / "src" / "nnkit_names" / "plugin.py").read_text(encoding="utf-8")
    manager = plugins_from(names=source.replace('"1.0"', '"1.1"'))
    (failure,) = manager.failures
    assert "option 'without' would hide the core option --without; rename it" in str(failure)


@pytest.mark.slow
def test_installed_plugins_work_from_the_command_line(environment, tmp_path):
    env = environment(True)
    env.install(*map(str, OLD))
    listed = env.run("-m", "nnkit", "plugins").stdout
    for folder in OLD:
        assert folder.name in listed
    failed = {line.split()[1] for line in listed.splitlines() if "failed: " in line}
    assert failed == {"nnkit-dask", "nnkit-slurm"}  # nnkit has executors of these names itself by now
    assert "executor 'slurm': the name is already taken" in listed
    for verb in (("info",), ("build",), ("summary",), ("export", "--onnx"), ("smoke-run",)):
        done = env.run("-m", "nnkit", verb[0], "perceptron", *verb[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
