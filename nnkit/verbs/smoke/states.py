"""Checks of what a model holds: that everything is registered, saved, cast and moved with it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import name_output, plural, shorten
from nnkit.errors import first_line
from nnkit.models.example_inputs import NAMES as EXAMPLES
from nnkit.models.precision import convert, name_of
from nnkit.verbs.smoke.judging import largest_difference, raise_without_kernel
from nnkit.verbs.smoke.original import add_noise
from nnkit.verbs.smoke.overflow import check_overflow
from nnkit.verbs.smoke.positions_in_half import Positions
from nnkit.verbs.smoke.rebuilding import build_twice
from nnkit.verbs.smoke.subject import Failed, Outputs, Subject, Warned
from nnkit.verbs.smoke.ties import NOT_TIED, build_otherwise, shared_memory

TORCH_HOOKS = "torch.nn.utils."
YOUR_OWN = "your own"  # the family of what no plugin declares
MAX_DEPTH = 3  # levels of containers within containers that are searched
MAX_MESSAGE = 200  # characters of torch's list of missing and unexpected keys


def registry(subject: Subject) -> str:
    """No tensor or module hides in a plain attribute, where `.to()` and `state_dict()` miss it."""
    module = subject.copy()
    for name, value in find_unregistered(module):
        if isinstance(value, nn.Module):
            raise Failed(f"{name} is an unregistered module; use nn.ModuleList")
        raise Failed(f"{name} is an unregistered tensor; use register_buffer or nn.ParameterList")
    count = len(_registered_ids(module))
    for name, other in shared_memory(subject.built):
        raise Failed(f"{other} and {name} share one memory, but {NOT_TIED}")
    before = {name for name, _ in module.named_parameters()}
    after = subject.first_run().module
    if made := [name for name, _ in after.named_parameters() if name not in before]:
        raise Failed(
            f"{shorten(made)} did not exist before the first forward: no optimizer has "
            f"{'it' if len(made) == 1 else 'them'}, and no state dict loads"
        )
    if repeated := _find_repeated(after):
        raise Warned(f"{shorten(repeated)} are one module, not {len(repeated)}")
    return f"{count} tensors and modules, all registered"


def _find_repeated(module: nn.Module) -> list[str]:
    """Return the names under which a list holds one module with weights again and again."""
    for path, container in module.named_modules():
        if isinstance(container, (nn.ModuleList, nn.Sequential)):
            names: dict[int, list[str]] = {}
            for index, item in enumerate(container):
                if next(item.parameters(), None) is not None:
                    names.setdefault(id(item), []).append(f"{path}.{index}".lstrip("."))
            if repeated := next((found for found in names.values() if len(found) > 1), None):
                return repeated
    return []


def find_unregistered(module: nn.Module) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """Yield the tensors and modules in plain attributes and the containers there, with their paths.

    Example inputs, which a class keeps for tools to find, are no part of the model.
    """
    registered = _registered_ids(module)
    for path, submodule in module.named_modules():
        others = {"_parameters", "_buffers", "_modules", *EXAMPLES, *_attributes_of_hooks(submodule)}
        for attribute, value in vars(submodule).items():
            if attribute in others:
                continue
            for name, item in _search(value, attribute):
                if id(item) not in registered:
                    yield f"{path}.{name}" if path else name, item


def list_unmoved(module: nn.Module) -> Iterator[tuple[int, str]]:
    """Yield the identity and the name of each tensor that `.to()` doesn't move."""
    for name, value in find_unregistered(module):
        if isinstance(value, nn.Module):
            for tensor_name, tensor in (*value.named_parameters(), *value.named_buffers()):
                yield id(tensor), f"{name}.{tensor_name}"
        else:
            yield id(value), name


def _attributes_of_hooks(module: nn.Module) -> set[str]:
    """Return the attributes that a hook of torch's (spectral norm, pruning) sets before each forward."""
    names = set()
    for hook in module._forward_pre_hooks.values():
        if type(hook).__module__.startswith(TORCH_HOOKS):
            names |= {getattr(hook, "name", None), getattr(hook, "_tensor_name", None)}
    return {name for name in names if isinstance(name, str)}


