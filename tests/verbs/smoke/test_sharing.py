"""What the checks share: weights, first runs, and some elements for all. It hides no fault, and bounds the memory."""

import math

import pytest
import torch
from conftest import python
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import nnkit
from nnkit.models.copies import sharing_copy_of
from nnkit.models.gradients import looked_at
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.smoke import numerics, training
from nnkit.verbs.smoke.elements import checksum, laid_like, some_of
from nnkit.verbs.smoke.original import MOST_NOISED, Original, add_noise
from nnkit.verbs.smoke.subject import Subject


def outcome_of(module, *inputs, **options):
    report = nnkit.smoke_run(module.eval(), list(inputs), **options)
    return {check.name: (check.status, check.message) for check in report.checks}


class Hidden(nn.Module):
    """Writes to its weight in a way that torch doesn't count."""

    def __init__(self, training):
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.writes = training

    def forward(self, x):
        if self.training == self.writes:
            self.linear.weight.data.mul_(0.9)
        return self.linear(x)


def test_a_write_that_torch_does_not_count_is_found_and_spoils_no_other_check():
    found = outcome_of(Hidden(training=False), torch.randn(4, 6))
    assert found["eval-state"] == ("failed", "linear.weight changed during a run in eval mode")
    assert found["determinism"][0] == "failed"
    assert found["gradients"][0] == "passed"


def test_one_in_training_mode_leaves_eval_mode_as_it_is():
    found = outcome_of(Hidden(training=True), torch.randn(4, 6))
    assert {name for name, (status, _) in found.items() if status == "failed"} == set()


class Sometimes(nn.Module):
    """Does the same, but only for one sample."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        if len(x) == 1:
            self.linear.weight.data.mul_(0.5)
        return self.linear(x)


class Replaced(nn.Module):
    """Trains a weight that no optimizer has."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        self.linear.weight = nn.Parameter(self.linear.weight.data * 1.0)
        return self.linear(x)


def test_a_weight_that_forward_replaces_does_not_move():
    found = outcome_of(Replaced(), torch.randn(4, 6), checks=["updates"])
    assert found["updates"] == ("warned", "3 steps of Adam left linear.weight unchanged")


def test_each_check_by_itself_says_what_it_says_among_the_others():
    torch.manual_seed(0)
    x = torch.randn(4, 6)
    for writer in (Hidden(False), Hidden(True), Sometimes(), Replaced(), nn.BatchNorm1d(6)):
        together = outcome_of(writer, x)
        alone = {name: outcome_of(writer, x, checks=[name])[name][0] for name in together}
        assert alone == {name: status for name, (status, _) in together.items()}


def test_copies_share_memory_and_the_count_of_writes_but_no_gradient():
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    copy = sharing_copy_of(module)
    assert copy[0].weight.data_ptr() == module[0].weight.data_ptr()
    assert copy[1].running_mean.data_ptr() != module[1].running_mean.data_ptr()
    copy(torch.randn(4, 3)).sum().backward()
    assert module[0].weight.grad is None
    assert module[1].num_batches_tracked == 0
    count = module[0].weight._version
    with torch.no_grad():
        copy[0].weight.zero_()
    assert module[0].weight._version == count + 1
    copy.half()
    assert module[0].weight.dtype == torch.float32


def test_tied_parameters_are_tied_in_the_copy():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    copy = sharing_copy_of(module)
    assert copy[1].weight is copy[0].weight


def test_noise_is_taken_off_to_the_last_bit():
    module = nn.Sequential(nn.Linear(700, 900), nn.Linear(900, 3), nn.Linear(900, 3))
    module[2].weight.data = module[1].weight.data  # in one memory
    before = [parameter.detach().clone() for parameter in module.parameters()]
    original = Original(lambda: module)
    with pytest.raises(ValueError, match="stop"), original.noise():
        changed = [not torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True)]
        assert all(changed)
        assert original.is_intact()
        raise ValueError("stop")
    assert all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))
    assert original.is_intact(original.checksums())


