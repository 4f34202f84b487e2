"""The check that nothing is infinite or NaN, for random values and for those that often are at fault."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.text import name_output, plural
from nnkit.errors import first_line
from nnkit.models.sampling import Inputs
from nnkit.verbs.smoke.subject import Failed, Subject, batch_axis, projection


def finite(subject: Subject) -> str:
    """No output and no gradient is infinite or NaN, nor for integers such as padding."""
    module = subject.fresh().train()
    count = _check_run(subject, module, subject.inputs(), "")
    values: list[Case] = []
    for cases in _group_special(subject):
        try:
            _check_run(subject, module, _draw_special(subject, cases), "")
        except (Failed, RuntimeError, ValueError, IndexError):
            for case in cases:  # which one is it?
                _check_case(subject, case)
            raise
        values += cases
    special = f", also for {plural(len(values), 'special value')} of integers" if values else ""
    return f"{plural(count, 'output')} and every gradient{special}"


def _check_run(subject: Subject, module: nn.Module, inputs: Inputs, when: str) -> int:
    """Run forward and backward, and return the number of outputs. Raises Failed for what is not finite."""
    module.zero_grad()
    outputs = subject.outputs(module, inputs)
    for declared, tensor in outputs:
        _check_finite(name_output(declared.name), tensor, when)
    projection(outputs).backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            _check_finite(f"the gradient of {name}", parameter.grad, when)
    return len(outputs)


def _check_finite(name: str, tensor: Tensor, when: str) -> None:
    count = int((~torch.isfinite(tensor)).sum())
    if count:
        raise Failed(f"{name} has {plural(count, 'infinite or NaN element')} (of {tensor.numel()}){when}")


@dataclass(frozen=True)
class Case:
    """Values of an integer input that a network may treat in a special way: padding, or the largest index."""

    index: int
    name: str
    what: str
    fill: Callable[[Tensor], object]

    def __str__(self) -> str:
        return f"{self.name} {self.what}"


def _check_case(subject: Subject, case: Case) -> None:
    """Raise Failed where this special value alone is at fault."""
    when = f" for {case}"
    try:
        _check_run(subject, subject.fresh().train(), _draw_special(subject, [case]), when)
    except (RuntimeError, ValueError, IndexError) as error:
        raise Failed(f"fails{when}: {first_line(error)}") from error


def _group_special(subject: Subject) -> Iterator[list[Case]]:
    """Yield the special values, as many at once as there are samples."""
    cases = [
        case
        for index, declared in enumerate(subject.spec.inputs)
        if declared.sample == "index" and declared.shape
        for case in _cases_of(subject, declared, index)
    ]
    axes = [batch_axis(tensor) for tensor in subject.spec.inputs]
    yield from ([case] for case in cases if axes[case.index] is None)
    batched = [case for case in cases if axes[case.index] is not None]
    samples = subject.sizes.get("batch", 1)
    yield from (batched[start : start + samples] for start in range(0, len(batched), samples))


def _draw_special(subject: Subject, cases: list[Case]) -> Inputs:
    """Return inputs with a special value in each sample; in all of an input without samples."""
    inputs = tuple(tensor.clone() for tensor in subject.inputs())
    for sample, case in enumerate(cases):
        axis = batch_axis(subject.spec.inputs[case.index])
        tensor = inputs[case.index]
        case.fill(tensor if axis is None else tensor.select(axis, sample))
    return inputs


def _cases_of(subject: Subject, declared: TensorSpec, index: int) -> Iterator[Case]:
    """Yield the special values of one integer input; 0 is among them, since it often means padding."""

    def fill_with(value: int) -> Callable[[Tensor], object]:
        return lambda tensor: tensor.fill_(value)

    def begin_with(value: int) -> Callable[[Tensor], object]:
        return lambda tensor: tensor[..., :1].fill_(value) if tensor.ndim else tensor.fill_(value)

    largest = subject.size_of(declared.index_of) - 1 if declared.index_of is not None else 0
    fillers = dict.fromkeys([0] if declared.padding is None else [declared.padding, 0])
    for value in fillers:
        kind = "padding" if value == declared.padding else str(value)
        yield Case(index, declared.name, f"all {kind}", fill_with(value))
        if declared.shape[-1] != "batch":
            yield Case(index, declared.name, f"beginning with {kind}", begin_with(value))
    if largest > 0:
        yield Case(index, declared.name, f"all {largest}", fill_with(largest))