def _registered_ids(module: nn.Module) -> set[int]:
    return {id(item) for item in (*module.parameters(), *module.buffers(), *module.modules())}


def _search(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """Yield the tensors and modules in a value, with names such as `layers[0]` or `heads['a']`."""
    if isinstance(value, (Tensor, nn.Module)):
        yield name, value
    elif depth < MAX_DEPTH and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _search(item, f"{name}[{index}]", depth + 1)
    elif depth < MAX_DEPTH and isinstance(value, dict):
        for key, item in value.items():
            yield from _search(item, f"{name}[{key!r}]", depth + 1)


def round_trip(subject: Subject) -> str:
    """A model built with a different seed gives the same outputs after loading this state dict."""
    for name, first in shared_memory(subject.built):
        raise Failed(f"a reload sets {first} and {name} one after the other, which share one memory")
    is_object = _is_object(subject.spec)
    if is_object and (rebuilt := build_twice(subject.built, subject.device)):
        module, other = rebuilt
        add_noise(module)
        state = module.state_dict()
        _load(other, state)
        _compare_reloaded(subject, subject.evaluate(module, subject.inputs()), other)
    else:
        with subject.noise():
            state, outputs = subject.copy().state_dict(), subject.first_run().outputs

            def check(other: nn.Module) -> None:
                _load(other, state)
                _compare_reloaded(subject, outputs, other)

            build_otherwise(subject, check)
        if is_object:
            return (
                f"{plural(len(state), 'tensor')}, loaded into a copy; what its constructor draws is unknown"
            )
    return f"{plural(len(state), 'tensor')}, and the outputs depend on nothing else"


def _load(other: nn.Module, state: dict[str, Any]) -> None:
    try:
        other.load_state_dict(state)
    except RuntimeError as error:
        message = " ".join(str(error).split())[:MAX_MESSAGE]
        raise Failed(f"the model can't load its own state dict: {message}") from error


def _compare_reloaded(subject: Subject, outputs: Outputs, other: nn.Module) -> None:
    """Raise Failed where a module that was loaded gives other outputs."""
    others = subject.evaluate(other, subject.inputs())
    apart, name, rounding = largest_difference(outputs, others)
    if not rounding:
        raise Failed(
            f"{name_output(name)} differs by {apart:.2g}× its spread after a reload: "
            "the state dict lacks something"
        )


def _is_object(spec: ModelSpec) -> bool:
    """Whether the model is a module that Python gave, of which a build is a copy."""
    return spec.architecture.family == YOUR_OWN and not spec.architecture.typed


def cast(subject: Subject) -> str:
    """After `.to(torch.bfloat16)` it runs in bfloat16 and returns it; in float16 nothing overflows."""
    dtype = torch.bfloat16
    outputs = _run_in_half(subject, dtype)
    check_overflow(subject)
    unchanged = [
        f"{declared.name} is {name_of(tensor.dtype)}"
        for declared, tensor in outputs
        if tensor.is_floating_point() and tensor.dtype != dtype
    ]
    if unchanged:
        raise Warned(f"in a bfloat16 model output {', '.join(unchanged)}")
    return plural(len(outputs), "output")


def _run_in_half(subject: Subject, dtype: torch.dtype) -> Outputs:
    """Return the outputs of a converted copy. Raises Failed if they aren't finite, or positions collide."""
    module = convert(subject.copy(), dtype)
    inputs = tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in subject.inputs())
    positions = Positions(dtype)
    try:
        with positions:
            outputs = subject.evaluate(module, inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise_without_kernel(error, subject.device)
        raise Failed(f"fails in bfloat16: {first_line(error)}") from error
    for declared, tensor in outputs:
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise Failed(f"{name_output(declared.name)} is not finite in bfloat16")
    if problem := positions.problem_with(subject.sizes, subject.spec.sizes):
        raise Failed(problem)
    return outputs
