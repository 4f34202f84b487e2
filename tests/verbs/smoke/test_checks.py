"""The verb smoke-run: each check finds the fault that it is for, and a sound model passes them all."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nnkit
from nnkit.errors import UsageProblem
from nnkit.models.references import Reference
from nnkit.models.user_modules import architecture_of_code


class Faulty(nn.Module):
    """A linear model; each subclass is wrong in one way."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        return self.linear(x)


class UnusedParameter(Faulty):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)


class DetachedParameter(Faulty):
    def forward(self, x):
        return F.linear(x, self.linear.weight.detach(), self.linear.bias)


class NoGradient(Faulty):
    def forward(self, x):
        with torch.no_grad():
            return self.linear(x)


class MixesTheBatch(Faulty):
    def forward(self, x):
        return self.linear(x).softmax(0)


class MixesTheBatchBehindZeros(Faulty):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        return self.head(self.linear(x).softmax(0))


class HardCodedBatch(Faulty):
    def forward(self, x):
        return self.linear(x).view(4, 3)


class BatchStatistics(Faulty):
    def forward(self, x):
        return F.batch_norm(self.linear(x), None, None, training=True)


class DropoutInEval(Faulty):
    def forward(self, x):
        return F.dropout(self.linear(x), 0.5, training=True)


class DropoutInEvalBehindZeros(MixesTheBatchBehindZeros):
    def forward(self, x):
        return self.head(F.dropout(self.linear(x), 0.5, training=True))


class NotANumber(Faulty):
    def forward(self, x):
        return self.linear(x).log()


class GradientNotANumber(Faulty):
    def forward(self, x):
        return self.linear(x * 0).mul(0).sqrt() + self.linear(x)


class InPlaceBreaksBackward(Faulty):
    def forward(self, x):
        y = self.linear(x).exp()
        z = y * y
        y.add_(1)
        return z


class ZeroGate(Faulty):
    """Right, though at first no gradient passes the gate."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x[:, :3] + self.gate * self.linear(x)


class OverwritesItsInput(Faulty):
    """The addition needs what the activation overwrites."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.linear(x)
        return y + self.relu(y)


class MadeInForward(Faulty):
    def forward(self, x):
        if not hasattr(self, "late"):
            self.late = nn.Linear(6, 3)
        return self.late(x) + self.linear(x)


class KeepsAPair(Faulty):
    """A state that goes from one batch to the next, in a tuple."""

    state = None

    def forward(self, x):
        y = self.linear(x) + (0 if self.state is None else self.state[0].mean())
        self.state = (y.detach(), y.detach())
        return y


class RateStaysZero(Faulty):
    rate = 0.5

    def forward(self, x):
        if not self.training:
            self.rate = 0.0
        return self.linear(F.dropout(x, self.rate))


class CountsInBFloat16(Faulty):
    def forward(self, x):
        return self.linear(x) + torch.arange(x.shape[1], dtype=x.dtype)[:, None]


class Raises(Faulty):
    def forward(self, x):
        return self.linear(x.T)


FAULTS = {
    UnusedParameter: ("gradients", "no gradient reaches unused.bias, unused.weight (of 4 parameters)"),
    DetachedParameter: ("gradients", "no gradient reaches linear.weight (of 2 parameters)"),
    NoGradient: ("gradients", "no output depends on a parameter"),
    MixesTheBatch: ("batch-independence", "sample 0 of output differs by"),
    MixesTheBatchBehindZeros: ("batch-independence", "sample 0 of output differs by"),
    HardCodedBatch: ("batch-independence", "RuntimeError: shape '[4, 3]' is invalid"),
    BatchStatistics: ("batch-independence", ""),
    DropoutInEval: ("determinism", "output differs between two runs"),
    DropoutInEvalBehindZeros: ("determinism", "output differs between two runs"),
    NotANumber: ("finite", "output has"),
    GradientNotANumber: ("finite", "the gradient of linear.weight has"),
    InPlaceBreaksBackward: ("gradients", "modified by an inplace operation"),
    OverwritesItsInput: ("in-place", "relu overwrites what is still needed"),
    MadeInForward: ("registry", "late.weight, late.bias did not exist before the first forward"),
    KeepsAPair: ("eval-state", "state[0] changed during a run in eval mode"),
    RateStaysZero: ("eval-state", "attribute rate changed during a run in eval mode, and training is"),
    Raises: ("shapes", "RuntimeError: mat1 and mat2"),
}


