"""The check that nothing is infinite or NaN, for random values and for those that often are at fault."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.text import plural
from nnkit.errors import first_line
from nnkit.models.sampling import Inputs
from nnkit.verbs.smoke.backward import first_training_run, run_training
from nnkit.verbs.smoke.judging import batch_axis
from nnkit.verbs.smoke.subject import Failed, Subject


def finite(subject: Subject) -> str:
    """No output and no gradient is infinite or NaN, nor for integers such as padding."""
    run = first_training_run(subject)
    run.check_finite()
    values: list[Case] = []
    module = None
    for cases in _group_special(subject):
        module = module or subject.copy().train()
        try:
            run_training(subject, module, _draw_special(subject, cases)).check_finite()
        except (Failed, RuntimeError, ValueError, IndexError):
            for case in cases:  # which one is it?
                _check_case(subject, case)
            raise
        values += cases
    special = f", also for {plural(len(values), 'special value')} of integers" if values else ""
    return f"{plural(len(run.outputs or ()), 'output')} and every gradient{special}"


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
        run_training(subject, subject.copy().train(), _draw_special(subject, [case])).check_finite(when)
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
