"""Inputs reach the parameters of forward that bear their names, and a module keeps the dtypes it was built with."""

import json

import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

import nnkit
from nnkit.cli.main import cli
from nnkit.contract import signature as contract
from nnkit.errors import UsageProblem
from nnkit.models.precision import convert
from nnkit.models.running import bind

MODELS = '''
import torch
from torch import nn

class Gap(nn.Module):
    """An optional input between two others."""
    def __init__(self):
        super().__init__()
        self.words, self.kinds, self.out = nn.Embedding(50, 8), nn.Embedding(2, 8), nn.Linear(8, 4)
    def forward(self, ids, mask=None, kinds=None):
        h = self.words(ids) + self.kinds(torch.zeros_like(ids) if kinds is None else kinds)
        return self.out(h if mask is None else h * mask.unsqueeze(-1))

class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.query_layer, self.key_layer = nn.Linear(8, 8), nn.Linear(8, 8)
    def forward(self, query, *, key, scale=2.0):
        return self.query_layer(query) - scale * self.key_layer(key)

class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(8, 8, dtype=torch.bfloat16), nn.Linear(8, 4)
    def forward(self, x):
        return self.head(self.body(x.bfloat16()).float())

class Spectrum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, dtype=torch.complex64))
    def forward(self, x):
        return torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=8)

class Eighth(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64).to(torch.float8_e4m3fn), requires_grad=False)
    def forward(self, x):
        return nn.functional.linear(x, self.weight.to(x.dtype))

class Forces(nn.Module):
    """A potential and the forces that follow from it."""
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 16), nn.Linear(16, 1)
    def forward(self, x):
        x = x.requires_grad_(True)
        energy = self.b(torch.tanh(self.a(x))).sum()
        return energy, -torch.autograd.grad(energy, x, create_graph=self.training)[0]
'''


