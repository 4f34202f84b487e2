"""How a file is written: names, fixed dims, optimisation, external data, and what is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import python

import nnkit
from nnkit import ExportOptions
from nnkit.errors import UsageProblem, VerificationFailed


def ports(file):
    session = onnxruntime.InferenceSession(file)
    return [
        [(each.name, each.shape) for each in group] for group in (session.get_inputs(), session.get_outputs())
    ]


def test_a_dim_that_is_fixed_and_all_of_them(tmp_path):
    how = ExportOptions(fixed=frozenset({"batch"}))
    report = nnkit.export("pointnet", tmp_path / "a.onnx", points=32, batch=3, how=how)
    assert ports(tmp_path / "a.onnx") == [
        [("x", [3, 3, "points"])],
        [("logits", [3, 40])],
    ]
    assert {sizes["batch"] for sizes in report.proof.assignments} == {3}
    assert len(report.proof.assignments) >= 5
    report = nnkit.export(
        "resnet18", tmp_path / "b.onnx", height=32, width=32, how=ExportOptions(static=True)
    )
    assert ports(tmp_path / "b.onnx")[0] == [("image", [1, 3, 32, 32])]
    assert report.proof.assignments == [{"batch": 1, "height": 32, "width": 32}]


def test_the_command_fixes_dims(nnkit_command):
    done = nnkit_command("export", "gcn", "--onnx", "--fix", "nodes=5", "--json")
    assert json.loads(done.out)["spec"]["sizes"]["nodes"] == 5
    assert {sizes["nodes"] for sizes in json.loads(done.out)["proof"]["sizes"]} == {5}
    done = nnkit_command("export", "gcn", "--onnx", "--fix", "node=5")
    assert (done.code, done.out) == (2, "")
    assert "did you mean nodes" in done.err
    assert nnkit_command("export", "gcn", "--onnx", "--fix", "nodes").code == 2


def test_other_names_of_inputs_and_outputs(tmp_path):
    how = ExportOptions(input_names=("features", "graph"), output_names=("classes",))
    nnkit.export("gcn", tmp_path / "a.onnx", how=how)
    assert [[name for name, _ in group] for group in ports(tmp_path / "a.onnx")] == [
        ["features", "graph"],
        ["classes"],
    ]
    assert nnkit.verify(tmp_path / "a.onnx").verified


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (ExportOptions(input_names=("x",)), "1 input name for 2 inputs"),
        (ExportOptions(output_names=("a", "b")), "2 output names for 1 output"),
        (ExportOptions(output_names=("x",)), "two of the inputs and outputs would be named 'x'"),
        (ExportOptions(output_names=("a b",)), "'a b' can't name an input or output"),
        (ExportOptions(fixed=frozenset({"rows"})), "has no dim 'rows' to fix"),
        (ExportOptions(max_shard_size="1GB"), "--max-shard-size doesn't apply to onnx"),
        (ExportOptions(optimize=True, external_data=True), "--optimize keeps the weights in the file"),
    ],
)
def test_options_that_can_not_be_are_refused_before_anything_is_written(tmp_path, how, told):
    with pytest.raises(UsageProblem, match=told):
        nnkit.export("gcn", tmp_path / "a.onnx", how=how)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_optimised_files_have_folded_weights_and_are_proven(tmp_path):
    report = nnkit.export("resnet20", tmp_path / "a.onnx", how=ExportOptions(optimize=True))
    model = onnx.load(tmp_path / "a.onnx")
    operators = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in operators
    assert {entry.domain for entry in model.opset_import} == {""}
    assert report.proof.coverage.share > 0.999
    assert {check.weights for check in report.checks} == {"own", "perturbed"}
    assert nnkit.verify(tmp_path / "a.onnx").verified
    nnkit.export("resnet20", tmp_path / "b.onnx", how=ExportOptions(optimize=True))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_an_optimised_file_with_a_wrong_weight_is_refused(tmp_path):
    file = tmp_path / "a.onnx"
    nnkit.export("simple-cnn", file, how=ExportOptions(optimize=True), seed=2)
    model = onnx.load(file)
    weight = next(each for each in model.graph.initializer if each.name == "conv2.weight")
    values = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(np.roll(values, 1, 0), weight.name))
    onnx.save(model, file)
    with pytest.raises(VerificationFailed, match=r"conv2\.weight has other values than the module"):
        nnkit.verify(file)


def test_weights_in_a_file_of_their_own(tmp_path):
    report = nnkit.export("simple-cnn", tmp_path / "a.onnx", how=ExportOptions(external_data=True))
    assert set(report.files) == {"a.onnx", "a.onnx.data"}
    assert report.files["a.onnx"] < 20_000
    assert report.files["a.onnx.data"] >= 545_098 * 4 - 5_000  # the smallest tensors stay in the file
    assert nnkit.verify(tmp_path / "a.onnx").verified
    content = bytearray((tmp_path / "a.onnx.data").read_bytes())
    content[-5] ^= 0xFF
    (tmp_path / "a.onnx.data").write_bytes(content)
    with pytest.raises(VerificationFailed, match="has other values than the module"):
        nnkit.verify(tmp_path / "a.onnx")


def test_a_companion_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "a.onnx.data").write_text("mine")
    how = ExportOptions(external_data=True)
    with pytest.raises(UsageProblem, match=r"a\.onnx\.data already exists"):
        nnkit.export("simple-cnn", tmp_path / "a.onnx", how=how)
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx.data"]
    assert (tmp_path / "a.onnx.data").read_text() == "mine"
    nnkit.export("simple-cnn", tmp_path / "a.onnx", how=how, force=True, verify=False)
    assert (tmp_path / "a.onnx.data").stat().st_size > 2_000_000


EXPORT = "from nnkit.cli.main import main; main(['export', 'simple-cnn', '--onnx', '--force', '-o', 'net.onnx', *{more}])"


@pytest.mark.parametrize("more", [[], pytest.param(["--external-data"], marks=pytest.mark.slow)])
def test_a_disk_that_is_full_leaves_what_was_there(tmp_path, more):
    """A limit on the size of files is what a process meets as a full disk."""
    for name in ("net.onnx", "net.onnx.data"):
        (tmp_path / name).write_text("what was there")
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " \
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "  # fmt: skip
    done = python("-c", limit + EXPORT.format(more=more), cwd=tmp_path)
    assert done.returncode == 1
    assert "Error: can't write net.onnx" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["net.onnx", "net.onnx.data"]
    assert (tmp_path / "net.onnx").read_text() == (tmp_path / "net.onnx.data").read_text() == "what was there"


def test_an_interrupt_leaves_what_was_there(tmp_path):
    (tmp_path / "net.onnx").write_text("what was there")
    stop = "import nnkit.verbs.exporting.proof as p, os, signal; " \
           "p.describe_sizes = lambda run: os.kill(os.getpid(), signal.SIGINT); "  # fmt: skip
    done = python("-c", stop + EXPORT.format(more=[]), cwd=tmp_path)
    assert done.returncode == 1
    assert "Error: interrupted" in done.stderr
    assert os.listdir(tmp_path) == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_text() == "what was there"


@pytest.mark.slow
def test_the_same_bytes_from_other_processes_and_folders(tmp_path):
    files = []
    for number, seed in enumerate(("1", "2")):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        code = "from nnkit.cli.main import main; main(['export', 'gru', '--all-formats', '--seed', '5'])"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, check=True, capture_output=True
        )
        made = [folder / f"gru.{suffix}" for suffix in ("onnx", "pt2", "safetensors")]
        files.append([file.read_bytes() for file in made])
    assert files[0] == files[1]
    for content in files[0]:
        assert str(tmp_path).encode() not in content
        assert b"site-packages" not in content
        assert b".py" not in content


def test_any_warning_of_onnx_runtime_is_a_failure_and_other_output_is_passed_on(tmp_path, capfd):
    from nnkit.verbs.exporting.runtimes import Refused, _no_warnings

    with pytest.raises(Refused, match="it warns: of this"), _no_warnings(None):
        os.write(2, b"mine\n2026 [W:onnxruntime:nnkit-proof, graph.cc:1 Clean] of this\n")
    assert "mine" in capfd.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_model_on_cuda_is_exported_and_proven(tmp_path):
    assert nnkit.export("resnet18", tmp_path / "a.onnx", device="cuda").verified


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageProblem, match="device 'cuda:77' is not available on this machine"):
        nnkit.export("simple-cnn", tmp_path / "a.onnx", device="cuda:77")
