"""What a training step multiplies: watched in the backward that runs, against torch's own counter and by hand."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import nnkit
from nnkit.render import summary as render


class WithoutGradient(nn.Module):
    """A teacher under no_grad beside a student."""

    def __init__(self):
        super().__init__()
        self.student, self.teacher = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        with torch.no_grad():
            target = self.teacher(x)
        return self.student(x) - target


class Detached(nn.Module):
    """Two layers of which the first has no gradient."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.body(x).detach())


class ByValue(nn.Module):
    """A layer for the rows above zero, another for those below: shapes depend on values."""

    def __init__(self):
        super().__init__()
        self.above, self.below = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        y, chosen = torch.zeros_like(x), x[:, 0] > 0
        y[chosen], y[~chosen] = self.above(x[chosen]), self.below(x[~chosen])
        return y


class Gathered(nn.Module):
    """Rows are looked up after a layer: the gradient of that adds up, and is no product."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 8)

    def forward(self, x):
        return self.layer(x)[torch.tensor([0, 0, 1])]


def frozen_body():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    model[0].requires_grad_(False)
    return model


CASES = {
    "no_grad": WithoutGradient,
    "detach": Detached,
    "values": ByValue,
    "lookup": Gathered,
    "frozen": frozen_body,
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 8)), nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 1, 2)
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_costs_what_torchs_counter_sees_in_one(case):
    model, x = CASES[case](), torch.randn(6, 16)
    report = nnkit.summarize(model, [x], optimizer="sgd")
    with FlopCounterMode(display=False) as counter:
        model.train()(x).sum().backward()
    assert report.totals.training_flops == report.rows[0].training.flops == counter.get_total_flops()
    assert report.totals.training_flops >= report.totals.flops
    assert sum(row.training.flops for row in report.rows if row.leaf) == report.totals.training_flops


class Recomputed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.stem, self.block, self.reentrant = (
            nn.Linear(8, 8),
            nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)),
            reentrant,
        )

    def forward(self, x):
        return checkpoint(self.block, self.stem(x), use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_a_checkpoint_computes_again_counts_once_and_in_the_row_of_its_layer(reentrant):
    product = 2 * 8 * 8  # multiply-adds of a layer
    report = nnkit.summarize(Recomputed(reentrant), [torch.randn(2, 8)], optimizer="sgd")
    flops = {row.path: row.training.flops for row in report.rows}
    assert (report.totals.macs, report.totals.training_flops) == (3 * product, 2 * (3 + 5) * product)
    assert (flops["stem"], flops["block.0"], flops["block.1"]) == (4 * product, 6 * product, 6 * product)


def test_a_product_with_a_vector_has_an_outer_product_in_its_gradient():
    class Score(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 8))

        def forward(self, x):
            return self.weight @ x

    totals = nnkit.summarize(Score(), [torch.randn(8)], optimizer="sgd").totals
    assert (totals.macs, totals.training_flops) == (32, 2 * (32 + 32))


def test_attention_is_no_more_in_training_than_three_times_its_forward():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(8, 24)

        def forward(self, x):
            q, k, v = self.project(x).chunk(3, -1)
            return nn.functional.scaled_dot_product_attention(q, k, v)

    totals = nnkit.summarize(Attention(), [torch.randn(2, 3, 5, 8)], optimizer="sgd").totals
    projected, attended = 30 * 8 * 24, 2 * 6 * 5 * 5 * 8
    assert totals.macs == projected + attended
    assert totals.training_flops == 2 * (2 * projected + 3 * attended)


class SparseGradients(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Embedding(50, 8, sparse=True), nn.Linear(8, 4)

    def forward(self, ids):
        return self.layer(self.table(ids).mean(1))


def test_a_step_that_an_optimizer_can_not_make_is_a_warning_beside_the_same_table():
    ids = torch.zeros(2, 3, dtype=torch.int64)
    plain = nnkit.summarize(SparseGradients(), [ids])
    report = nnkit.summarize(SparseGradients(), [ids], optimizer="adam")
    assert (report.rows, report.totals, report.memory) == (plain.rows, plain.totals, None)
    (warning,) = report.warnings
    assert "does not support sparse gradients" in warning
    # 64 multiply-adds forward, for the gradient of the weight, and for that of the table's rows.
    assert "sgd works, and takes 384 FLOPs" in warning
    assert "warning" in render.as_text(report).splitlines()[1]


class OtherInEval(nn.Module):
    """Refines its result four times, but only in eval mode."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        x = self.layer(x)
        for _ in range(0 if self.training else 4):
            x = self.layer(x)
        return x


def test_a_step_that_costs_less_than_a_forward_is_a_warning():
    report = nnkit.summarize(OtherInEval(), [torch.randn(2, 8)], optimizer="sgd")
    assert (report.totals.macs, report.totals.training_flops) == (5 * 128, 2 * 2 * 128)
    assert any("less than a forward in eval mode" in warning for warning in report.warnings)
