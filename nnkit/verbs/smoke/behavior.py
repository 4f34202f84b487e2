"""Checks of how a model treats its inputs and its state: batch sizes and side effects.

Values are compared on a copy with a little noise on every parameter: a head or a gate that starts at zero
would hide every difference.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nnkit.contract.text import name_output, plural
from nnkit.errors import first_line
from nnkit.models.tensors import registered
from nnkit.models.user_lines import failing_line
from nnkit.verbs.smoke.backward import first_training_run
from nnkit.verbs.smoke.judging import batch_axis, largest_difference
from nnkit.verbs.smoke.rows import check_rows
from nnkit.verbs.smoke.states import find_unregistered
from nnkit.verbs.smoke.subject import Failed, FirstRun, Outputs, Skipped, Subject, Warned

BATCHES = (1, 3)  # a single sample, and a number that no power of two divides
PLAIN = (bool, int, float, str)
Snapshot = dict[str, Any]


def batch_sizes(subject: Subject) -> str:
    """It runs with a batch of one and with an odd one."""
    if "batch" not in subject.sizes:
        raise Skipped("the inputs have no dim named batch")
    if subject.has_fixed_batch:
        check_rows(subject)
        raise Skipped("it runs only with the rows of the example, which are no samples: one sees another")
    allowed = [{**subject.sizes, "batch": size} for size in BATCHES if subject.allows_batch(size)]
    if not allowed:
        raise Skipped(f"a batch of {BATCHES[0]} or {BATCHES[1]} is not allowed")
    module = subject.copy()
    for sizes in allowed:
        size = sizes["batch"]
        try:
            outputs = subject.evaluate(module, subject.inputs(sizes=sizes))
        except (RuntimeError, ValueError, IndexError) as error:
            raise Failed(f"fails with a batch of {size}: {first_line(error)}") from error
        for declared, tensor in outputs:
            axis = batch_axis(declared)
            if axis is not None and tensor.shape[axis] != size:
                raise Failed(
                    f"{name_output(declared.name)} has {tensor.shape[axis]} rows for a batch of {size}"
                )
    if problem := _problem_in_training(subject, allowed[0]):
        raise Warned(problem)
    return f"batches of {' and '.join(str(sizes['batch']) for sizes in allowed)}"


def _problem_in_training(subject: Subject, sizes: Mapping[str, int]) -> str:
    """Return why a batch norm can't be trained with a batch of one, as the last of an epoch may be."""
    if sizes["batch"] != 1 or not any(isinstance(item, _BatchNorm) for item in subject.built.modules()):
        return ""
    line = _line_of_one_value(subject, sizes)
    whole = {**subject.spec.sizes, "batch": 1}
    if line and whole != sizes and subject.allows(whole):
        # What is left of a picture that the checks cut may be one value where the whole one has more.
        line = _line_of_one_value(subject, whole)
    return f"a batch of 1 can't be trained: batch norm sees one value per channel, at {line}" if line else ""


def _line_of_one_value(subject: Subject, sizes: Mapping[str, int]) -> str:
    """Return the line at which batch norm refuses to be trained on one value per channel, or nothing."""
    try:
        subject.outputs(subject.copy().train(), subject.inputs(sizes=sizes))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return str(failing_line(error) or "its forward")
    return ""


def eval_state(subject: Subject) -> str:
    """A run in eval mode leaves parameters, buffers and attributes as they were."""
    module = subject.first_run().module
    before = subject.copy()  # if they share parameters, these were compared when the run was over
    tensors, attributes = registered(before), _copy_attributes(before)
    changed = [
        name for name, tensor in registered(module).items() if not _are_equal(tensors.get(name), tensor)
    ]
    if changed or any(True for _ in find_unregistered(module)):
        after = {**_copy_tensors(module), **_copy_attached(module)}
        subject.evaluate(module, subject.inputs())
        again = {**_copy_tensors(module), **_copy_attached(module)}
        moving = [name for name, tensor in again.items() if not _are_equal(after.get(name), tensor)]
        if moving:
            raise Failed(f"{moving[0]} changed during a run in eval mode")
    if changed:
        raise Warned(f"{changed[0]} is set by the first run in eval mode, and then stays the same")
    defaults = _class_attributes(module)
    changed = [
        name
        for name, value in _copy_attributes(module).items()
        if attributes.get(name, defaults.get(name, value)) != value
    ]
    if changed:
        _compare_training(subject, module, changed[0])
        raise Warned(f"attribute {changed[0]} changed during a run in eval mode")
    return f"{plural(len(tensors), 'tensor')} and {plural(len(attributes), 'attribute')}"