def test_noise_that_cannot_be_put_on_everything_is_on_nothing():
    module = nn.Sequential(nn.Linear(3, 3), nn.Module())
    module[1].eighth = nn.Parameter(torch.ones(3).to(torch.float8_e4m3fn), requires_grad=False)
    before = module[0].weight.detach().clone()
    with pytest.raises(RuntimeError):
        add_noise(module)
    assert torch.equal(module[0].weight, before)


class Quantized(nn.Module):
    """Its first weight is one of integers and a scale."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randint(-99, 99, (6, 6), dtype=torch.int8), requires_grad=False)
        self.scale, self.head = nn.Parameter(torch.full((6,), 0.01)), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(F.linear(x, self.weight.to(x.dtype)) * self.scale)


def test_weights_of_integers_get_no_noise_and_fail_no_check():
    found = outcome_of(Quantized(), torch.randn(4, 6))
    assert {name for name, (status, _) in found.items() if status == "failed"} == set()


@pytest.mark.parametrize("shape", [(1500, 1024), (1024, 1500), (300_000, 16), (64, 128, 3, 3, 9)])
def test_noise_reaches_every_index_of_every_axis_of_a_large_parameter(shape):
    holder = nn.Module()
    holder.weight = nn.Parameter(torch.zeros(shape))
    add_noise(holder)
    moved = holder.weight.detach() != 0
    assert 0 < moved.sum() < 3 * max(MOST_NOISED, *shape)
    for axis in range(len(shape)):
        others = [other for other in range(len(shape)) if other != axis]
        assert moved.any(dim=tuple(others)).all()


def test_the_few_elements_are_the_same_ones_in_a_tensor_laid_out_differently():
    weight = torch.randn(64, 32, 5, 5).to(memory_format=torch.channels_last)
    gradient = weight.contiguous()
    assert weight.stride() != gradient.stride()
    assert torch.equal(some_of(laid_like(gradient, weight), 1000), some_of(weight, 1000))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int8, torch.complex64])
def test_a_checksum_sees_one_element_and_two_that_change_places(dtype):
    tensor = (torch.randn(700, 401) * 50).to(dtype)[1:]
    whole = checksum(tensor)
    for index in (0, 5, tensor.numel() // 2, tensor.numel() - 1):
        before = tensor.view(-1)[index].clone()
        tensor.view(-1)[index] = before + before.abs().sign() + (before == 0)
        assert not torch.equal(checksum(tensor), whole)
        tensor.view(-1)[index] = before
        assert torch.equal(checksum(tensor), whole)
    tensor[[3, 500]] = tensor[[500, 3]]
    assert not torch.equal(checksum(tensor), whole)


class Scaled(torch.autograd.Function):
    """A product whose gradient for the weight is a tenth too large."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight, 1.1 * gradient.T @ x


class Wrong(nn.Module):
    """A large matrix with a wrong gradient, and small ones whose gradients are right."""

    def __init__(self, right=False):
        super().__init__()
        self.right = right
        self.weight = nn.Parameter(torch.randn(300, 200) / 14)
        self.head = nn.Linear(300, 3)

    def forward(self, x):
        return self.head((F.linear(x, self.weight) if self.right else Scaled.apply(x, self.weight)).tanh())


@pytest.mark.parametrize("large", [numerics.LARGE, 1000])
def test_a_wrong_gradient_of_a_large_matrix_is_found_from_some_of_its_elements(large, monkeypatch):
    monkeypatch.setattr(numerics, "MOST_VARIED", 500)
    monkeypatch.setattr(numerics, "LARGE", large)  # below it, the gradient is computed in float32 at first
    torch.manual_seed(0)
    assert outcome_of(Wrong(), torch.randn(4, 200), checks=["derivative"])["derivative"][0] == "failed"
    right = outcome_of(Wrong(right=True), torch.randn(4, 200), checks=["derivative"])
    assert right["derivative"][0] == "passed"


