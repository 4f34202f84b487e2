"""Forward and backward in training mode, and what is seen of each gradient as it comes.

A gradient is looked at as soon as backward has computed it, and then dropped: the gradients of a large model
take as much memory as its weights, and are never all there.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nnkit.contract.text import name_output, plural
from nnkit.models.gradients import looked_at
from nnkit.models.sampling import Inputs
from nnkit.verbs.smoke.elements import laid_like, some_of
from nnkit.verbs.smoke.steps import WHOLE, Step
from nnkit.verbs.smoke.subject import Failed, Subject

MOST_KEPT = 2**8  # elements of a gradient


@dataclass(frozen=True)
class Gradient:
    """What was seen of the gradient of a parameter.

    Attributes:
        elements: how many it has.
        not_finite: how many of them are infinite or NaN.
        reaches: whether any is not zero.
        values, slopes: some elements of the parameter, and of the gradient at the same places.
    """

    elements: int
    not_finite: int
    reaches: bool
    values: Tensor
    slopes: Tensor

    def joined(self, later: "Gradient") -> "Gradient":
        """Return what is seen of a gradient that comes in two parts; see `looked_at`."""
        shown = self if self.reaches else later
        return replace(shown, not_finite=max(self.not_finite, later.not_finite))


@dataclass(frozen=True)
class TrainingRun:
    """What was seen of one run in training mode.

    Attributes:
        outputs: for each output its name, its elements, and how many of those are infinite or NaN; None where
            forward failed.
        gradients: of the parameters that got one, by name.
        replaced: the names of the parameters that forward put others in place of; no optimizer has those.
        changed_inputs: the names of the inputs that it changed.
        error: what forward or backward raised.
    """

    outputs: Sequence[tuple[str, int, int]] | None
    gradients: dict[str, Gradient]
    replaced: Collection[str]
    changed_inputs: Sequence[str]
    error: Exception | None

    def raise_error(self) -> "TrainingRun":
        """Return the run, or raise what it raised."""
        if self.error:
            raise self.error
        return self

    @property
    def reached(self) -> set[str]:
        """The names of the parameters that got a gradient other than zero."""
        return {name for name, gradient in self.gradients.items() if gradient.reaches}

    def check_finite(self, when: str = "") -> None:
        """Raise Failed for the first output or gradient that is not finite, or what the run raised."""
        for name, elements, count in self.outputs or ():
            _refuse(name_output(name), elements, count, when)
        self.raise_error()
        for name, gradient in self.gradients.items():
            _refuse(f"the gradient of {name}", gradient.elements, gradient.not_finite, when)


def _refuse(name: str, elements: int, count: int, when: str) -> None:
    if count:
        raise Failed(f"{name} has {plural(count, 'infinite or NaN element')} (of {elements}){when}")


def first_training_run(subject: Subject, step: Step = WHOLE) -> TrainingRun:
    """Return what is seen of the first run of a copy, on `inputs()`; checks that begin with it share it."""

    def run() -> TrainingRun:
        module, before = subject.copy().train(), subject.original.checksums()
        seen = run_training(subject, module, subject.inputs(), step)
        if not subject.original.is_intact(before):
            subject.original.part()
            return run()
        return seen

    return run() if subject.compiled else subject.once(f"training {step.name}", run)


def run_training(subject: Subject, module: nn.Module, inputs: Inputs, step: Step = WHOLE) -> TrainingRun:
    """Run forward, and backward from the loss of a step, and return what is seen."""
    passed, built = tuple(tensor.clone() for tensor in inputs), dict(module.named_parameters())
    seen = None
    gradients: dict[str, Gradient] = {}
    error = None

    def note(name: str, parameter: nn.Parameter) -> None:
        part = _look(parameter)
        gradients[name] = gradients[name].joined(part) if name in gradients else part

    try:
        outputs = subject.outputs(module, passed)
        seen = [(declared.name, tensor.numel(), count_not_finite(tensor)) for declared, tensor in outputs]
        with looked_at(module, note):
            step.loss_of(outputs).backward()  # type: ignore[no-untyped-call]
    except Exception as raised:
        error = raised.with_traceback(None)  # it holds what forward held
    after = dict(module.named_parameters())
    order = [name for name in after if name in gradients]
    replaced = {name for name, parameter in built.items() if after.get(name) is not parameter}
    changed = subject.changed_inputs(inputs, passed)
    return TrainingRun(seen, {name: gradients[name] for name in order}, replaced, changed, error)


def _look(parameter: nn.Parameter) -> Gradient:
    gradient = parameter.grad
    assert gradient is not None
    if gradient.layout == torch.sparse_coo:
        gradient = gradient.to_dense()
    reaches = bool(gradient.sum() != 0) or bool(gradient.any())
    values, slopes = (
        some_of(parameter.detach(), MOST_KEPT),
        some_of(laid_like(gradient, parameter), MOST_KEPT),
    )
    if reaches and not slopes.any():  # a few rows of a large table have one
        place = gradient.abs().argmax()
        values, slopes = parameter.detach().flatten()[place], gradient.flatten()[place]
    not_finite = count_not_finite(gradient)
    return Gradient(gradient.numel(), not_finite, reaches, values.clone(), slopes.clone())


def count_not_finite(tensor: Tensor) -> int:
    """Return how many elements are infinite or NaN."""
    if (tensor.is_floating_point() or tensor.is_complex()) and torch.isfinite(tensor.detach().sum()):
        return 0  # none, or the sum would not be finite; this needs no memory
    return int((~torch.isfinite(tensor)).sum())