def _compare_training(subject: Subject, evaluated: nn.Module, attribute: str) -> None:
    """Raise Failed where a run in training mode differs once the model has run in eval mode."""
    outputs = []
    for module in (subject.copy(), subject.copy(), evaluated):
        with subject.seeded():
            outputs.append(subject.outputs(module.train(), subject.inputs()))
    if not _differ(outputs[0], outputs[1]) and _differ(outputs[0], outputs[2]):
        raise Failed(
            f"attribute {attribute} changed during a run in eval mode, and training is different after it"
        )


def _copy_tensors(module: nn.Module) -> Snapshot:
    return {name: tensor.clone() for name, tensor in registered(module).items()}


def _copy_attached(module: nn.Module) -> Snapshot:
    """Return copies of the tensors in plain attributes and the containers there: a state kept from a run."""
    return {
        name: value.detach().clone() for name, value in find_unregistered(module) if isinstance(value, Tensor)
    }


def _copy_attributes(module: nn.Module) -> Snapshot:
    return {
        f"{path}.{name}".lstrip("."): value
        for path, submodule in module.named_modules()
        for name, value in vars(submodule).items()
        if isinstance(value, PLAIN) and name != "training"
    }


def _class_attributes(module: nn.Module) -> Snapshot:
    """Return the attributes that a run may hide by setting them on the module."""
    return {
        f"{path}.{name}".lstrip("."): value
        for path, submodule in module.named_modules()
        for name, value in vars(type(submodule)).items()
        if isinstance(value, PLAIN)
    }


def _are_equal(before: Tensor | None, after: Tensor) -> bool:
    if before is None or before.shape != after.shape:
        return False
    if before.layout == torch.strided and before.data_ptr() == after.data_ptr():
        return True
    return bool(torch.equal(before, after))


def inputs_unchanged(subject: Subject) -> str:
    """Forward and backward leave the inputs as they were."""
    for name in subject.first_run().changed_inputs:
        raise Failed(f"forward modifies its input {name} in eval mode")
    training = first_training_run(subject)
    if training.outputs is None:
        training.raise_error()
    for name in training.changed_inputs:
        raise Failed(f"forward modifies its input {name} in training mode")
    return ", ".join(tensor.name for tensor in subject.spec.inputs)


def input_effect(subject: Subject) -> str:
    """Changing any one input changes an output."""
    with subject.noise():
        return _vary_each_input(subject, subject.first_run())


def _vary_each_input(subject: Subject, first: FirstRun) -> str:
    inputs, others = subject.inputs(), subject.inputs(seed=1)
    module, outputs, varied = first.module, first.outputs, []
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


def in_place(subject: Subject) -> str:
    """With every `inplace` turned off, the outputs are the same: none overwrites what is still needed."""
    named = subject.built.named_modules()
    names = [name for name, item in named if getattr(item, "inplace", False) is True]
    if not names:
        raise Skipped("no layer works in place")
    with subject.noise():
        first = subject.first_run()
        module, outputs = first.module, first.outputs
        for name in names:
            module.get_submodule(name).inplace = False  # type: ignore[assignment]
        _, output, same = largest_difference(outputs, subject.evaluate(module, subject.inputs()))
        if same:
            return f"{plural(len(names), 'layer')} in place, same outputs without"
        blamed = next((name for name in names if _changes_alone(subject, name, outputs)), names[0])
    raise Failed(
        f"{blamed} overwrites what is still needed: without inplace=True, {name_output(output)} is different"
    )


def _changes_alone(subject: Subject, name: str, outputs: Outputs) -> bool:
    module = subject.copy()
    module.get_submodule(name).inplace = False  # type: ignore[assignment]
    return not largest_difference(outputs, subject.evaluate(module, subject.inputs()))[2]
