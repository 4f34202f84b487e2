"""Modules from Python with example inputs: the dims that were found are dynamic, and proven at other sizes."""

import onnx
import pytest
import torch
from torch import nn

import nnkit
from nnkit.errors import VerificationFailed


@pytest.fixture(autouse=True)
def a_short_way_to_larger_sizes(monkeypatch):
    monkeypatch.setattr("nnkit.verbs.exporting.reach.SECONDS", 0.5)


def axes(path):
    """Return the axes of the first input."""
    return [
        axis.dim_param or axis.dim_value for axis in onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    ]


def test_the_dims_that_were_found_are_dynamic_and_proven_at_other_sizes(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    report = nnkit.export(module, tmp_path / "conv.onnx", [torch.randn(2, 3, 8, 8)])
    assert axes(tmp_path / "conv.onnx") == ["batch", 3, "height", "width"]
    assert {sizes["batch"] for sizes in report.proof.assignments} >= {1, 2, 3}
    assert min(sizes["height"] for sizes in report.proof.assignments) == 3  # what the kernel needs
    assert "input: float32[batch, 3, height, width]" in report.proof.assumed


class Recurrent(nn.Module):
    """A loop in Python over the steps, which torch.export unrolls."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        state = torch.zeros_like(x[:, 0])
        for step in range(x.shape[1]):
            state = torch.tanh(self.layer(x[:, step] + state))
        return state


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_a_dim_that_torch_makes_a_constant_of_is_fixed_and_the_report_says_so(tmp_path, format):
    report = nnkit.export(Recurrent().eval(), tmp_path / f"net.{format}", [torch.randn(2, 5, 4)])
    assert "time is always 5 in the file, because torch can't keep it dynamic" in report.proof.assumed
    assert {sizes["time"] for sizes in report.proof.assignments} == {5}
    assert len({sizes["batch"] for sizes in report.proof.assignments}) > 2
    if format == "onnx":
        assert axes(tmp_path / "net.onnx") == ["batch", 5, 4]


def test_a_declared_dim_is_never_fixed_in_silence(tmp_path, nnkit_command):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(4, 4)\n"
        "    def forward(self, x):\n        state = x[:, 0]\n"
        "        for step in range(x.shape[1]):\n            state = torch.tanh(self.layer(x[:, step] + state))\n"
        "        return state\n"
    )
    for format in ("onnx", "pt2"):
        done = nnkit_command("export", "net.py:Net", "--input", "x: float32[batch, time=5, 4]", f"--{format}")
        assert done.code == 4
        assert "works only with time 5" in done.err
        assert "--fix time=5" in done.err


class Branching(nn.Module):
    """Another function for a single sample."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        y = self.layer(x)
        return -y if x.shape[0] == 1 else y


def test_a_wrong_value_at_an_assumed_size_is_no_proof(tmp_path):
    with pytest.raises(VerificationFailed, match="at batch 1"):
        nnkit.export(Branching().eval(), tmp_path / "net.onnx", [torch.randn(2, 4)])
    assert not (tmp_path / "net.onnx").exists()


class Bounded(nn.Module):
    """Positions that a table has, cut to the length of the text."""

    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Parameter(torch.randn(40, 4)), nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) + self.table[: x.shape[1]]


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_an_assumed_dim_ends_where_the_module_does(tmp_path, format):
    report = nnkit.export(Bounded().eval(), tmp_path / f"net.{format}", [torch.randn(2, 5, 4)])
    assert "time <= 40, as torch.export finds" in report.proof.assumed
    reached = [*report.proof.assignments, *report.proof.reach.assignments]
    assert max(sizes["time"] for sizes in reached) <= 40


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 4), nn.Embedding(16, 4)

    def forward(self, tokens, *, places):
        return self.tokens(tokens["ids"]) + self.places(places)


def test_examples_in_a_dict_with_positions_that_count(tmp_path):
    inputs = {"tokens": {"ids": torch.randint(0, 11, (2, 6))}, "places": torch.arange(6)[None]}
    module, file = Positions().eval(), tmp_path / "net.onnx"
    nnkit.export(module, file, inputs)
    assert [port.name for port in onnx.load(file).graph.input] == ["tokens.ids", "places"]
    assert nnkit.verify(file, module, inputs).verified
