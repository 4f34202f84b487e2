"""Training steps of several networks in one, and inputs that are optional."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import nnkit
from nnkit import Dim, TensorSpec, TrainingStep
from nnkit.models.references import Reference
from nnkit.models.user_modules import NoOptions


def check(name, kind, inputs, outputs=(), full=False, **declared):
    """Run one check of an architecture that declares this."""
    architecture = nnkit.Architecture(
        name="net",
        summary="under test",
        build=lambda config: kind(),
        config=NoOptions,
        inputs=inputs,
        outputs=outputs,
        dims={"batch": Dim(default=4), "time": Dim(default=6), "past": Dim(default=5, min=0)},
        **declared,
    )
    (result,) = nnkit.smoke_run(Reference(architecture, "net").resolve(), checks=[name], full=full).checks
    return result.status, result.message


class Players(nn.Module):
    """A generator and a discriminator; for the discriminator's score of it, the picture is detached."""

    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, z, x):
        fake = self.generator(z)
        return self.discriminator(fake), self.discriminator(self.cut(fake)), self.discriminator(x)

    def cut(self, fake):
        return fake.detach()


class GeneratorIsCut(Players):
    def forward(self, z, x):
        _, _, real = super().forward(z, x)
        cut = self.discriminator(self.generator(z).detach())
        return cut, cut, real


class WritesToItsRival(Players):
    """Clips the weights of the discriminator, whichever player is trained."""

    def forward(self, z, x):
        with torch.no_grad():
            self.discriminator.weight.mul_(0.9)
        return super().forward(z, x)


PLAYERS = {
    "inputs": [TensorSpec("z", ("batch", 2)), TensorSpec("x", ("batch", 3))],
    "outputs": [TensorSpec(name, ("batch", 1)) for name in ("fooled", "fake", "real")],
    "steps": {
        "generator": TrainingStep(outputs=("fooled",), trains=("generator",)),
        "discriminator": TrainingStep(outputs=("fake", "real"), trains=("discriminator",)),
    },
}


def test_gradients_updates_and_overfitting_go_step_by_step():
    assert check("gradients", Players, **PLAYERS) == (
        "passed",
        "step generator: all 2 parameters; step discriminator: all 2 parameters",
    )
    assert check("updates", Players, **PLAYERS)[1].count("all 2 parameters moved in 1 step of Adam") == 2
    status, message = check("overfit", Players, **PLAYERS, full=True)
    assert (status, message.count("loss from")) == ("passed", 2)


def test_a_step_whose_loss_does_not_reach_what_it_trains_is_found():
    assert check("gradients", GeneratorIsCut, **PLAYERS)[1] == (
        "step generator: no gradient reaches generator.bias, generator.weight (of 2 parameters)"
    )
    assert check("updates", WritesToItsRival, **PLAYERS)[1] == (
        "step generator: discriminator.weight moves, which it doesn't train"
    )
    one = {**PLAYERS, "steps": {"generator": PLAYERS["steps"]["generator"]}}
    status, message = check("gradients", Players, **one)
    assert (status, message) == ("failed", "no step trains discriminator.weight, discriminator.bias")
    misnamed = {**PLAYERS, "steps": {"generator": TrainingStep(outputs=("won",), trains=("generator",))}}
    assert check("gradients", Players, **misnamed)[1] == "step generator: forward returns no output won"


class Continues(nn.Module):
    """Attends to what is cached, if anything, and to what a mask keeps, if there is one."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, cache=None, mask=None):
        seen = x if cache is None else torch.cat([cache["states"], x], 1)
        scores = self.linear(x) @ seen.transpose(1, 2)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], self.hidden)
        return {"y": scores.softmax(-1) @ seen, "states": seen}

    hidden = -1e4


class HidesWithInfinity(Continues):
    """Not finite, but only with the mask, which is not given by default."""

    hidden = float("-inf")

    def forward(self, x, cache=None, mask=None):
        return super().forward(x, cache, None if mask is None else mask & False)


class MixesWithoutCache(Continues):
    def forward(self, x, cache=None, mask=None):
        return super().forward(x if cache is not None else x - x.mean(0), cache, mask)


class NeedsTheCache(Continues):
    def forward(self, x, cache=None, mask=None):
        return super().forward(x, {"states": cache["states"]}, mask)


OPTIONAL = {
    "inputs": [
        TensorSpec("x", ("batch", "time", 8)),
        TensorSpec("cache.states", ("batch", "past", 8), optional=True),
        TensorSpec("mask", ("batch", "past + time"), "bool", sample="keep", optional=True, given=False),
    ],
    "outputs": [
        TensorSpec("y", ("batch", "time", 8)),
        TensorSpec("states", ("batch", "past + time", 8)),
    ],
}


def test_a_model_is_checked_with_and_without_its_optional_inputs():
    assert check("optional-inputs", Continues, **OPTIONAL) == (
        "passed",
        "2 choices: with cache and mask, without optional inputs",
    )


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (HidesWithInfinity, "with cache and mask: output y has "),
        (MixesWithoutCache, "without optional inputs: sample 0 of output y differs by"),
        (NeedsTheCache, "without optional inputs: TypeError: 'NoneType' object is not subscriptable"),
    ],
)
def test_a_choice_of_inputs_with_a_fault_is_named(kind, fault):
    status, message = check("optional-inputs", kind, **OPTIONAL)
    assert status == "failed"
    assert message.startswith(fault)


@dataclass
class Seen:
    y: torch.Tensor
    states: torch.Tensor


class ReturnsADataclass(Continues):
    def forward(self, x, cache=None, mask=None):
        return Seen(**super().forward(x, cache, mask))


@pytest.mark.parametrize("name", ["export", "gradient-checkpointing", "train-determinism", "autocast"])
def test_slow_checks_take_trees(name):
    assert check(name, ReturnsADataclass, **OPTIONAL, full=True)[0] == "passed"


class LossOfLabels(nn.Module):
    """Returns a loss as well if it is given labels, as transformers do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 5)

    def forward(self, x, labels=None):
        scores = self.linear(x)
        loss = None if labels is None else nn.functional.cross_entropy(scores, labels)
        return {"loss": loss, "scores": scores}


def test_an_output_may_follow_an_optional_input():
    inputs = [
        TensorSpec("x", ("batch", 8)),
        TensorSpec("labels", ("batch",), "int64", "index", 5, optional=True),
    ]
    outputs = [TensorSpec("loss", (), optional=True), TensorSpec("scores", ("batch", 5))]
    assert check("optional-inputs", LossOfLabels, inputs, outputs)[0] == "passed"
    required = [replace(outputs[0], optional=False), outputs[1]]
    status, message = check("optional-inputs", LossOfLabels, inputs, required)
    assert status == "failed"
    assert "forward returns 1 tensor, but 2 are declared: loss, scores" in message
