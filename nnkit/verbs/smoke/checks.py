"""The checks of a smoke-run. Each takes a Subject, returns what it saw, or raises what is wrong."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from nnkit.verbs.smoke.subject import (
    Failed,
    Outputs,
    Skipped,
    Subject,
    Warned,
    batch_axis,
    difference,
    largest_difference,
    projection,
    row,
    tolerance_of,
)

STEPS = 3  # a gate that starts at zero lets gradients through from the second on
SEEDS = 3  # a unit may be dead for one input by chance, hardly for three


def shapes(subject: Subject) -> str:
    """Outputs have the shapes, and the device, that are declared, at two assignments of the sizes."""
    module, seen = subject.fresh(), []
    for sizes in filter(None, (subject.sizes, subject.other_sizes)):
        outputs = subject.evaluate(module, subject.inputs(sizes=sizes))
        for declared, tensor in outputs:
            wanted = subject.spec.shape(declared, sizes)
            if subject.spec.outputs and tuple(tensor.shape) != wanted:
                at = " ".join(f"{name}={size}" for name, size in sizes.items())
                raise Failed(
                    f"output {declared.name} is {_words(tensor.shape)}, declared {_words(wanted)}, at {at}"
                )
            if tensor.device.type != subject.device.type:
                raise Failed(f"output {declared.name} is on {tensor.device}, not on {subject.device}")
            seen.append(f"{declared.name} {_words(tensor.shape)}")
    return ", ".join(seen)


def finite(subject: Subject) -> str:
    """No output and no gradient is infinite or not a number."""
    module = subject.fresh().train()
    outputs = subject.outputs(module, subject.inputs())
    for declared, tensor in outputs:
        if not _is_finite(tensor):
            raise Failed(f"output {declared.name} has {_infinite(tensor)}")
    projection(outputs).backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and not _is_finite(parameter.grad):
            raise Failed(f"the gradient of {name} has {_infinite(parameter.grad)}")
    return f"{len(outputs)} outputs and every gradient"


def gradients(subject: Subject) -> str:
    """The gradient of the outputs reaches every trainable parameter."""
    module = subject.fresh().train()
    trainable = {name for name, each in module.named_parameters() if each.requires_grad}
    waiting = _unreached(subject, module, trainable)
    blocked = len(waiting)
    if waiting:
        # Gates and heads that start at zero hold back what lies behind them until the first step.
        waiting = _unreached(subject, subject.stirred().train(), waiting)
    if waiting:
        raise Failed(f"none reaches {_some(sorted(waiting))}, of {len(trainable)} parameters")
    aside = f", {blocked} of them once weights that start at zero have moved" if blocked else ""
    return f"all {len(trainable)} parameters{aside}"


def _unreached(subject: Subject, module: nn.Module, names: set[str]) -> set[str]:
    """Return those of the parameters that get no gradient, whichever of a few inputs is given."""
    waiting = set(names)
    for seed in range(SEEDS):
        module.zero_grad()
        projection(subject.outputs(module, subject.inputs(seed))).backward()  # type: ignore[no-untyped-call]
        reached = {
            name for name, each in module.named_parameters() if each.grad is not None and each.grad.any()
        }
        waiting -= reached
        if not waiting:
            break
    return waiting


def updates(subject: Subject) -> str:
    """A step of the optimizer, or a few, moves every trainable parameter."""
    module = subject.fresh().train()
    trainable = {name: each for name, each in module.named_parameters() if each.requires_grad}
    before = {name: each.detach().clone() for name, each in trainable.items()}
    states = {
        name: (torch.zeros_like(each), torch.zeros_like(each), torch.tensor(0.0))
        for name, each in trainable.items()
    }
    still = list(trainable)
    for step in range(STEPS):
        module.zero_grad()
        projection(subject.outputs(module, subject.inputs(step))).backward()  # type: ignore[no-untyped-call]
        _step_of_adam(trainable, states)
        still = [name for name in still if torch.equal(trainable[name], before[name])]
        if not still:
            return f"{_steps(step + 1)} of Adam moved all {len(trainable)}"
    if len(still) == len(trainable):
        raise Failed(f"{_steps(STEPS)} of Adam moved no parameter")
    raise Warned(f"{_steps(STEPS)} of Adam left {_some(still)} as it was")


def _step_of_adam(
    trainable: Mapping[str, nn.Parameter], states: Mapping[str, tuple[Tensor, Tensor, Tensor]]
) -> None:
    """Move the parameters that have a gradient, by torch's own Adam; `states` are its moments and counts.

    As a function: the first use of an Optimizer imports torch's compiler, which takes longer than all checks.
    """
    reached = [(each, each.grad, *states[name]) for name, each in trainable.items() if each.grad is not None]
    if not reached:
        return
    moved, grads, means, squares, counts = map(list, zip(*reached, strict=True))
    with torch.no_grad():
        adam(
            moved, grads, means, squares, [], counts,
            amsgrad=False, beta1=0.9, beta2=0.999, lr=1e-2, weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip


def _steps(count: int) -> str:
    return f"{count} step{'s'[: count > 1]}"


def batch_independence(subject: Subject) -> str:
    """Each sample of a batch gives the same result alone."""
    axes = [batch_axis(tensor) for tensor in subject.spec.inputs]
    if all(axis is None for axis in axes) or subject.given is not None:
        raise Skipped("the inputs have no dim called batch")
    module, inputs = subject.fresh(), subject.inputs()
    together = subject.evaluate(module, inputs)
    for index in range(subject.sizes["batch"]):
        alone = [row(tensor, axis, index) for tensor, axis in zip(inputs, axes, strict=True)]
        _same_row(together, subject.evaluate(module, alone), index)
    return f"{subject.sizes['batch']} samples, together and alone"


def _same_row(together: Outputs, single: Outputs, index: int) -> None:
    for (declared, whole), (_, one) in zip(together, single, strict=True):
        axis = batch_axis(declared)
        if axis is None:
            continue
        apart = difference(row(whole, axis, index), one)
        if apart > tolerance_of(whole):
            name = declared.name
            raise Failed(f"sample {index} of output {name} differs alone by {apart:.2g} of its spread")


def determinism(subject: Subject) -> str:
    """Two runs in eval mode give the same outputs."""
    module, inputs = subject.fresh(), subject.inputs()
    first, second = subject.evaluate(module, inputs), subject.evaluate(module, inputs)
    apart, name, rounding = largest_difference(first, second)
    if not rounding:
        raise Failed(f"output {name} differs from run to run by {apart:.2g} of its spread")
    if apart > 0:
        raise Warned(f"output {name} differs from run to run by rounding, {apart:.2g} of its spread")
    return "two eval runs, equal bit for bit"


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _infinite(tensor: Tensor) -> str:
    count = int((~torch.isfinite(tensor)).sum())
    return f"{count} of {tensor.numel()} elements infinite or not a number"


def _words(shape: tuple[int, ...] | torch.Size) -> str:
    return "×".join(map(str, shape)) or "1"


def _some(listed: list[str]) -> str:
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