@pytest.fixture
def models(tmp_path, monkeypatch):
    (tmp_path / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


class Signature(nn.Module):
    def forward(self, ids, mask=None, kinds=None, *, scale=None):
        return ids


class Positions(nn.Module):
    def forward(self, first, *rest):
        return first


class Anything(nn.Module):
    def forward(self, x, **more):
        return x


@pytest.mark.parametrize(
    ("module", "names", "by_position", "by_name"),
    [
        (Signature(), "ids mask", "ids mask", ""),
        (Signature(), "ids kinds", "ids", "kinds"),
        (Signature(), "ids scale mask", "ids", "scale mask"),
        (Signature(), "kinds ids", "", "kinds ids"),
        (Signature(), "tokens mask", "tokens mask", ""),  # a plugin may give forward's parameters other names
        (Positions(), "first second third", "first second third", ""),
        (Anything(), "x y", "x", "y"),
        (Anything(), "image", "image", ""),
        (torch.jit.script(nn.Linear(2, 2)), "input", "input", ""),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_each_input_goes_to_the_parameter_of_its_name(module, names, by_position, by_name):
    args, keywords = bind(module, contract.Signature(tuple(names.split())), names.split())
    assert args == tuple(by_position.split())
    assert keywords == {name: name for name in by_name.split()}


def test_a_gap_of_optional_inputs_is_left_out(models):
    ids, kinds = "ids: int64[batch, time=8] < 50", "kinds: int64[batch, time=8] < 2"
    done = run("export", "models.py:Gap", "--input", ids, "--input", kinds, "--onnx", "--seed", 3)
    assert done.exit_code == 0, done.stderr
    session = onnxruntime.InferenceSession("gap.onnx")
    assert [each.name for each in session.get_inputs()] == ["ids", "kinds"]
    from models import Gap

    module, given = Gap().eval(), (torch.randint(0, 50, (3, 6)), torch.randint(0, 2, (3, 6)))
    module.load_state_dict(_weights_of("models.py:Gap", models, ids, kinds))
    (found,) = session.run(None, {"ids": given[0].numpy(), "kinds": given[1].numpy()})
    expected = module(given[0], kinds=given[1]).detach().numpy()
    assert abs(found - expected).max() < 1e-5


def _weights_of(reference, folder, *inputs):
    words = [word for text in inputs for word in ("--input", text)]
    path = folder / "weights.safetensors"
    assert run("export", reference, *words, "--safetensors", "-o", path, "--seed", 3).exit_code == 0
    return load_file(path)


@pytest.mark.parametrize("order", [("query", "key"), ("key", "query")])
def test_keyword_only_inputs_in_any_order_are_the_same_network(models, order):
    words = [word for name in order for word in ("--input", f"{name}: float32[batch, 8]")]
    done = run("export", "models.py:Named", *words, "--onnx", "--seed", 3, "--force")
    assert done.exit_code == 0, done.stderr
    weights = _weights_of("models.py:Named", models, "query: float32[batch, 8]", "key: float32[batch, 8]")
    query, key = torch.randn(3, 8), torch.randn(3, 8)
    expected = (
        query @ weights["query_layer.weight"].T + weights["query_layer.bias"]
        - 2 * (key @ weights["key_layer.weight"].T + weights["key_layer.bias"])
    )  # fmt: skip
    session = onnxruntime.InferenceSession("named.onnx")
    (found,) = session.run(None, {"query": query.numpy(), "key": key.numpy()})
    assert abs(found - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("verb", ["summary", "smoke-run", "bench"])
def test_every_verb_passes_keywords(models, verb):
    words = ["--input", "key: float32[batch, 8]", "--input", "query: float32[batch, 8]"]
    more = {"smoke-run": ["--check", "shapes", "--check", "input-effect"], "bench": ["--rounds", 2]}
    done = run(verb, "models.py:Named", *words, *more.get(verb, []))
    assert done.exit_code == 0, done.output


def test_a_name_that_forward_does_not_know_is_refused_with_the_nearest(models):
    done = run("summary", "models.py:Gap", "--input", "idss: int64[batch, time=8] < 50")
    assert isinstance(done.exception, UsageProblem)
    assert done.exception.message == "models.py:Gap has no input 'idss'"
    assert (
        done.exception.hint == "did you mean ids or kinds?; forward of models.py:Gap takes ids, mask, kinds"
    )


def test_a_required_input_that_is_left_out_is_guessed_beside_those_declared(models):
    done = run("summary", "models.py:Named", "--input", "query: float32[batch, 8]")
    assert done.exit_code == 0, done.output
    assert "assumed: key: float32[batch, 8], from the first layer" in done.stderr


def test_a_mixed_model_stays_mixed_in_every_verb(models):
    words = ["models.py:Mixed", "--input", "x: float32[batch, 8]"]
    done = run("summary", *words, "--json")
    totals = json.loads(done.stdout)["totals"]
    assert totals["dtypes"] == {"bfloat16": 72, "float32": 36}
    assert totals["parameter_bytes"] == 72 * 2 + 36 * 4
    assert "bfloat16 72 · float32 36" in run("summary", *words).stdout
    assert run("export", *words, "--safetensors").exit_code == 0
    assert {each.dtype for each in load_file("mixed.safetensors").values()} == {torch.bfloat16, torch.float32}
    report = json.loads(run("smoke-run", *words, "--check", "shapes", "--json").stdout)
    assert report["spec"]["dtype"] == "as built"
    assert report["dtypes"] == {"bfloat16": 72, "float32": 36}


def test_a_dtype_that_is_asked_for_is_given(models):
    done = run(
        "summary", "models.py:Mixed", "--input", "x: float32[batch, 8]", "--dtype", "float64", "--json"
    )
    assert json.loads(done.stdout)["totals"]["dtypes"] == {"float64": 108}


def test_complex_weights_stay_complex(models):
    words = ["models.py:Spectrum", "--input", "x: float32[batch, 8]"]
    totals = json.loads(run("summary", *words, "--json").stdout)["totals"]
    assert (totals["parameters"], totals["parameter_bytes"]) == (5, 40)
    assert run("export", *words, "--safetensors", "--seed", 5).exit_code == 0
    weight = load_file("spectrum.safetensors")["weight"]
    torch.manual_seed(5)
    assert torch.equal(weight, torch.randn(5, dtype=torch.complex64))


def test_float8_weights_keep_their_size(models):
    done = run("summary", "models.py:Eighth", "--input", "x: float32[batch, 64]", "--json")
    assert json.loads(done.stdout)["totals"]["parameter_bytes"] == 64 * 64


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float64", torch.complex128), ("float32", torch.complex64), ("bfloat16", torch.complex64)],
)
def test_complex_weights_convert_to_complex_ones(dtype, expected):
    module = nn.Module()
    module.weight = nn.Parameter(torch.tensor([1 + 2j]))
    assert torch.equal(convert(module, dtype).weight, torch.tensor([1 + 2j], dtype=expected))


def test_a_model_that_differentiates_in_forward_runs_in_every_verb(models):
    from models import Forces

    words = ["models.py:Forces", "--input", "x: float32[batch=5, 3]"]
    report = nnkit.smoke_run(Forces(), [torch.randn(5, 3)])
    assert [each.name for each in report.checks if each.status == "failed"] == []
    done = run("smoke-run", *words, "--check", "shapes", "--check", "finite", "--check", "determinism")
    assert done.exit_code == 0, done.output
    assert run("bench", *words, "--rounds", 2).exit_code == 0