def run(kind, **options):
    architecture = architecture_of_code(f"{__name__}:{kind.__name__}", ["x: float32[batch, 6]"])
    return nnkit.smoke_run(Reference(architecture, "").resolve(), **options)


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_each_fault_is_found_by_its_check_and_named(kind):
    name, message = FAULTS[kind]
    report = run(kind)
    found = {check.name: check for check in report.checks}
    assert not report.passed
    assert found[name].status == "failed"
    assert message in found[name].message


UNDECLARED = {
    "in-place", "optional-inputs", "causality", "padding", "permutation", "pointwise", "stochastic", "tied",
}  # fmt: skip
"""The checks of what a linear layer neither has nor is declared to have."""


def check(name, kind, *inputs):
    """Run one check on a class with these inputs."""
    architecture = architecture_of_code(f"{__name__}:{kind.__name__}", inputs)
    (result,) = nnkit.smoke_run(Reference(architecture, "").resolve(), checks=[name]).checks
    return result.status, result.message


def test_positions_that_collide_in_bfloat16_are_found_at_the_size_of_the_model():
    assert check("cast", CountsInBFloat16, "x: float32[batch, time=256, 6]")[0] == "passed"
    status, message = check("cast", CountsInBFloat16, "x: float32[batch, time=300, 6]")
    assert status == "failed"
    assert message.startswith("positions along time are counted in bfloat16: those above 256 collide, at ")


class NoKernel(Faulty):
    def forward(self, x):
        return torch.cdist(self.linear(x), self.linear.weight[:, :3])


def test_a_kernel_that_the_cpu_lacks_is_no_fault_of_the_model():
    status, message = check("cast", NoKernel, "x: float32[batch, 6]")
    assert status == "skipped"
    assert message.startswith("the CPU has no kernel for it: ")


class SharesItsLayer(Faulty):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6)] * 3)

    def forward(self, x):
        return self.linear(self.layers[2](self.layers[1](self.layers[0](x))))


class NormalizesOneValue(Faulty):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x):
        return self.linear(self.norm(x))


def test_what_may_be_meant_is_a_warning():
    status, message = check("registry", SharesItsLayer, "x: float32[batch, 6]")
    assert (status, message) == ("warned", "layers.0, layers.1, layers.2 are one module, not 3")
    status, message = check("batch-sizes", NormalizesOneValue, "x: float32[batch, 6]")
    assert status == "warned"
    assert message.startswith("a batch of 1 can't be trained: batch norm sees one value per channel, at ")


