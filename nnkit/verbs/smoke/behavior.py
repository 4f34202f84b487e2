"""Checks of how a model treats its inputs and itself: sizes, state, effects, what it may not look at.

Values are compared on a copy with a little noise on every parameter: behind a head or a gate that starts
at zero, nothing would show.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nnkit.contract.axes import names_in
from nnkit.contract.spec import ModelSpec
from nnkit.errors import first_line
from nnkit.models.running import without_gradients
from nnkit.models.tensors import registered
from nnkit.verbs.smoke.subject import Failed, Outputs, Skipped, Subject, Warned, difference, tolerance_of

BATCHES = (1, 3)  # alone, and a number that no power of two divides
Snapshot = dict[str, Any]


def batch_sizes(subject: Subject) -> str:
    """It runs with a batch of one and of an odd number."""
    if "batch" not in subject.sizes or subject.given is not None:
        raise Skipped("the inputs have no dim called batch")
    dim = subject.spec.architecture.dims_for(subject.spec.config)["batch"]
    tried = [size for size in BATCHES if not dim.problem_with(size)]
    if not tried:
        raise Skipped(f"a batch of {BATCHES[0]} or {BATCHES[1]} is not allowed")
    module = subject.fresh()
    for size in tried:
        sizes = {**subject.sizes, "batch": size}
        try:
            outputs = subject.evaluate(module, subject.inputs(sizes=sizes))
        except (RuntimeError, ValueError, IndexError) as error:
            raise Failed(f"fails with a batch of {size}: {first_line(error)}") from error
        for declared, tensor in outputs:
            place = declared.shape.index("batch") if "batch" in declared.shape else None
            if place is not None and tensor.shape[place] != size:
                raise Failed(f"output {declared.name} has {tensor.shape[place]} rows for a batch of {size}")
    return f"batches of {' and '.join(map(str, tried))}"


def eval_state(subject: Subject) -> str:
    """A run in eval mode leaves parameters, buffers and attributes as they were."""
    module = subject.fresh()
    before, plain = _tensors(module), _attributes(module)
    subject.evaluate(module, subject.inputs())
    after = _tensors(module)
    changed = [name for name, each in after.items() if not _equal(before.get(name), each)]
    if changed:
        subject.evaluate(module, subject.inputs())
        if all(_equal(after[name], each) for name, each in _tensors(module).items()):
            raise Warned(f"{changed[0]} is set by the first run in eval mode, and stays")
        raise Failed(f"{changed[0]} is another after a run in eval mode")
    others = [name for name, each in _attributes(module).items() if plain.get(name, each) != each]
    if others:
        raise Warned(f"attribute {others[0]} is another after a run in eval mode")
    return f"{len(before)} tensors and {len(plain)} attributes"


def _tensors(module: nn.Module) -> Snapshot:
    return {name: each.clone() for name, each in registered(module).items()}


def _attributes(module: nn.Module) -> Snapshot:
    return {
        f"{path}.{name}".lstrip("."): value
        for path, each in module.named_modules()
        for name, value in vars(each).items()
        if isinstance(value, (bool, int, float, str)) and name != "training"
    }


def _equal(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and one.shape == other.shape and bool(torch.equal(one, other))


def inputs_unchanged(subject: Subject) -> str:
    """Forward and backward leave the inputs as they were."""
    names = [tensor.name for tensor in subject.spec.inputs]
    inputs = subject.inputs()
    before = [each.clone() for each in inputs]
    for mode in (False, True):
        module = subject.fresh().train(mode)
        if mode:
            subject.outputs(module, inputs)
        else:
            without_gradients(lambda: subject.outputs(module, inputs))  # noqa: B023 - called at once
        for name, one, other in zip(names, before, inputs, strict=True):
            if not torch.equal(one, other):
                raise Failed(f"forward changes its input {name} in {'training' if mode else 'eval'}")
    return ", ".join(names)


def input_effect(subject: Subject) -> str:
    """Each input changes an output when it changes."""
    if subject.given is not None:
        raise Skipped("of the given inputs no others are known")
    module, inputs, others = subject.stirred(), subject.inputs(), subject.inputs(seed=1)
    base = subject.evaluate(module, inputs)
    seen = []
    for place, tensor in enumerate(subject.spec.inputs):
        if torch.equal(inputs[place], others[place]):
            continue  # it is sampled the same each time
        changed = [*inputs[:place], others[place], *inputs[place + 1 :]]
        if not _moved(base, subject.evaluate(module, changed)):
            raise Failed(f"no output depends on input {tensor.name}")
        seen.append(tensor.name)
    if not seen:
        raise Skipped("every input is sampled the same each time")
    return ", ".join(seen)


def _moved(base: Outputs, other: Outputs) -> bool:
    # Any difference counts: what a mask or a padding hides may change little.
    pairs = zip(base, other, strict=True)
    return any(one.shape != two.shape or not torch.equal(one, two) for (_, one), (_, two) in pairs)


def causality(subject: Subject) -> str:
    """Along the dim that is declared causal, no output sees an input that comes later."""
    dim = subject.spec.architecture.causal
    if not dim:
        raise Skipped("it is not declared causal")
    if subject.given is not None or dim not in subject.sizes:
        raise Skipped(f"the inputs have no dim called {dim}")
    length = subject.sizes[dim]
    module, inputs, others = subject.stirred(), subject.inputs(), subject.inputs(seed=1)
    base = subject.evaluate(module, inputs)
    for cut in (length - 1, length // 2):
        mixed = [
            _later(dim, tensor.shape, one, two, cut)
            for tensor, one, two in zip(subject.spec.inputs, inputs, others, strict=True)
        ]
        for name, apart in _earlier(subject.spec, base, subject.evaluate(module, mixed), cut):
            if apart:
                raise Failed(f"output {name} before {dim} {cut} sees what comes after it")
    return f"outputs along {dim}, cut at {length - 1} and {length // 2}"


def _later(dim: str, shape: tuple[int | str, ...], one: Tensor, two: Tensor, cut: int) -> Tensor:
    """Return `one` up to the cut along a dim, and `two` from there on."""
    if dim not in shape:
        return one.clone()
    axis = shape.index(dim)
    return torch.cat([one.narrow(axis, 0, cut), two.narrow(axis, cut, two.shape[axis] - cut)], dim=axis)


def _earlier(spec: ModelSpec, base: Outputs, other: Outputs, cut: int) -> Iterator[tuple[str, bool]]:
    """Yield, for each output, whether what the inputs up to the cut give alone is different."""
    dim = spec.architecture.causal
    for (declared, one), (_, two) in zip(base, other, strict=True):
        along = [
            axis for axis, each in enumerate(declared.shape) if names_in(each) & set(spec.sizes) == {dim}
        ]
        for axis in along if cut else ():
            end = max(spec.shape(declared, {dim: cut})[axis], 0)
            apart = difference(one.narrow(axis, 0, end), two.narrow(axis, 0, end))
            yield declared.name, apart > tolerance_of(one)
