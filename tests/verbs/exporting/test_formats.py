"""Formats beside ONNX and safetensors: torch.export programs, and those of plugins."""

import json

import pytest
import torch
from conftest import ROOT

import nnkit
from nnkit.errors import PluginProblem, UsageProblem, VerificationFailed
from nnkit.verbs.core_handlers import plugin_manager

PLUGIN = """
from nnkit import Exporter, hookimpl
NNKIT_PLUGIN_API = "1.0"
@hookimpl
def nnkit_exporters():
    return [Exporter(name="state", suffix=".state", summary="a torch.save", write="{module}:write", {more})]
"""
CODE = """
import torch
def write(request):
    {write}
def run(path):
    module = torch.load(path, weights_only=False)
    return lambda inputs: [module(*inputs)]
"""
SAVE = "torch.save(request.module, request.path)"
OTHER = "request.module.fc2.bias.data += 0.1; torch.save(request.module, request.path)"


@pytest.fixture
def format_of(plugins_from, tmp_path):
    """Make a manager with a plugin whose format writes by these lines."""

    def make(write=SAVE, more='run="state_format:run"'):
        (tmp_path / "state_format.py").write_text(CODE.format(write=write))
        return plugins_from(state=PLUGIN.format(module="state_format", more=more))

    yield make
    import sys

    sys.modules.pop("state_format", None)


def spec():
    name, architecture = plugin_manager().find("simple-cnn")
    return nnkit.contract.spec.make_spec(architecture, name)


def test_a_torch_export_program_runs_without_the_code_of_the_model(tmp_path):
    report = nnkit.export("gru", tmp_path / "a.pt2", seed=3)
    assert report.proof.equal[0] == report.proof.equal[1] == 6
    program = torch.export.load(tmp_path / "a.pt2")
    x = torch.randn(3, 11, 28)
    with torch.inference_mode():
        expected = nnkit.build("gru", seed=3)(x)
        found = program.module()(x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert nnkit.summarize(str(tmp_path / "a.pt2")).spec.seed == 3


def test_a_plugin_s_format_is_written_and_proven(tmp_path, format_of):
    manager = format_of()
    report = nnkit.export(spec(), tmp_path / "net.state", manager=manager)
    assert (report.format, report.proof.runner) == ("state", "state")
    assert report.proof.coverage.share == 1
    assert len(report.proof.assignments) >= 5
    assert nnkit.verify(tmp_path / "net.state", spec(), manager=manager).verified


def test_a_plugin_s_format_that_writes_something_else_is_refused(tmp_path, format_of):
    with pytest.raises(VerificationFailed, match=r"net\.state is not the model"):
        nnkit.export(spec(), tmp_path / "net.state", manager=format_of(write=OTHER))
    assert not (tmp_path / "net.state").exists()


def test_without_a_runner_nothing_is_proven_and_the_report_says_so(tmp_path, format_of):
    report = nnkit.export(spec(), tmp_path / "net.state", manager=format_of(more=""))
    assert not report.verified


@pytest.mark.parametrize(
    ("write", "more", "told"),
    [
        ("raise KeyError('x')", "", "format state failed to write: KeyError"),
        ("pass", "", "format state wrote no file"),
        (SAVE, 'requires={"no_such_package": "pip install no-such"}', "needs the package no_such_package"),
    ],
)
def test_a_plugin_s_format_that_fails_is_told_with_its_owner(tmp_path, format_of, write, more, told):
    manager = format_of(write=write, more=more)
    with pytest.raises(PluginProblem, match=told) as raised:
        nnkit.export(spec(), tmp_path / "net.state", manager=manager)
    assert raised.value.hint
    assert not (tmp_path / "net.state").exists()


def test_a_name_that_is_taken_and_one_that_is_none_are_recorded(plugins_from):
    source = PLUGIN.format(module="state_format", more="")
    manager = plugins_from(
        one=source.replace('"state"', '"onnx"'),
        two=source,
        three=source,
        four=source.replace('"state"', '"A b"'),
    )
    assert [each.name for each in manager.exporters()] == ["state"]
    told = {failure.plugin: failure.message for failure in manager.failures}
    assert "format 'onnx': the name is already taken" in told["one"]
    assert "format 'state': the name is already taken" in told["two"]  # three was first by name
    assert "lower-case words" in told["four"]


def test_unknown_formats_are_refused_with_the_nearest(nnkit_command):
    done = nnkit_command("export", "gcn", "--format", "onx")
    assert (done.code, done.out) == (2, "")
    assert "did you mean onnx?" in done.err
    with pytest.raises(UsageProblem, match="unknown format 'h5'"):
        nnkit.export("gcn", "net.h5")


def test_every_format_at_once(nnkit_command, tmp_path):
    done = nnkit_command("export", "simple-cnn", "--all-formats", "--json")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert all(each["verified"] for each in data["exports"])
    for name in ("simple-cnn.onnx", "simple-cnn.safetensors", "simple-cnn.pt2"):
        assert (tmp_path / name).is_file()
    again = nnkit_command("export", "simple-cnn", "--all-formats")
    assert again.code == 2
    assert "already exists" in again.err


@pytest.mark.slow
def test_the_example_of_openvino_is_proven_in_openvino(environment, tmp_path):
    pytest.importorskip("openvino")
    env = environment(True)
    env.install(str(ROOT / "examples" / "nnkit-openvino"))
    assert "format openvino" in env.run("-m", "nnkit", "plugins").stdout
    for name in ("simple-cnn", "gcn", "lstm"):
        done = env.run("-m", "nnkit", "export", name, "--format", "openvino", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        data = json.loads(done.stdout)
        assert data["proof"]["coverage"]["share"] == 1
        assert set(data["files"]) == {f"{name}.xml", f"{name}.bin"}
    done = env.run("-m", "nnkit", "verify", "gcn.xml", "--against", "gcn", "--seed", "1", cwd=tmp_path)
    assert done.returncode == 4
