"""weightless.py: modules without weights, and constructors that want some."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nnkit
from nnkit.contract.spec import ModelSpec, make_spec
from nnkit.models.building import build_without_weights
from nnkit.models.user_modules import architecture_of_code
from nnkit.verbs.core_handlers import plugin_manager

ELSEWHERE = nn.Linear(8, 8)
SMALL = 2**30


def spec_of(name: str, *inputs: str) -> ModelSpec:
    return make_spec(architecture_of_code(f"{__name__}:{name}", inputs or ["x: float32[batch, 8]"]))


class LooksAtAWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)
        self.scale = 1 / self.layer.weight.abs().max().item()

    def forward(self, x):
        return self.layer(x) * self.scale


def orthogonal():
    return nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(8, 8)))


@pytest.mark.parametrize(("name", "parameters"), [("LooksAtAWeight", 36), ("orthogonal", 72)])
def test_a_constructor_that_looks_at_its_weights_has_them(name, parameters):
    totals = nnkit.summarize(spec_of(name)).totals
    assert totals.parameters == parameters
    assert totals.macs >= 32


class Special(nn.Parameter):
    """A parameter of a class of its own."""


class Keeps(nn.Module):
    """Holds its parameters in more places than where torch does, and marks them."""

    def __init__(self):
        super().__init__()
        weight = nn.Parameter(torch.randn(8, 8))
        self.weight, self.special = weight, Special(torch.randn(8))
        weight.no_decay = True
        self.exempt = [each for each in self.parameters() if getattr(each, "no_decay", False)]
        self.table = {"weight": weight, "special": self.special}

    def forward(self, x):
        return x @ self.table["weight"] + self.table["special"]


@pytest.mark.parametrize("limit", [0, SMALL])
def test_a_parameter_stays_the_object_that_it_was(limit):
    module = build_without_weights(spec_of("Keeps"), plugin_manager(), limit)
    if limit:
        assert module.weight is module.table["weight"] is module.exempt[0]
        assert type(module.special) is Special
    assert module.weight.no_decay
    assert module.weight.is_meta == module.special.is_meta == (limit == 0)


def test_weights_that_are_read_through_a_dict_are_used():
    totals = nnkit.summarize(spec_of("Keeps")).totals
    assert (totals.unused, totals.macs) == ((), 64)


class Shares(nn.Module):
    """Registers a parameter that was there before, with its values."""

    def __init__(self):
        super().__init__()
        self.weight = ELSEWHERE.weight

    def forward(self, x):
        return x @ self.weight


def test_a_parameter_from_elsewhere_keeps_its_values():
    before = ELSEWHERE.weight.clone()
    assert nnkit.summarize(spec_of("Shares")).totals.macs == 64
    assert torch.equal(ELSEWHERE.weight, before)


class LooksAtInputs(nn.Module):
    """Checks ids and picks by a mask, and multiplies far too much to be computed in a test."""

    def __init__(self):
        super().__init__()
        self.table, self.wide = nn.Embedding(10, 64), nn.Linear(64, 2**23, bias=False)

    def forward(self, ids):
        if ids.max() > 9:
            raise ValueError("no such id")
        hot = F.one_hot(ids, num_classes=10).float()
        return self.wide(self.table(ids)[ids >= 0]).shape[-1] * hot


@pytest.mark.timeout(60)
def test_values_that_come_from_inputs_alone_need_no_weights():
    report = nnkit.summarize(spec_of("LooksAtInputs", "ids: int64[batch=4] < 10"))
    assert report.totals.macs == 4 * 64 * 2**23
    assert report.totals.parameters == 640 + 64 * 2**23


class LooksAtAProduct(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        y = self.layer(x)
        return self.layer(y) if y.sum() < float("inf") else y


def test_values_that_come_from_a_weight_are_computed():
    report = nnkit.summarize(spec_of("LooksAtAProduct"))
    assert (report.totals.macs, report.reason) == (128, "it can't run without data: forward looks at values")


class Large(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.empty(2**16, 2**14)), nn.Parameter(torch.empty(8))

    def forward(self, x):
        return x * self.gain * self.weight[:8].sum()


def test_zeros_are_there_in_all_weights_and_take_no_memory():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    module = build_without_weights(spec_of("Large"), plugin_manager(), 2**40, zeros=True)
    assert module.weight.nbytes == 2**32
    assert not module.weight[::64].any()
    assert not module.gain.any()
    assert isinstance(module.weight, nn.Parameter)
    assert resident() - before < 2**28
