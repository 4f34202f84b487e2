"""The verb summary: rows in call order, functional steps included, and totals."""

import json
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nnkit
from nnkit.errors import NnkitError
from nnkit.render import summary as render


def test_every_step_of_the_simple_cnn_shows():
    report = nnkit.summarize("simple-cnn")
    steps = [(row.path, row.output_shapes[0][1:]) for row in report.rows[1:]]
    assert steps == [
        ("conv1", (32, 32, 32)),
        ("relu", (32, 32, 32)),
        ("pool", (32, 16, 16)),
        ("conv2", (64, 16, 16)),
        ("relu", (64, 16, 16)),
        ("pool", (64, 8, 8)),
        ("flatten", (4096,)),
        ("fc1", (128,)),
        ("relu", (128,)),
        ("fc2", (10,)),
    ]
    assert report.rows[1].input_shapes == ((1, 3, 32, 32),)
    assert (report.totals.parameters, report.totals.macs) == (545_098, 6_128_896)
    assert sum(row.macs for row in report.rows[1:]) == 6_128_896


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),  # as torchvision publishes them
    [
        ("resnet18", 11_689_512, 1_814_073_344),
        ("resnet34", 21_797_672, 3_663_761_408),
        ("resnet50", 25_557_032, 4_089_184_256),
        ("resnet101", 44_549_160, 7_801_405_440),
        ("resnet152", 60_192_808, 11_513_626_624),
    ],
)
def test_residual_networks_have_the_published_figures(name, parameters, macs):
    totals = nnkit.summarize(name, preset="imagenet").totals
    assert (totals.parameters, totals.macs) == (parameters, macs)


def test_resnet18_with_its_default_ten_classes():
    assert nnkit.summarize("resnet18").totals.parameters == 11_181_642


def test_graph_convolution_counts_its_non_zeros():
    """Kipf and Welling's network on Cora: X·W in both layers, and Â by its 2,708 + 10,556 non-zeros."""
    report = nnkit.summarize("gcn", preset="cora")
    assert report.totals.parameters == 23_063
    assert report.totals.macs == 2708 * 1433 * 16 + 2708 * 16 * 7 + (2708 + 10_556) * (16 + 7)


def test_large_models_run_on_meta_and_small_ones_for_real_with_the_same_counts():
    small, large = nnkit.summarize("resnet18"), nnkit.summarize("resnet18", batch=64)
    assert (small.method, large.method) == ("run", "meta")
    assert large.totals.macs == 64 * small.totals.macs
    assert [row.path for row in large.rows] == [row.path for row in small.rows]
    assert large.rows[5].output_shapes == ((64, 64, 56, 56),)


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.loose = [nn.Linear(4, 4)]

    def forward(self, x):
        return self.loose[0](self.layer(self.layer(x)))


def test_a_module_called_twice_has_two_rows_and_one_count_and_an_unregistered_one_is_seen():
    report = nnkit.summarize(Reused(), [torch.randn(2, 4)])
    rows = [(row.path, row.parameters, row.repeated) for row in report.rows[1:]]
    assert rows == [("layer", 20, False), ("layer", 0, True), ("(unregistered)", 20, False)]
    assert report.totals.parameters == 20
    assert report.totals.macs == 3 * 2 * 16


class Steps(nn.Module):
    def forward(self, x):
        y = torch.cat([x, x], dim=1).view(-1, 4)
        y += 1
        return (y @ y.T).softmax(-1).contiguous(), x.shape[0]


def test_functional_steps_have_names_and_no_ops_do_not():
    report = nnkit.summarize(Steps(), [torch.randn(2, 3, 4)])
    assert [row.type for row in report.rows[1:]] == ["cat", "view", "add", "matmul", "softmax"]
    assert "2×6×4 → 12×4" in render.as_text(report)


