"""Checks of training: gradients reach what a step trains, and an optimizer moves it."""

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from nnkit.contract.text import plural, shorten
from nnkit.models.gradients import looked_at
from nnkit.verbs.smoke.backward import first_training_run, run_training
from nnkit.verbs.smoke.elements import checksum, laid_like, some_of
from nnkit.verbs.smoke.steps import WHOLE, Step, steps_of
from nnkit.verbs.smoke.subject import Failed, Subject, Warned

STEPS = 3  # a gate that starts at zero lets gradients through from the second on
SEEDS = 3  # a unit may be dead for one input by chance, hardly for three
MOST_MOVED = 2**14  # elements of a parameter that Adam is run on at first


def gradients(subject: Subject) -> str:
    """The gradient of the outputs reaches every trainable parameter."""
    reached = [_reach(subject, step) for step in steps_of(subject)]
    trained = {name for step in steps_of(subject) for name in step.parameters_of(subject.built)}
    if untrained := [name for name in WHOLE.parameters_of(subject.built) if name not in trained]:
        raise Failed(f"no step trains {shorten(untrained)}")
    return "; ".join(reached)


def _reach(subject: Subject, step: Step) -> str:
    """Return what the gradient of a step reaches. Raises Failed where that is not all it trains."""
    trainable = step.parameters_of(subject.built)
    if step.name and not trainable:
        raise Failed(f"{step}it has no parameters in {' or '.join(step.trains)}")
    first = first_training_run(subject, step).raise_error()
    without_gradient = {name for name in trainable if name not in first.reached}
    if without_gradient:
        without_gradient = _find_unreached(subject, step, without_gradient)
    blocked_at_first = len(without_gradient)
    if without_gradient:
        without_gradient = _find_blocked(subject, step, without_gradient)
    if without_gradient:
        names = shorten(sorted(without_gradient))
        raise Failed(f"{step}no gradient reaches {names} (of {plural(len(trainable), 'parameter')})")
    note = ""
    if blocked_at_first:
        note = f", {blocked_at_first} of them only after zero-initialized weights have moved"
    return f"{step}all {plural(len(trainable), 'parameter')}{note}"


def _find_blocked(subject: Subject, step: Step, names: set[str]) -> set[str]:
    """Return the parameters among `names` that get no gradient when nothing is zero or too small."""
    with subject.noise():
        # Gates and heads that start at zero hold back what lies behind them until the first step.
        names = _find_unreached(subject, step, names)
        if names and subject.other_sizes:
            # A softmax over one place, as is left of a small picture, lets none through.
            names = _find_unreached(subject.at(subject.other_sizes), step, names)
    return names


def _find_unreached(subject: Subject, step: Step, names: set[str]) -> set[str]:
    """Return the parameters among `names` that get no gradient for any of a few inputs."""
    module, without_gradient = subject.copy().train(), set(names)
    for seed in range(SEEDS):
        run = run_training(subject, module, subject.inputs(seed), step).raise_error()
        without_gradient -= run.reached
        if not without_gradient:
            break
    return without_gradient


def updates(subject: Subject) -> str:
    """A step of the optimizer, or a few, moves every trainable parameter."""
    return "; ".join(_move(subject, step) for step in steps_of(subject))


def _move(subject: Subject, step: Step) -> str:
    """Take a few steps of Adam, and return how many it took to move all that they train."""
    taken, unmoved = 1, _unmoved_at_once(subject, step)
    for most in (MOST_MOVED, None):
        if unmoved:
            taken, unmoved = _train(subject, step, most)
    count = len(step.parameters_of(subject.built))
    if not unmoved:
        return f"{step}all {plural(count, 'parameter')} moved in {plural(taken, 'step')} of Adam"
    steps = f"{step}{plural(STEPS, 'step')} of Adam"
    if len(unmoved) == count:
        raise Failed(f"{steps} moved no parameter")
    raise Warned(f"{steps} left {shorten(unmoved)} unchanged")


def _unmoved_at_once(subject: Subject, step: Step) -> list[str]:
    """Return the parameters of which the first step moves no element that was kept."""
    run, trainable = first_training_run(subject, step).raise_error(), step.parameters_of(subject.built)
    if not subject.original.shares:  # forward writes to parameters itself
        return list(trainable)
    moved = {
        name
        for name, seen in run.gradients.items()
        if name not in run.replaced and _Adam(seen.values).moves(seen.slopes)
    }
    return [name for name in trainable if name not in moved]


def _train(subject: Subject, step: Step, most: int | None) -> tuple[int, list[str]]:
    """Take steps of Adam until all parameters have moved; return how many, and which have not.

    most: elements of a parameter that are moved; None for all, with gradients and moments as large.
    """
    module = subject.fresh().train()
    trainable = step.parameters_of(module)
    adams = {name: _Adam(_part_of(parameter.data, most)) for name, parameter in trainable.items()}
    others = {name: checksum(tensor) for name, tensor in _others(step, module).items()}
    unmoved = list(trainable)
    for count in range(STEPS):
        slopes: dict[str, Tensor] = {}

        def keep(name: str, parameter: nn.Parameter, slopes: dict[str, Tensor] = slopes) -> None:
            if name in trainable and parameter.grad is not None:
                part = _part_of(laid_like(parameter.grad, parameter), most)
                slopes[name] = slopes[name] + part if name in slopes else part.clone()

        with looked_at(module, keep):
            outputs = subject.outputs(module, subject.inputs(count))
            step.loss_of(outputs).backward()  # type: ignore[no-untyped-call]
        for name, slope in slopes.items():
            adams[name].moves(slope)
        for name, tensor in _others(step, module).items():
            if not torch.equal(checksum(tensor), others[name]):
                raise Failed(f"{step}{name} moves, which it doesn't train")
        unmoved = [name for name in unmoved if not adams[name].has_moved]
        if not unmoved:
            return count + 1, []
    return STEPS, unmoved


def _part_of(tensor: Tensor, most: int | None) -> Tensor:
    return tensor if most is None else some_of(tensor, most)


def _others(step: Step, module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters that a step doesn't train: only forward itself could write to them."""
    trains = step.parameters_of(module)
    return {name: item for name, item in WHOLE.parameters_of(module).items() if name not in trains}


class _Adam:
    """Torch's own Adam on the elements of one parameter, which it moves in place.

    As a function: the first use of an Optimizer imports torch's compiler, which takes longer than all checks.
    """

    def __init__(self, values: Tensor) -> None:
        self.values, self.before = values, values.clone()
        self.state = torch.zeros_like(self.before), torch.zeros_like(self.before), torch.tensor(0.0)

    def moves(self, slopes: Tensor) -> bool:
        """Take a step, and return whether any element has moved."""
        mean, square, count = self.state
        adam(
            [self.values],
            [slopes],
            [mean],
            [square],
            [],
            [count],
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=1e-2,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
        return self.has_moved

    @property
    def has_moved(self) -> bool:
        """Whether any element is not as it was, whatever has moved it."""
        return not torch.equal(self.values, self.before)
