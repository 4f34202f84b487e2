"""Which weights a proof compares at which sizes, and how often it runs the module for that."""

import pytest
import torch
from torch import nn

import nnkit
from nnkit.contract.requests import ExportOptions
from nnkit.errors import VerificationFailed
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.exporting.plan import make_plan
from nnkit.verbs.exporting.proof import Prover


class Behind(nn.Module):
    """A hundred parameters, behind a gate or in front of one that hides ten more."""

    def __init__(self, hides_most: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.large, self.small = nn.Linear(10, 10), nn.Linear(10, 1, bias=False)
        self.gate = nn.Parameter(torch.zeros(1))
        self.hides_most = hides_most

    def forward(self, x):
        shown, hidden = (self.small, self.large) if self.hides_most else (self.large, self.small)
        return shown(x) + self.gate * hidden(x).sum(1, keepdim=True)


class HidesMost(Behind):
    def __init__(self):
        super().__init__(hides_most=True)


class HidesLittle(Behind):
    def __init__(self):
        super().__init__(hides_most=False)


class Module:
    """What runs a module in place of its file, and counts its runs."""

    name, replaceable = "the module", None

    def __init__(self, module):
        self.module = module

    def count_equal(self, module):
        return None

    def runner(self):
        return self.with_weights(self.module)

    def with_weights(self, module):
        def run(inputs):
            with torch.inference_mode():
                return [module(*inputs).clone()]

        run.name = self.name
        return Runner(run)

    def shape_problem(self, run, results):
        return None


class Runner:
    name = "torch"

    def __init__(self, run):
        self.run = run

    def __call__(self, inputs):
        return self.run(inputs)


def prove(kind, **options):
    spec = look_up(f"{__name__}:{kind.__name__}", plugin_manager(), ["x: float32[batch, 10]"]).resolve()
    module = nnkit.build(spec)
    plan = make_plan(spec, module, ExportOptions(**options))
    return plan, lambda: Prover(module, plan).prove(Module(module))


@pytest.mark.parametrize(
    ("kind", "main", "other"), [(HidesMost, "perturbed", "own"), (HidesLittle, "own", "perturbed")]
)
def test_weights_that_show_most_are_compared_at_every_size_and_the_others_at_two(kind, main, other):
    plan, run = prove(kind)
    proof = run()
    assert proof.coverage.share == 1
    sizes = {
        weights: {check.sizes["batch"] for check in proof.checks if check.weights == weights}
        for weights in ("own", "perturbed")
    }
    every = {run.sizes["batch"] for run in plan.runs}
    assert len(every) >= 5
    assert sizes[main] == every
    assert len(sizes[other]) == 2
    assert sizes[other] < every


class Counted(nn.Linear):
    calls = 0

    def __init__(self):
        super().__init__(10, 3)

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


def test_a_module_of_one_input_runs_four_times_at_the_traced_size():
    """Twice in one copy, once more for the gradients, and once on other values; and the file twice."""
    _, run = prove(Counted, static=True)
    Counted.calls = 0
    run()
    assert Counted.calls == 4 + 2


class KeepsNoise(nn.Linear):
    """Draws noise in the first call of each copy, and keeps it where no attribute shows it."""

    def __init__(self):
        super().__init__(10, 3)
        self.kept = []

    def forward(self, x):
        if not self.kept:
            self.kept.append(torch.randn(3))
        return super().forward(x) + self.kept[0]


def test_noise_that_a_copy_draws_once_and_keeps_out_of_sight_is_random():
    _, run = prove(KeepsNoise)
    with pytest.raises(VerificationFailed, match="is random: output"):
        run()
