"""How samples are taken: in turns, so many, of so many runs, and with the device waited for."""

import math
import time
from collections import Counter

import pytest
import torch
from torch import nn

from nnkit.verbs.benchmarking.measuring import Limit, measure
from nnkit.verbs.benchmarking.memory import peak_memory, peak_on_cpu
from nnkit.verbs.benchmarking.peak import best, probe
from nnkit.verbs.benchmarking.report import Probe
from nnkit.verbs.benchmarking.workloads import Workload, forward, training_step
from nnkit.verbs.training import Untrainable

CPU = torch.device("cpu")


def nothing():
    return None


def workload(run):
    return Workload(run, lambda: [])


def rounds(count):
    return Limit(math.inf, count, count)


def napping(seconds, log, name):
    def run():
        log.append(name)
        time.sleep(seconds)

    return workload(run)


def test_two_take_turns_there_and_back_and_either_may_begin():
    log, shares = [], []
    left, right = measure(
        [napping(0.001, log, "A"), napping(0.001, log, "B")], nothing, rounds(12), shares.append
    )
    turns = ["".join(log[-48:][at : at + 4]) for at in range(0, 48, 4)]
    assert set(turns) == {"ABBA", "BAAB"}
    assert left.loops == right.loops == 1
    assert "".join("A" if place in left.order else "B" for place in range(48)) == "".join(turns)
    assert sorted(left.order + right.order) == list(range(48))
    assert shares == [place / 12 for place in range(12)]


def test_samples_are_the_time_that_runs_took():
    (taken,) = measure([napping(0.02, [], "A")], nothing, rounds(3), lambda share: None)
    assert len(taken.nanoseconds) == len(taken.cpu_nanoseconds) == 6
    assert min(taken.nanoseconds) >= 0.02e9
    assert taken.times == list(taken.nanoseconds)
    assert min(taken.cpu_nanoseconds) < 0.02e9  # a nap costs no processor


def test_what_is_too_short_for_the_clock_is_run_several_times_in_a_sample():
    runs = Counter()
    (taken,) = measure([workload(lambda: runs.update("x"))], nothing, rounds(5), lambda share: None)
    assert taken.loops > 1
    assert taken.times == [each / taken.loops for each in taken.nanoseconds]


def test_the_time_limit_holds_within_the_fewest_and_the_most_rounds():
    (taken,) = measure([napping(0.01, [], "A")], nothing, Limit(0.001, 10, 5000), lambda share: None)
    assert len(taken.order) == 20
    (taken,) = measure([napping(0.001, [], "A")], nothing, Limit(0.2, 10, 5000), lambda share: None)
    assert 20 <= len(taken.order) <= 202
    (taken,) = measure([napping(0.001, [], "A")], nothing, Limit(60, 10, 30), lambda share: None)
    assert len(taken.order) == 60


def test_the_device_is_waited_for_before_a_sample_and_in_it():
    log = []
    measure([napping(0.001, log, "run")], lambda: log.append("wait"), rounds(1), lambda share: None)
    assert log[-6:] == ["wait", "run", "wait"] * 2


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_training_step_leaves_the_model_as_it_was_and_its_gradient_is_of_a_projection(optimizer):
    torch.manual_seed(0)
    module, x = nn.Linear(3, 4), torch.randn(5, 3)
    before = {name: each.clone() for name, each in module.named_parameters()}
    seen = []
    module.weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    step = training_step(module, (x,), {}, False, optimizer)
    for _ in range(3):
        step.run()
    assert all(torch.equal(before[name], each) for name, each in module.named_parameters())
    assert module.training
    assert module.weight.grad is None
    weights = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    (expected,) = torch.autograd.grad((module(x) * weights).mean(), [module.weight])
    assert len(seen) >= 3
    assert all(torch.allclose(each, expected, atol=1e-7) for each in seen[:3])
    states = {"sgd": 0, "adam": 4, "adamw": 4}[optimizer]  # two moments of two parameters, beside their steps
    assert sum(each.numel() > 1 for each in step.resident()) - 3 == states


def test_a_forward_is_in_eval_mode_and_keeps_no_graph():
    seen = []
    module = nn.Sequential(nn.Linear(3, 3))
    module.register_forward_hook(lambda module, args, out: seen.append((module.training, out.requires_grad)))
    forward(module.train(), (torch.ones(1, 3),), {}, False).run()
    assert set(seen) == {(False, False)}


class Largest(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x).argmax(-1)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.ReLU(), "no parameter is trainable"),
        (nn.BatchNorm1d(3), "batch norm needs more than one value per channel"),
        (Largest(), "no output can be differentiated"),
    ],
)
def test_what_has_no_training_step_says_why(module, reason):
    with pytest.raises(Untrainable, match=reason):
        training_step(module, (torch.ones(1, 3),), {}, False, "adam")


def test_the_peak_is_what_is_alive_at_once():
    mebi = torch.empty(2**18)

    def run():
        first = mebi + 1  # 1 MiB
        second = torch.cat([first, first, first])  # 3 MiB more
        del first
        second.sum()

    assert peak_on_cpu(run) == pytest.approx(4 * 2**20, rel=1e-3)
    assert peak_memory(Workload(run, lambda: [mebi, mebi[:5]]), CPU) == pytest.approx(5 * 2**20, rel=1e-3)


def test_the_profiler_that_counts_memory_says_nothing(capfd):
    peak_on_cpu(lambda: torch.ones(3))
    assert capfd.readouterr() == ("", "")


def test_the_machine_is_probed_in_each_dtype_and_the_best_counts():
    told = probe(CPU, ["float32", "float64"])
    assert set(told.flops_per_second) == {"float32", "float64"}
    assert 1e8 < told.flops_per_second["float64"] < 1e14
    assert 1e8 < told.bytes_per_second < 1e13
    assert best(Probe({"float32": 1.0}, 5.0), Probe({"float32": 2.0}, 4.0)) == Probe({"float32": 2.0}, 5.0)
