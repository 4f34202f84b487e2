"""Whether the rows of an example are samples, though the module runs with no other number of them.

A module that views its input as 4 rows shows no batch: no other size runs. Its rows are samples all the same
if none of them looks at another.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnkit.errors import first_line
from nnkit.verbs.smoke.judging import difference, tolerance_of
from nnkit.verbs.smoke.subject import Failed, Outputs, Subject, Warned


def check_rows(subject: Subject) -> None:
    """Raise Failed where the rows of the examples are samples, but a single one doesn't run.

    Samples are treated alike: in a different order they give the same results in that order. Where each row
    is treated by itself but in its own way, as positions are, it is a warning.
    """
    with subject.noise():
        _check_rows(subject, subject.copy(), subject.inputs())


def _check_rows(subject: Subject, module: nn.Module, inputs: Sequence[Tensor]) -> None:
    rows = _rows_of(subject, inputs)
    if rows < 2 or not _are_independent(subject, module, inputs, rows):
        return
    problem = _problem_with_one(subject, module, inputs)
    if not problem:
        return
    order = torch.arange(rows).flip(0)
    outputs = _take(subject.evaluate(module, inputs), order)
    reordered = subject.evaluate(module, [tensor[order] for tensor in inputs])
    message = f"each of the {rows} rows is a sample by itself, but a single one fails: {problem}"
    raise Failed(message) if _agree(outputs, reordered) else Warned(message)


def _rows_of(subject: Subject, inputs: Sequence[Tensor]) -> int:
    """Return the length of the first axis that all inputs and all outputs have; 0 where there is none."""
    outputs = [tensor for _, tensor in subject.evaluate(subject.copy(), inputs)]
    lengths = {tensor.shape[0] if tensor.ndim else 0 for tensor in (*inputs, *outputs)}
    return lengths.pop() if len(lengths) == 1 and outputs else 0


def _are_independent(subject: Subject, module: nn.Module, inputs: Sequence[Tensor], rows: int) -> bool:
    """Whether a row of the inputs changes the same row of the outputs, and no other."""
    others = subject.inputs(seed=1)
    outputs = subject.evaluate(module, inputs)
    for index in range(rows):
        mixed = [tensor.clone() for tensor in inputs]
        for tensor, other in zip(mixed, others, strict=True):
            tensor[index] = other[index]
        changed = subject.evaluate(module, mixed)
        own, rest = torch.tensor([index]), torch.arange(rows) != index
        if _agree(_take(outputs, own), _take(changed, own)):
            return False
        if not _agree(_take(outputs, rest), _take(changed, rest)):
            return False
    return True


def _take(outputs: Outputs, rows: Tensor) -> Outputs:
    return [(declared, tensor[rows]) for declared, tensor in outputs]


def _agree(outputs: Outputs, others: Outputs) -> bool:
    return all(
        difference(tensor, other) <= tolerance_of(tensor)
        for (_, tensor), (_, other) in zip(outputs, others, strict=True)
    )


def _problem_with_one(subject: Subject, module: nn.Module, inputs: Sequence[Tensor]) -> str:
    try:
        outputs = subject.evaluate(module, [tensor[:1] for tensor in inputs])
    except (RuntimeError, ValueError, IndexError) as error:
        return first_line(error)
    lengths = {tensor.shape[0] for _, tensor in outputs}
    return "" if lengths == {1} else f"it gives {max(lengths)} rows"
