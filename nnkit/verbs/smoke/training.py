"""Checks of training: gradients reach what a step trains, and an optimizer moves it.

A model of several networks has several steps, each with its own outputs and parameters; any other has one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from nnkit.contract.signature import is_within
from nnkit.contract.text import plural, shorten
from nnkit.verbs.smoke.subject import Failed, Outputs, Subject, Warned, projection

STEPS = 3  # a gate that starts at zero lets gradients through from the second on
SEEDS = 3  # a unit may be dead for one input by chance, hardly for three


@dataclass(frozen=True)
class Step:
    """A step of training. Without a name it is the only one: all outputs train all parameters.

    Example:

        step = Step("generator", outputs=("fake_score",), trains=("generator",))
        assert list(step.parameters_of(nn.ModuleDict({"generator": nn.Linear(2, 1)}))) == [
            "generator.weight", "generator.bias",
        ]
    """

    name: str = ""
    outputs: Sequence[str] = ()
    trains: Sequence[str] = ()

    def __str__(self) -> str:
        return f"step {self.name}: " if self.name else ""

    def choose(self, outputs: Outputs) -> Outputs:
        """Return the outputs that its loss is made of."""
        if not self.name:
            return outputs
        return [
            (declared, tensor)
            for declared, tensor in outputs
            if any(is_within(declared.name, name) for name in self.outputs)
        ]

    def parameters_of(self, module: nn.Module) -> dict[str, nn.Parameter]:
        """Return the trainable parameters that it moves."""
        return {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
            and (not self.name or any(is_within(name, path) for path in self.trains))
        }


def steps_of(subject: Subject) -> Iterator[Step]:
    """Yield the steps of training: those declared, or the one that trains everything."""
    declared = subject.spec.architecture.steps
    for name, step in declared.items():
        yield Step(name, step.outputs, step.trains)
    if not declared:
        yield Step()


def gradients(subject: Subject) -> str:
    """The gradient of the outputs reaches every trainable parameter."""
    reached = [_reach(subject, step) for step in steps_of(subject)]
    trained = {name for step in steps_of(subject) for name in step.parameters_of(subject.built)}
    if untrained := [name for name in Step().parameters_of(subject.built) if name not in trained]:
        raise Failed(f"no step trains {shorten(untrained)}")
    return "; ".join(reached)


def _reach(subject: Subject, step: Step) -> str:
    """Return what the gradient of a step reaches. Raises Failed where that is not all it trains."""
    module = subject.fresh().train()
    trainable = step.parameters_of(module)
    if step.name and not trainable:
        raise Failed(f"{step}it has no parameters in {' or '.join(step.trains)}")
    without_gradient = _find_unreached(subject, step, module, set(trainable))
    blocked_at_first = len(without_gradient)
    if without_gradient:
        # Gates and heads that start at zero hold back what lies behind them until the first step.
        without_gradient = _find_unreached(subject, step, subject.with_noise().train(), without_gradient)
    if without_gradient and subject.other_sizes:
        # A softmax over one place, as is left of a small picture, lets none through.
        larger = subject.at(subject.other_sizes)
        without_gradient = _find_unreached(larger, step, subject.with_noise().train(), without_gradient)
    if without_gradient:
        names = shorten(sorted(without_gradient))
        raise Failed(f"{step}no gradient reaches {names} (of {plural(len(trainable), 'parameter')})")
    note = ""
    if blocked_at_first:
        note = f", {blocked_at_first} of them only after zero-initialized weights have moved"
    return f"{step}all {plural(len(trainable), 'parameter')}{note}"


def _find_unreached(subject: Subject, step: Step, module: nn.Module, names: set[str]) -> set[str]:
    """Return the parameters among `names` that get no gradient for any of a few inputs."""
    without_gradient = set(names)
    for seed in range(SEEDS):
        module.zero_grad()
        _run_backward(subject, step, module, seed)
        for name, parameter in module.named_parameters():
            if parameter.grad is not None and parameter.grad.any():
                without_gradient.discard(name)
        if not without_gradient:
            break
    return without_gradient


def _run_backward(subject: Subject, step: Step, module: nn.Module, seed: int) -> None:
    outputs = step.choose(subject.outputs(module, subject.inputs(seed)))
    if step.name and not outputs:
        raise Failed(f"{step}forward returns no output {' or '.join(step.outputs)}")
    projection(outputs).backward()  # type: ignore[no-untyped-call]


def updates(subject: Subject) -> str:
    """A step of the optimizer, or a few, moves every trainable parameter."""
    return "; ".join(_move(subject, step) for step in steps_of(subject))


def _move(subject: Subject, step: Step) -> str:
    """Take a few steps of Adam, and return how many it took to move all that they train."""
    module = subject.fresh().train()
    trainable = step.parameters_of(module)
    before = {name: parameter.detach().clone() for name, parameter in Step().parameters_of(module).items()}
    states = {
        name: (torch.zeros_like(parameter), torch.zeros_like(parameter), torch.tensor(0.0))
        for name, parameter in trainable.items()
    }
    unmoved = list(trainable)
    for count in range(STEPS):
        module.zero_grad()
        _run_backward(subject, step, module, count)
        _take_adam_step(trainable, states)
        _check_others(step, module, before)
        unmoved = [name for name in unmoved if torch.equal(trainable[name], before[name])]
        if not unmoved:
            moved = f"all {plural(len(trainable), 'parameter')} moved in {plural(count + 1, 'step')} of Adam"
            return f"{step}{moved}"
    steps = f"{step}{plural(STEPS, 'step')} of Adam"
    if len(unmoved) == len(trainable):
        raise Failed(f"{steps} moved no parameter")
    raise Warned(f"{steps} left {shorten(unmoved)} unchanged")


def _check_others(step: Step, module: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Raise Failed where a parameter moved that the step doesn't train: forward itself writes to it."""
    trains = step.parameters_of(module)
    for name, parameter in Step().parameters_of(module).items():
        if name not in trains and not torch.equal(parameter, before[name]):
            raise Failed(f"{step}{name} moves, which it doesn't train")


def _take_adam_step(
    trainable: Mapping[str, nn.Parameter], states: Mapping[str, tuple[Tensor, Tensor, Tensor]]
) -> None:
    """Move the parameters that have a gradient, by torch's own Adam; `states` are its moments and counts.

    As a function: the first use of an Optimizer imports torch's compiler, which takes longer than all checks.
    """
    with_gradient = [name for name, parameter in trainable.items() if parameter.grad is not None]
    if not with_gradient:
        return
    gradients = [gradient for name in with_gradient if (gradient := trainable[name].grad) is not None]
    means, squares, counts = zip(*(states[name] for name in with_gradient), strict=True)
    with torch.no_grad():
        adam(
            [trainable[name] for name in with_gradient],
            gradients,
            list(means),
            list(squares),
            [],
            list(counts),
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=1e-2,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