class HidesZeros(nn.Module):
    """Attention in which a row of zeros hides itself wholly: pytorch's issue 41508."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7000, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, ids):
        x = self.embedding(ids)
        return self.attention(x, x, x, key_padding_mask=ids == 0)[0]


class DividesByTheLast(HidesZeros):
    def forward(self, ids):
        return self.embedding(ids) / (ids != 6999)[..., None]


def test_values_that_hardly_ever_are_drawn_are_tried_on_purpose():
    ids = "ids: int64[batch, time=20] < 7000"
    status, message = check("finite", HidesZeros, ids)
    assert status == "failed"
    assert message.endswith("for ids all 0")
    assert check("finite", DividesByTheLast, ids)[1].endswith("for ids all 6999")


def test_a_sound_model_passes_them_all():
    report = run(Faulty)
    assert report.passed
    assert {check.name for check in report.checks if check.status == "skipped"} == UNDECLARED
    assert {check.status for check in report.checks} == {"passed", "skipped"}
    assert len(report.checks) == 23


def test_a_fault_that_another_seed_does_not_show_is_a_warning():
    report = run(SeedDependent)
    found = {check.name: check for check in report.checks}
    assert found["finite"].status == "warned"
    assert found["finite"].message.endswith("(not with a different seed)")


def test_a_gate_that_starts_at_zero_is_no_fault():
    report = run(ZeroGate)
    assert report.passed
    found = {check.name: check for check in report.checks}
    assert found["gradients"].message == (
        "all 3 parameters, 2 of them only after zero-initialized weights have moved"
    )
    assert found["updates"].status == "passed"


def test_a_declared_shape_that_is_not_kept_is_found():
    from dataclasses import replace

    from nnkit import TensorSpec

    spec = nnkit.resolve("simple-cnn")
    wrong = replace(spec.architecture, outputs=[TensorSpec("logits", ("batch", 11))])
    report = nnkit.smoke_run(replace(spec, architecture=wrong), checks=["shapes"])
    assert report.checks[0].message == "output logits has shape 4×10, but 4×11 is declared (batch=4)"
    two = replace(spec.architecture, outputs=[TensorSpec("a", ("batch", 10)), TensorSpec("b", ("batch", 10))])
    report = nnkit.smoke_run(replace(spec, architecture=two), checks=["shapes"])
    assert report.checks[0].message == "forward returns 1 tensor, but 2 are declared: a, b"


class SeedDependent(Faulty):
    """Infinite for the weights of one seed alone."""

    def forward(self, x):
        first = torch.rand(1, generator=torch.Generator().manual_seed(0))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            chance = torch.equal(nn.Linear(6, 3).weight, self.linear.weight)
        return self.linear(x) / (0 if chance else 1) + 0 * first


class AuxiliaryHead(Faulty):
    """Returns more in training than it declares, as GoogLeNet does."""

    def __init__(self):
        super().__init__()
        self.auxiliary = nn.Linear(6, 2)

    def forward(self, x):
        return (self.linear(x), self.auxiliary(x)) if self.training else self.linear(x)


def test_further_outputs_in_training_take_part():
    from dataclasses import replace

    from nnkit import TensorSpec

    architecture = architecture_of_code(f"{__name__}:AuxiliaryHead", ["x: float32[batch, 6]"])
    declared = replace(architecture, outputs=[TensorSpec("y", ("batch", 3))])
    report = nnkit.smoke_run(Reference(declared, "").resolve())
    assert {check.name for check in report.checks if check.status != "passed"} == UNDECLARED


class NeedsMoreInTraining(Faulty):
    """Has a head that only training uses, and that needs more than evaluation, as Inception has."""

    def __init__(self):
        super().__init__()
        self.auxiliary = nn.Conv1d(1, 2, 90)

    def forward(self, x):
        y = self.linear(x.unfold(1, 6, 6).mean(1))
        return (y, self.auxiliary(x[:, None])) if self.training else y


@pytest.mark.parametrize(("default", "status"), [(100, "passed"), (80, "failed")])
def test_sizes_that_the_checks_cut_are_no_fault_of_training(default, status):
    from dataclasses import replace

    from nnkit import Dim

    architecture = architecture_of_code(f"{__name__}:NeedsMoreInTraining", ["x: float32[batch, time]"])
    dims = {**architecture.dims, "time": Dim(default=default, min=12)}
    report = nnkit.smoke_run(Reference(replace(architecture, dims=dims), "").resolve(), checks=["gradients"])
    assert report.checks[0].status == status


def test_a_check_that_the_architecture_declares_inapplicable_is_skipped_with_its_reason():
    from dataclasses import replace

    spec = nnkit.resolve("simple-cnn")
    declared = replace(spec.architecture, unsupported={"batch-independence": "it mixes them on purpose"})
    report = nnkit.smoke_run(replace(spec, architecture=declared))
    found = {check.name: check for check in report.checks}
    assert (found["batch-independence"].status, found["batch-independence"].message) == (
        "skipped",
        "it mixes them on purpose",
    )
    assert report.passed


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("simple-cnn", {}),
        ("resnet18", {"height": 40, "width": 48}),
        ("resnet50", {"height": 40, "width": 48}),
        ("gcn", {}),
        ("gcn", {"adjacency": "dense"}),
        ("gcn", {"edges": 0}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_zoo_passes(name, options, dtype):
    report = nnkit.smoke_run(name, **options, dtype=dtype)
    assert [check for check in report.checks if check.status == "failed"] == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["simple-cnn", "resnet18", "gcn"])
def test_the_zoo_passes_on_cuda(name):
    report = nnkit.smoke_run(name, device="cuda")
    assert report.device == "cuda"
    assert [check for check in report.checks if check.status == "failed"] == []


def test_a_module_is_checked_on_a_copy():
    module = nn.Linear(4, 2)
    before = module.weight.detach().clone()
    report = nnkit.smoke_run(module, [torch.randn(3, 4)])
    assert report.passed
    assert torch.equal(module.weight, before)
    assert module.weight.grad is None


def test_a_check_that_is_not_there_gets_the_nearest():
    with pytest.raises(UsageProblem) as raised:
        nnkit.smoke_run("simple-cnn", checks=["gradient"])
    assert raised.value.hint == "did you mean gradients?"


def test_a_plugin_adds_a_check(plugins_from):
    from plugin_source import plugin

    source = plugin().replace('("batch",)', '("batch", 1)') + (
        "from nnkit import Check\n"
        "@hookimpl\n"
        "def nnkit_checks():\n"
        "    return [Check(name='small', summary='', run='plugin_under_test_net:small')]\n"
        "def small(subject):\n"
        "    return f'{sum(p.numel() for p in subject.fresh().parameters())} parameters'\n"
        "def linear(config):\n"
        "    import torch; return torch.nn.Linear(1, 1)\n"
    )
    manager = plugins_from(net=source.replace("math:sqrt", "plugin_under_test_net:linear"))
    report = nnkit.smoke_run("net", checks=["small"], manager=manager)
    assert report.checks[0].message == "2 parameters"


def test_json_has_what_scripts_rely_on():
    data = json.loads(json.dumps(run(MixesTheBatch, checks=["batch-independence"]).to_dict()))
    assert data["schema"] == "nnkit.smoke-run/1"
    assert data["passed"] is False
    assert data["device"] == "cpu"
    assert set(data["checks"][0]) == {"name", "status", "message", "repeat"}
    assert data["checks"][0]["repeat"].endswith("--check batch-independence")


def test_each_check_is_reported_as_it_ends_with_those_that_are_left():
    seen = []
    report = nnkit.smoke_run("simple-cnn", checks=["finite", "tied", "shapes"], finished=seen.append)
    assert [[check.name for check in each.checks] for each in seen] == [
        ["finite"],
        ["finite", "tied"],
        ["finite", "tied", "shapes"],
    ]
    assert [each.not_run for each in seen] == [("tied", "shapes"), ("shapes",), ()]
    assert [each.passed for each in seen] == [False, False, True]
    assert seen[-1] == report


def test_a_module_from_python_is_checked_again_from_python():
    module, inputs = nn.Linear(3, 2), [torch.randn(4, 3)]
    (check,) = nnkit.smoke_run(module, inputs, checks=["finite"]).checks
    (again,) = eval(check.repeat, {"nnkit": nnkit, "module": module, "inputs": inputs}).checks
    assert (again.name, again.status) == ("finite", "passed")


def test_results_for_a_ci_system(nnkit_command, tmp_path):
    from xml.etree import ElementTree

    reference = [f"{__name__}:MixesTheBatch", "--input", "x: float32[batch, 6]"]
    done = nnkit_command("smoke-run", *reference, "--junit", "out.xml", "--full")
    assert done.code == 4
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert (suite.tag, suite.get("failures")) == ("testsuite", "1")
    (failure,) = suite.iter("failure")
    assert "when run alone" in failure.get("message")
    assert int(suite.get("tests")) == len(list(suite.iter("testcase"))) == 31
    assert nnkit_command("smoke-run", *reference, "--junit", "no/out.xml").code == 2


class WrongSwitch(Faulty):
    """Its own checkpointing leaves the bias out."""

    def __init__(self):
        super().__init__()
        self.saving = False

    def set_grad_checkpointing(self, enable=True):
        self.saving = enable

    def forward(self, x):
        return F.linear(x, self.linear.weight) if self.saving else self.linear(x)


class NoSwitch(Faulty):
    def set_grad_checkpointing(self, enable=True):
        assert not enable, "gradient checkpointing not supported"


def test_a_switch_of_its_own_for_checkpointing_is_tried():
    (check,) = run(WrongSwitch, checks=["gradient-checkpointing"]).checks
    assert (check.status, check.message.partition(" by ")[0]) == ("failed", "output differs")
    (check,) = run(NoSwitch, checks=["gradient-checkpointing"]).checks
    assert (check.status, check.message) == ("passed", "2 gradients, recomputed as a whole")


class Remembers(Faulty):
    """Keeps what it computed in the first run, and uses it in the next ones."""

    def __init__(self):
        super().__init__()
        self.register_buffer("positions", torch.zeros(0))

    def forward(self, x):
        if not len(self.positions):
            self.positions = torch.linspace(0, 1, 3)
        return self.linear(x) + self.positions


def test_what_the_first_run_sets_for_good_is_a_warning():
    (check,) = run(Remembers, checks=["eval-state"]).checks
    assert (check.status, check.message) == (
        "warned",
        "positions is set by the first run in eval mode, and then stays the same",
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
def test_what_torch_compile_makes_of_a_model_is_checked(nnkit_command):
    reference = [
        f"{__name__}:MixesTheBatch",
        "--input",
        "x: float32[batch, 6]",
        "--compile",
        "--check",
        "shapes",
    ]
    done = nnkit_command("smoke-run", *reference, "--check", "batch-independence", "--json")
    assert done.code == 4, done.err
    report = json.loads(done.out)
    assert report["compiled"]
    assert [check["status"] for check in report["checks"]] == ["passed", "failed"]
    assert "--compile --check batch-independence" in done.err
    assert nnkit.smoke_run("simple-cnn", compiled=True, checks=["updates", "round-trip"]).passed


class Expanded(nn.Module):
    """Its four rows of weights lie in the memory of one, so that no operation may write to them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 4).expand(4, 4))

    def forward(self, x):
        return x @ self.weight


def test_of_an_expanded_parameter_only_what_the_user_can_t_do_fails():
    """torch refuses to load into it; a copy of it is an ordinary tensor, which every other check can run."""
    report = nnkit.smoke_run(Expanded(), inputs=(torch.randn(4, 4),))
    assert [check.name for check in report.checks if check.status == "failed"] == ["round-trip"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_a_compiler_no_model_is_blamed(nnkit_command, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-compiler"))
    done = nnkit_command("smoke-run", "simple-cnn", "--compile", "--check", "shapes")
    assert done.code == 1
    assert done.err.startswith("Error: torch.compile doesn't work here: InvalidCxxCompiler")
    assert "leave out --compile" in done.err


class Unpacked(nn.Module):
    """Alone, a short sequence gives a short output; in a batch it is padded with zeros."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 4, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


def test_zeros_behind_a_short_sequence_of_a_batch_are_no_difference():
    inputs = (torch.randn(3, 5, 6), torch.tensor([5, 3, 2]))
    report = nnkit.smoke_run(Unpacked(), inputs, checks=["batch-independence"])
    assert [check.status for check in report.checks] == ["passed"]
