"""The checks of a smoke-run. Each takes a Subject, returns what it saw, or raises what is wrong."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from nnkit.contract.text import format_shape, format_sizes, plural, shorten
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
    """Outputs have the declared shapes and are on the device, at two assignments of the sizes."""
    module = subject.fresh()
    assignments = [sizes for sizes in (subject.sizes, subject.other_sizes) if sizes]
    seen = []
    for sizes in assignments:
        outputs = subject.evaluate(module, subject.inputs(sizes=sizes))
        for declared, tensor in outputs:
            _check_output(subject, declared.name, tensor, subject.spec.shape(declared, sizes), sizes)
            seen.append(f"{declared.name} {format_shape(tensor.shape)}")
    return ", ".join(seen)


def _check_output(
    subject: Subject, name: str, tensor: Tensor, expected: tuple[int, ...], sizes: Mapping[str, int]
) -> None:
    """Raise Failed for an output whose shape or device is not the declared one."""
    if subject.spec.outputs and tuple(tensor.shape) != expected:
        raise Failed(
            f"output {name} has shape {format_shape(tensor.shape)}, "
            f"but {format_shape(expected)} is declared ({format_sizes(sizes)})"
        )
    if tensor.device.type != subject.device.type:
        raise Failed(f"output {name} is on {tensor.device}, not on {subject.device}")


def finite(subject: Subject) -> str:
    """No output and no gradient is infinite or NaN."""
    module = subject.fresh().train()
    outputs = subject.outputs(module, subject.inputs())
    for declared, tensor in outputs:
        _check_finite(f"output {declared.name}", tensor)
    projection(outputs).backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            _check_finite(f"the gradient of {name}", parameter.grad)
    return f"{plural(len(outputs), 'output')} and every gradient"


def _check_finite(name: str, tensor: Tensor) -> None:
    count = int((~torch.isfinite(tensor)).sum())
    if count:
        raise Failed(f"{name} has {plural(count, 'infinite or NaN element')} (of {tensor.numel()})")


def gradients(subject: Subject) -> str:
    """The gradient of the outputs reaches every trainable parameter."""
    module = subject.fresh().train()
    trainable = _trainable_parameters(module)
    without_gradient = _find_unreached(subject, module, set(trainable))
    blocked_at_first = len(without_gradient)
    if without_gradient:
        # Gates and heads that start at zero hold back what lies behind them until the first step.
        without_gradient = _find_unreached(subject, subject.with_noise().train(), without_gradient)
    if without_gradient:
        names = shorten(sorted(without_gradient))
        raise Failed(f"no gradient reaches {names} (of {plural(len(trainable), 'parameter')})")
    note = ""
    if blocked_at_first:
        note = f", {blocked_at_first} of them only after zero-initialized weights have moved"
    return f"all {plural(len(trainable), 'parameter')}{note}"


def _trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _find_unreached(subject: Subject, module: nn.Module, names: set[str]) -> set[str]:
    """Return the parameters among `names` that get no gradient for any of a few inputs."""
    without_gradient = set(names)
    for seed in range(SEEDS):
        module.zero_grad()
        projection(subject.outputs(module, subject.inputs(seed))).backward()  # type: ignore[no-untyped-call]
        for name, parameter in module.named_parameters():
            if parameter.grad is not None and parameter.grad.any():
                without_gradient.discard(name)
        if not without_gradient:
            break
    return without_gradient


def updates(subject: Subject) -> str:
    """A step of the optimizer, or a few, moves every trainable parameter."""
    module = subject.fresh().train()
    trainable = _trainable_parameters(module)
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    states = {
        name: (torch.zeros_like(parameter), torch.zeros_like(parameter), torch.tensor(0.0))
        for name, parameter in trainable.items()
    }
    unmoved = list(trainable)
    for step in range(STEPS):
        module.zero_grad()
        projection(subject.outputs(module, subject.inputs(step))).backward()  # type: ignore[no-untyped-call]
        _take_adam_step(trainable, states)
        unmoved = [name for name in unmoved if torch.equal(trainable[name], before[name])]
        if not unmoved:
            return f"all {plural(len(trainable), 'parameter')} moved in {plural(step + 1, 'step')} of Adam"
    steps = f"{plural(STEPS, 'step')} of Adam"
    if len(unmoved) == len(trainable):
        raise Failed(f"{steps} moved no parameter")
    raise Warned(f"{steps} left {shorten(unmoved)} unchanged")


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


def batch_independence(subject: Subject) -> str:
    """Each sample gives the same result alone and in a batch."""
    axes = [batch_axis(tensor) for tensor in subject.spec.inputs]
    if all(axis is None for axis in axes):
        raise Skipped("the inputs have no dim named batch")
    module, inputs = subject.fresh(), subject.inputs()
    batched = subject.evaluate(module, inputs)
    samples = subject.sizes["batch"]
    for index in range(samples):
        sample = [row(tensor, axis, index) for tensor, axis in zip(inputs, axes, strict=True)]
        _compare_sample(batched, subject.evaluate(module, sample), index)
    return f"{plural(samples, 'sample')}, the same alone and in a batch"


def _compare_sample(batched: Outputs, single: Outputs, index: int) -> None:
    """Raise Failed where a row of the batch's outputs differs from the outputs of that sample alone."""
    for (declared, in_batch), (_, alone) in zip(batched, single, strict=True):
        axis = batch_axis(declared)
        if axis is None:
            continue
        apart = difference(row(in_batch, axis, index), alone)
        if apart > tolerance_of(in_batch):
            raise Failed(
                f"sample {index} of output {declared.name} differs by {apart:.2g}× its spread when run alone"
            )


def determinism(subject: Subject) -> str:
    """Two runs in eval mode give the same outputs."""
    module, inputs = subject.fresh(), subject.inputs()
    first, second = subject.evaluate(module, inputs), subject.evaluate(module, inputs)
    apart, name, rounding = largest_difference(first, second)
    if not rounding:
        raise Failed(f"output {name} differs between two runs by {apart:.2g}× its spread")
    if apart > 0:
        raise Warned(f"output {name} differs between two runs by rounding ({apart:.2g}× its spread)")
    return "two eval runs, bit-identical"
