"""Checks of how a model treats its inputs and its state: batch sizes, side effects, causality.

Values are compared on a copy with a little noise on every parameter: a head or a gate that starts at zero
would hide every difference.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nnkit.contract.axes import names_in
from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import plural
from nnkit.errors import first_line
from nnkit.models.running import without_gradients
from nnkit.models.tensors import registered
from nnkit.verbs.smoke.subject import (
    Failed,
    Outputs,
    Skipped,
    Subject,
    Warned,
    batch_axis,
    difference,
    tolerance_of,
)

BATCHES = (1, 3)  # a single sample, and a number that no power of two divides
Snapshot = dict[str, Any]


def batch_sizes(subject: Subject) -> str:
    """It runs with a batch of one and with an odd one."""
    if "batch" not in subject.sizes:
        raise Skipped("the inputs have no dim named batch")
    dim = subject.spec.dims["batch"]
    allowed = [size for size in BATCHES if not dim.problem_with(size)]
    if not allowed:
        raise Skipped(f"a batch of {BATCHES[0]} or {BATCHES[1]} is not allowed")
    module = subject.fresh()
    for size in allowed:
        sizes = {**subject.sizes, "batch": size}
        try:
            outputs = subject.evaluate(module, subject.inputs(sizes=sizes))
        except (RuntimeError, ValueError, IndexError) as error:
            raise Failed(f"fails with a batch of {size}: {first_line(error)}") from error
        for declared, tensor in outputs:
            axis = batch_axis(declared)
            if axis is not None and tensor.shape[axis] != size:
                raise Failed(f"output {declared.name} has {tensor.shape[axis]} rows for a batch of {size}")
    return f"batches of {' and '.join(map(str, allowed))}"


def eval_state(subject: Subject) -> str:
    """A run in eval mode leaves parameters, buffers and attributes as they were."""
    module = subject.fresh()
    tensors, attributes = _copy_tensors(module), _copy_attributes(module)
    subject.evaluate(module, subject.inputs())
    after = _copy_tensors(module)
    changed = [name for name, tensor in after.items() if not _are_equal(tensors.get(name), tensor)]
    if changed:
        subject.evaluate(module, subject.inputs())
        if all(_are_equal(after[name], tensor) for name, tensor in _copy_tensors(module).items()):
            raise Warned(f"{changed[0]} is set by the first run in eval mode, and then stays the same")
        raise Failed(f"{changed[0]} changed during a run in eval mode")
    changed = [
        name for name, value in _copy_attributes(module).items() if attributes.get(name, value) != value
    ]
    if changed:
        raise Warned(f"attribute {changed[0]} changed during a run in eval mode")
    return f"{plural(len(tensors), 'tensor')} and {plural(len(attributes), 'attribute')}"


def _copy_tensors(module: nn.Module) -> Snapshot:
    return {name: tensor.clone() for name, tensor in registered(module).items()}


def _copy_attributes(module: nn.Module) -> Snapshot:
    return {
        f"{path}.{name}".lstrip("."): value
        for path, submodule in module.named_modules()
        for name, value in vars(submodule).items()
        if isinstance(value, (bool, int, float, str)) and name != "training"
    }


def _are_equal(before: Tensor | None, after: Tensor) -> bool:
    return before is not None and before.shape == after.shape and bool(torch.equal(before, after))


def inputs_unchanged(subject: Subject) -> str:
    """Forward and backward leave the inputs as they were."""
    names = [tensor.name for tensor in subject.spec.inputs]
    inputs = subject.inputs()
    copies = [tensor.clone() for tensor in inputs]
    for training in (False, True):
        module = subject.fresh().train(training)
        if training:
            subject.outputs(module, inputs)
        else:
            without_gradients(lambda: subject.outputs(module, inputs))  # noqa: B023 - called at once
        for name, copy, tensor in zip(names, copies, inputs, strict=True):
            if not torch.equal(copy, tensor):
                mode = "training" if training else "eval"
                raise Failed(f"forward modifies its input {name} in {mode} mode")
    return ", ".join(names)


def input_effect(subject: Subject) -> str:
    """Changing any one input changes an output."""
    module, inputs, others = subject.with_noise(), subject.inputs(), subject.inputs(seed=1)
    outputs = subject.evaluate(module, inputs)
    varied = []
    for index, tensor in enumerate(subject.spec.inputs):
        if torch.equal(inputs[index], others[index]):
            continue  # it is sampled the same each time
        changed = [*inputs[:index], others[index], *inputs[index + 1 :]]
        if not _differ(outputs, subject.evaluate(module, changed)):
            raise Failed(f"no output depends on input {tensor.name}")
        varied.append(tensor.name)
    if not varied:
        raise Skipped("every input is sampled the same each time")
    return ", ".join(varied)


def _differ(outputs: Outputs, others: Outputs) -> bool:
    # Any difference counts: what a mask or a padding hides may change little.
    pairs = zip(outputs, others, strict=True)
    return any(
        tensor.shape != other.shape or not torch.equal(tensor, other) for (_, tensor), (_, other) in pairs
    )


def causality(subject: Subject) -> str:
    """Along the dim that is declared causal, no output depends on a later input."""
    dim = subject.spec.architecture.causal
    if not dim:
        raise Skipped("no dim is declared causal")
    if dim not in subject.sizes:
        raise Skipped(f"the inputs have no dim named {dim}")
    length = subject.sizes[dim]
    module, inputs, others = subject.with_noise(), subject.inputs(), subject.inputs(seed=1)
    outputs = subject.evaluate(module, inputs)
    for cut in (length - 1, length // 2):
        mixed = [
            _replace_after(dim, declared.shape, tensor, other, cut)
            for declared, tensor, other in zip(subject.spec.inputs, inputs, others, strict=True)
        ]
        for name, changed in _compare_before(subject.spec, outputs, subject.evaluate(module, mixed), cut):
            if changed:
                raise Failed(f"output {name} before {dim} {cut} depends on inputs after it")
    return f"outputs along {dim}, cut at {length - 1} and {length // 2}"


def _replace_after(dim: str, shape: tuple[int | str, ...], tensor: Tensor, other: Tensor, cut: int) -> Tensor:
    """Return `tensor` up to the cut along a dim, and `other` from there on."""
    if dim not in shape:
        return tensor.clone()
    axis = shape.index(dim)
    before = tensor.narrow(axis, 0, cut)
    after = other.narrow(axis, cut, other.shape[axis] - cut)
    return torch.cat([before, after], dim=axis)


def _compare_before(
    spec: ModelSpec, outputs: Outputs, others: Outputs, cut: int
) -> Iterator[tuple[str, bool]]:
    """Yield each output with whether the part that comes from inputs before the cut has changed.

    An output axis may be an expression of the causal dim, such as `time // 2`: its part before the cut is as
    long as the axis is when the dim has the size of the cut.
    """
    dim = spec.architecture.causal
    if not cut:
        return
    for (declared, tensor), (_, other) in zip(outputs, others, strict=True):
        for axis, expression in enumerate(declared.shape):
            if names_in(expression) & set(spec.sizes) != {dim}:
                continue
            end = max(spec.shape(declared, {dim: cut})[axis], 0)
            apart = difference(tensor.narrow(axis, 0, end), other.narrow(axis, 0, end))
            yield declared.name, apart > tolerance_of(tensor)