def test_gradients_are_dropped_as_they_come():
    module = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
    there = []

    def look(name, parameter):
        there.append(sum(other.grad is not None for other in module.parameters()))

    with looked_at(module, look):
        module(torch.randn(2, 4)).sum().backward()
    assert there == [1] * 10
    assert all(parameter.grad is None for parameter in module.parameters())


class InParts(nn.Module):
    """Its gradient comes in two parts, the last of which is zero; or the first is NaN."""

    def __init__(self, factor):
        super().__init__()
        self.first, self.shared, self.factor = nn.Linear(6, 6), nn.Linear(6, 6), factor

    def forward(self, x):
        hidden = self.first(x)
        once = checkpoint(self.shared, hidden, use_reentrant=True)
        twice = checkpoint(self.shared, hidden + 0 * once, use_reentrant=True)
        return Times.apply(twice, self.factor) + once.detach()


class Times(torch.autograd.Function):
    """The same number, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None


def test_a_gradient_that_comes_in_parts_is_all_of_them():
    checks = ["finite", "gradients", "updates"]
    sound = outcome_of(InParts(1.0), torch.randn(4, 6), checks=checks)
    assert {status for status, _ in sound.values()} == {"passed"}
    training = outcome_of(InParts(math.nan), torch.randn(4, 6), checks=checks)
    assert training["finite"][0] == "failed"


def test_the_sizes_at_which_a_fault_was_found_are_those_at_which_it_may_be_chance():
    subject = Subject(nnkit.resolve("simple-cnn"), plugin_manager(), torch.device("cpu"))
    larger = subject.at({**subject.sizes, "batch": 5})
    assert larger.reseeded().sizes == larger.sizes != subject.sizes
    assert larger.reseeded().spec.seed != subject.spec.seed


class Rows(nn.Module):
    """Only a few rows of a large table have a gradient, behind a gate that starts at zero."""

    def __init__(self):
        super().__init__()
        self.table, self.gate = nn.Embedding(5000, 8), nn.Parameter(torch.zeros(8))

    def forward(self, x):
        return self.table(x) * self.gate


def test_a_table_moves_though_the_elements_that_stand_for_it_have_no_gradient(monkeypatch):
    monkeypatch.setattr(training, "MOST_MOVED", 3)
    found = outcome_of(Rows(), torch.tensor([[1, 2], [3, 4]]), checks=["updates"])
    assert found["updates"] == ("passed", "all 2 parameters moved in 2 steps of Adam")


def test_sparse_gradients_are_gradients():
    module = nn.Sequential(nn.Embedding(50, 8, sparse=True), nn.Linear(8, 3))
    found = outcome_of(module, torch.randint(50, (4, 5)))
    assert {name for name, (status, _) in found.items() if status == "failed"} == set()


PEAK = """
import re, pathlib, torch, nnkit
from torch import nn
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
nnkit.smoke_run(nn.Linear(4, 4).eval(), [torch.randn(4, 4)])
base = peak()
class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[layer for _ in range(3) for layer in (nn.Linear(4096, 4096), nn.ReLU())])
    def forward(self, x):
        return self.layers(x)
from nnkit.models.references import Reference
from nnkit.models.user_modules import architecture_of_code
import sys; sys.modules["wide"] = sys.modules["__main__"]
spec = Reference(architecture_of_code("wide:Wide", ["x: float32[batch, 4096]"]), "").resolve()
report = nnkit.smoke_run(spec)
assert report.passed, report
print((peak() - base) / (3 * 4096 * 4097 * 4))
"""


def test_all_checks_of_a_large_model_take_three_times_the_memory_of_its_weights():
    done = python("-c", PEAK)
    assert done.returncode == 0, done.stderr
    assert 1.9 < float(done.stdout) < 3.3