def test_the_module_and_the_random_state_are_what_they_were():
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4)).train()
    module[1].eval()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    state = torch.get_rng_state()
    calls = []
    module.register_forward_hook(lambda *args: calls.append(1))
    nnkit.summarize(module, [torch.randn(3, 4, generator=torch.Generator())])
    assert [each.training for each in module] == [True, False, True]
    assert all(torch.equal(before[name], each) for name, each in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert calls == [1]
    assert not torch.nn.modules.module._global_forward_hooks


class Restless(nn.Module):
    """Changes its buffers, takes random numbers and keeps state, in eval mode too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("last", torch.zeros(3, 4))
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        self.count += 1
        self.last = x * 2
        return self.linear(x) + torch.rand(4) + random.random()


@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_a_module_that_changes_when_it_runs_is_what_it_was(optimizer):
    module = Restless().train()
    x = torch.randn(3, 4)
    torch.manual_seed(7), random.seed(7)
    expected = module(x)
    module.count.zero_()
    last, parameter = module.last, module.linear.weight
    torch.manual_seed(7), random.seed(7)
    nnkit.summarize(module, [x], optimizer=optimizer)
    assert module.count == 0
    assert module.last is last
    assert module.linear.weight is parameter
    assert parameter.grad is None
    assert module.training
    assert torch.equal(module(x), expected)


def test_a_module_whose_eval_does_more_is_not_asked_to_do_it():
    """LoRA merges its weights in `eval()`."""

    class Merging(nn.Linear):
        def train(self, mode=True):
            raise AssertionError

    assert nnkit.summarize(Merging(4, 4), [torch.randn(1, 4)]).totals.macs == 16


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.scale = nn.Linear(4, 4), nn.Parameter(torch.ones(3))
        self.aside = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    def forward(self, x):
        return self.used(x)


def test_parameters_that_no_operator_reads_are_named():
    report = nnkit.summarize(Idle(), [torch.randn(2, 4)])
    assert report.totals.unused == ("aside.*", "scale")
    assert "not used     aside.*, scale" in render.as_text(report)


def test_a_parameter_read_only_through_data_is_used():
    model = nn.Linear(4, 4)
    model.forward = lambda x: F.linear(x, model.weight.data.t().contiguous(), model.bias.detach())
    assert nnkit.summarize(model, [torch.randn(2, 4)]).totals.unused == ()


def test_googlenet_names_its_auxiliary_heads_as_not_used():
    totals = nnkit.summarize("googlenet", aux_logits=True).totals
    assert totals.unused == ("aux1.*", "aux2.*")


def test_tied_parameters_count_once_and_name_their_owner():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10))
    model[1].weight = model[0].weight
    report = nnkit.summarize(model, [torch.zeros(2, dtype=torch.long)])
    rows = [(row.type, row.parameters, row.tied) for row in report.rows[1:]]
    assert rows == [("Embedding", 40, ""), ("Linear", 10, "0.weight")]


class LooksAtValues(nn.Module):
    """Takes one way or the other by what a product gives."""

    def __init__(self):
        super().__init__()
        self.linear, self.small, self.large = nn.Linear(4, 1), nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x):
        mask = self.linear(x).squeeze(1) > 0
        return self.small(x[mask]) if mask.float().mean() > 2 else self.large(x[mask | True])


def test_a_model_that_looks_at_values_is_run_on_values():
    """Not on memory that holds whatever was there before, which other models are run on."""
    from nnkit.models.references import Reference
    from nnkit.models.user_modules import architecture_of_code

    spec = Reference(
        architecture_of_code(f"{__name__}:LooksAtValues", ["x: float32[batch=5, 4]"]), ""
    ).resolve()
    report = nnkit.summarize(spec)
    assert [row.path for row in report.rows if row.kind == "module"] == ["", "linear", "large"]
    assert (report.method, report.totals.macs) == ("run", 5 * 4 + 5 * 4 * 3)
    assert report.reason.startswith("it can't run without data")


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(4, 3)

    def forward(self, x):
        return F.relu(self.second(self.first(x)))


def test_a_forward_that_fails_says_where():
    with pytest.raises(NnkitError, match=r"forward failed in second \(Linear\): RuntimeError: mat1 and mat2"):
        nnkit.summarize(Failing(), [torch.randn(2, 4)])
    assert not torch.nn.modules.module._global_forward_hooks


class ByValue(nn.Module):
    """On meta tensors it can't run, for what it does depends on a value."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.table = nn.Embedding(400_000_000, width)
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else x


def test_what_meta_can_not_run_runs_for_real_and_the_report_says_so(tmp_path):
    from nnkit.models.references import Reference
    from nnkit.models.user_modules import architecture_of_code

    architecture = architecture_of_code(f"{__name__}:ByValue", ["x: float32[batch, 4]"])
    report = nnkit.summarize(Reference(architecture, "").resolve())
    assert report.method == "run"
    assert report.reason.startswith("it can't run without data: RuntimeError: Tensor.item()")
    assert report.totals.parameters == 1_600_000_020


def test_json_has_what_scripts_rely_on():
    data = json.loads(json.dumps(nnkit.summarize("simple-cnn", batch=2).to_dict()))
    assert data["schema"] == "nnkit.summary/1"
    assert data["nnkit"] == nnkit.__version__
    assert data["spec"]["architecture"] == "vision/simple-cnn"
    assert data["totals"]["trainable"] == 545_098
    assert data["totals"]["uncounted"] == {"aten.relu": 3, "aten.max_pool2d_with_indices": 2}
    assert data["method"] == "run"
    image, map_ = (
        {"shape": [2, *shape], "dtype": "float32", "device": "cpu"} for shape in ([3, 32, 32], [32] * 3)
    )
    assert data["rows"][1] == {
        "path": "conv1", "kind": "module", "type": "Conv2d", "depth": 1,
        "inputs": [image], "outputs": [map_], "input_shapes": [[2, 3, 32, 32]], "output_shapes": [[2, 32, 32, 32]],
        "parameters": 896, "trainable": 896, "macs": 2 * 884_736, "kernel": [3, 3], "repeated": False, "tied": "",
        "leaf": True, "training": None,
    }  # fmt: skip


def test_memory_does_not_grow_with_the_weights():
    """A module of 80 GB of weights is summarised on a machine that couldn't hold them."""
    code = (
        "import re, pathlib, nnkit\n"
        "from nnkit.models.user_modules import architecture_of_code\n"
        "from nnkit.models.references import Reference\n"
        "import sys; sys.path.insert(0, {tests!r})\n"
        "a = architecture_of_code('test_summary:Huge', ['x: float32[batch, 8192]'])\n"
        "r = nnkit.summarize(Reference(a, '').resolve())\n"
        # The peak of this process alone; getrusage would start from that of the process that began it.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(r.totals.parameter_bytes, re.search(r'VmHWM:\\s+(\\d+)', status)[1])\n"
    )
    from conftest import ROOT, python

    done = python("-c", code.format(tests=str(ROOT / "tests" / "verbs" / "summary")))
    weights, peak = map(int, done.stdout.split())
    assert weights > 80e9, done.stderr
    assert peak * 1024 < 2e9


class Huge(nn.Module):
    def __init__(self, layers: int = 300):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8192, 8192) for _ in range(layers))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Mismatched(nn.Module):
    def __init__(self, kind: str = "linear"):
        super().__init__()
        self.kind = kind
        self.linear, self.conv = nn.Linear(5, 2), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        match self.kind:
            case "linear":
                return self.linear(x)
            case "conv":
                return self.conv(x.view(1, 3, 1, -1))
            case "bmm":
                return torch.bmm(x[None], x[None])
            case "dtype":
                return x @ x.double().T
            case "bias":
                return F.linear(x, x, x.new_zeros(7))


@pytest.mark.parametrize("kind", ["linear", "conv", "bmm", "dtype", "bias"])
def test_a_product_that_does_not_fit_fails_on_weights_without_values_too(kind):
    from nnkit.models.references import Reference
    from nnkit.models.user_modules import architecture_of_code

    architecture = architecture_of_code(f"{__name__}:Mismatched", ["x: float32[batch=3, 4]"])
    with pytest.raises(NnkitError, match="forward failed in"):
        nnkit.summarize(Reference(architecture, "").resolve(options={"kind": kind}))
