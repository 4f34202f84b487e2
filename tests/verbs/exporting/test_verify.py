"""The proof made again: of files that nnkit wrote, and of anybody's."""

import json

import onnx
import pytest
import torch
from torch import nn

import nnkit
from nnkit.errors import UsageProblem, VerificationFailed
from nnkit.models import metadata


@pytest.mark.parametrize("suffix", ["onnx", "safetensors", "pt2"])
def test_a_file_of_nnkit_says_itself_what_it_is(tmp_path, suffix, nnkit_command):
    file = tmp_path / f"net.{suffix}"
    nnkit.export("simple-cnn", file, num_classes=3, seed=4)
    done = nnkit_command("verify", str(file), "--json")
    assert done.code == 0
    data = json.loads(done.out)
    assert (data["verified"], data["spec"]["config"]["num_classes"]) == (True, 3)
    done = nnkit_command("verify", str(file), "--against", "simple-cnn", "--num-classes", "3", "--seed", "5")
    assert done.code == 4
    assert "other values" in done.err
    assert done.out == ""


def test_the_file_tells_its_proof(tmp_path, nnkit_command):
    report = nnkit.export("gcn", tmp_path / "gcn.onnx")
    told = metadata.read(tmp_path / "gcn.onnx")
    assert told["proof"]["sizes"] == report.proof.assignments
    assert told["proof"]["coverage"]["share"] == 1
    assert told["versions"]["torch"] == torch.__version__
    out = nnkit_command("summary", str(tmp_path / "gcn.onnx")).out
    assert "proof        in ONNX Runtime" in out
    assert "100 % of the parameters" in out
    nnkit.export("gcn", tmp_path / "not.onnx", verify=False)
    assert metadata.read(tmp_path / "not.onnx")["proof"] is None
    assert "none: it was not proven" in nnkit_command("summary", str(tmp_path / "not.onnx"), "--contents").out


def test_weights_from_a_file_are_held_against_their_digest(tmp_path):
    nnkit.export("simple-cnn", tmp_path / "w.safetensors", seed=9)
    weights = tmp_path / "w.safetensors"
    nnkit.export("simple-cnn", tmp_path / "a.onnx", weights=str(weights))
    weights.rename(tmp_path / "moved.safetensors")
    assert nnkit.verify(tmp_path / "a.onnx").verified
    assert nnkit.verify(tmp_path / "a.onnx", weights=str(tmp_path / "moved.safetensors")).verified
    model = onnx.load(tmp_path / "a.onnx")
    weight = next(each for each in model.graph.initializer if each.name == "conv1.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.01, weight.name))
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(VerificationFailed, match="have changed since it was written"):
        nnkit.verify(tmp_path / "a.onnx")


class Mine(nn.Module):
    def __init__(self, width: int = 6):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


INPUT = "x: float32[batch, 3, height=12 min=3, width=12 min=3]"


def export_by_torch(module, file, dynamo):
    """Export with torch alone, as its tutorials do."""
    import warnings

    x = torch.randn(2, 3, 12, 13)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: "n", 2: "h", 3: "w"},)
            program = torch.onnx.export(module, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False)
            program.save(str(file))
        else:
            axes = {"image": {0: "n", 2: "h", 3: "w"}}
            torch.onnx.export(module, (x,), str(file), dynamo=False, input_names=["image"], dynamic_axes=axes)


@pytest.mark.parametrize("dynamo", [True, False])
def test_a_file_of_somebody_else_is_proven_against_a_module(tmp_path, nnkit_command, dynamo):
    torch.manual_seed(1)
    module = Mine().eval()
    export_by_torch(module, tmp_path / "theirs.onnx", dynamo)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    against = ["--against", f"{__name__}:Mine", "--input", INPUT]
    done = nnkit_command(
        "verify", str(tmp_path / "theirs.onnx"), *against, "--weights", str(tmp_path / "w.pt")
    )
    assert done.code == 0, done.err
    assert "at 5 assignments of sizes" in done.out
    assert "height=3 " in done.out
    # The norm is folded into the convolution. Its scale and its shift were 1 and 0, 12 numbers of 215.
    assert "100 % of 215 proven, 94.4 % by the model's own weights" in done.out
    other = nnkit_command("verify", str(tmp_path / "theirs.onnx"), *against)
    assert other.code == 4
    assert "is not the model" in other.err


def test_a_file_that_names_no_model_and_one_whose_model_is_not_here(tmp_path, nnkit_command):
    export_by_torch(Mine().eval(), tmp_path / "theirs.onnx", True)
    done = nnkit_command("verify", str(tmp_path / "theirs.onnx"))
    assert done.code == 2
    assert "nnkit verify FILE --against ARCH" in done.err
    nnkit.export(Mine().eval(), tmp_path / "mine.onnx", [torch.randn(2, 3, 9, 9)])
    done = nnkit_command("verify", str(tmp_path / "mine.onnx"))
    assert done.code == 2
    assert "which no installed plugin declares" in done.err
    assert "operators" in nnkit_command("summary", str(tmp_path / "mine.onnx")).out
    assert nnkit_command("verify", str(tmp_path / "missing.onnx")).code == 2


def test_another_model_of_other_outputs_is_no_wrong_usage(tmp_path, nnkit_command):
    nnkit.export("lstm", tmp_path / "lstm.onnx", verify=False)
    done = nnkit_command("verify", str(tmp_path / "lstm.onnx"), "--against", "gru")
    assert done.code == 4
    assert "is not the model: it has 3 output names for 2 outputs" in done.err


def test_a_module_in_python_is_verified_with_its_inputs(tmp_path):
    module, x = Mine().eval(), torch.randn(2, 3, 9, 9)
    nnkit.export(module, tmp_path / "mine.onnx", [x])
    assert nnkit.verify(tmp_path / "mine.onnx", module, [x]).verified
    with pytest.raises(VerificationFailed, match="has other values"):
        nnkit.verify(tmp_path / "mine.onnx", Mine().eval(), [x])


def test_damaged_files_and_files_of_no_format(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no model at all")
    with pytest.raises((VerificationFailed, nnkit.NnkitError), match=r"damaged|not an ONNX model"):
        nnkit.verify(tmp_path / "a.onnx", "simple-cnn")
    (tmp_path / "a.tflite").write_bytes(b"")
    with pytest.raises(UsageProblem, match="of a known format"):
        nnkit.verify(tmp_path / "a.tflite", "simple-cnn")
