"""Checks of what a model holds: that everything is registered, saved, cast and moved with it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.contract.text import plural, shorten
from nnkit.errors import first_line
from nnkit.models.building import build_module
from nnkit.models.precision import convert, name_of
from nnkit.verbs.smoke.overflow import check_overflow
from nnkit.verbs.smoke.positions_in_half import Positions
from nnkit.verbs.smoke.subject import (
    Failed,
    Skipped,
    Subject,
    Warned,
    largest_difference,
    raise_without_kernel,
)

TORCH_HOOKS = "torch.nn.utils."
MAX_DEPTH = 3  # levels of containers within containers that are searched
MAX_MESSAGE = 200  # characters of torch's list of missing and unexpected keys


def registry(subject: Subject) -> str:
    """No tensor or module hides in a plain attribute, where `.to()` and `state_dict()` miss it."""
    module = subject.fresh()
    for name, value in find_unregistered(module):
        if isinstance(value, nn.Module):
            raise Failed(f"{name} is an unregistered module; use nn.ModuleList")
        raise Failed(f"{name} is an unregistered tensor; use register_buffer or nn.ParameterList")
    count = len(_registered_ids(module))
    for name, other in shared_memory(subject.built):
        raise Failed(f"{other} and {name} share one memory, but {_NOT_TIED}")
    before = {name for name, _ in module.named_parameters()}
    subject.evaluate(module, subject.inputs())
    if made := [name for name, _ in module.named_parameters() if name not in before]:
        raise Failed(
            f"{shorten(made)} did not exist before the first forward: no optimizer has "
            f"{'it' if len(made) == 1 else 'them'}, and no state dict loads"
        )
    if repeated := _find_repeated(module):
        raise Warned(f"{shorten(repeated)} are one module, not {len(repeated)}")
    return f"{count} tensors and modules, all registered"


_NOT_TIED = "are two parameters: assign the parameter itself, not its data"


def shared_memory(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of two different parameters that lie at one place in memory."""
    seen: dict[tuple[int, int], tuple[str, nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if is_lazy(parameter) or parameter.layout != torch.strided or not parameter.numel():
            continue
        first, other = seen.setdefault((parameter.data_ptr(), parameter.numel()), (name, parameter))
        if other is not parameter and parameter.data_ptr():
            yield name, first


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


def tied(subject: Subject) -> str:
    """Parameters that are declared tied are one tensor, and still are after a reload."""
    groups = [tuple(group) for group in subject.spec.architecture.tied]
    if not groups:
        raise Skipped("no parameters are declared tied")
    module = subject.fresh()
    _check_tied(module, subject.built, groups)
    other = _build_otherwise(subject)
    other.load_state_dict(module.state_dict())
    _check_tied(other, other, groups, " after a reload")
    for first, *_ in groups:
        if not torch.equal(_find_parameter(other, first), _find_parameter(module, first)):
            raise Failed(f"{first} is different after a reload")
    return ", ".join(" = ".join(group) for group in groups)


def _check_tied(module: nn.Module, built: nn.Module, groups: Sequence[Sequence[str]], when: str = "") -> None:
    for first, *others in groups:
        for name in others:
            if _find_parameter(module, name) is _find_parameter(module, first):
                continue
            shares = _find_parameter(built, name).data_ptr() == _find_parameter(built, first).data_ptr()
            problem = f"share one memory, but {_NOT_TIED}" if shares else "are two parameters, not one"
            raise Failed(f"{first} and {name} {problem}{when}")


def _find_parameter(module: nn.Module, name: str) -> Tensor:
    path, _, attribute = name.rpartition(".")
    try:
        parameter = getattr(module.get_submodule(path), attribute)
    except AttributeError:
        parameter = None
    if not isinstance(parameter, Tensor):
        raise Failed(f"it has no parameter {name}, which is declared tied")
    return parameter


def _build_otherwise(subject: Subject) -> nn.Module:
    """Return the model built with a different seed and without weights from a file."""
    return build_module(
        replace(subject.spec, seed=subject.spec.seed + 1, weights=None), subject.host, subject.device
    )


def find_unregistered(module: nn.Module) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """Yield the tensors and modules in plain attributes and the containers there, with their paths."""
    registered = _registered_ids(module)
    for path, submodule in module.named_modules():
        computed = _attributes_of_hooks(submodule)
        for attribute, value in vars(submodule).items():
            if attribute in ("_parameters", "_buffers", "_modules") or attribute in computed:
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
    module = subject.with_noise()
    state = module.state_dict()
    other = _build_otherwise(subject)
    for name, first in shared_memory(subject.built):
        raise Failed(f"a reload sets {first} and {name} one after the other, which share one memory")
    try:
        other.load_state_dict(state)
    except RuntimeError as error:
        message = " ".join(str(error).split())[:MAX_MESSAGE]
        raise Failed(f"the model can't load its own state dict: {message}") from error
    inputs = subject.inputs()
    outputs, others = subject.evaluate(module, inputs), subject.evaluate(other, inputs)
    apart, name, rounding = largest_difference(outputs, others)
    if not rounding:
        raise Failed(
            f"output {name} differs by {apart:.2g}× its spread after a reload: the state dict lacks something"
        )
    return f"{plural(len(state), 'tensor')}, and the outputs depend on nothing else"


def cast(subject: Subject) -> str:
    """After `.to(torch.bfloat16)` it runs in bfloat16 and returns it; in float16 nothing overflows."""
    dtype = torch.bfloat16
    module = convert(subject.fresh(), dtype)
    inputs = tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in subject.inputs())
    positions = Positions(dtype)
    try:
        with positions:
            outputs = subject.evaluate(module, inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise_without_kernel(error, subject.device)
        raise Failed(f"fails in bfloat16: {first_line(error)}") from error
    floating = [(declared.name, tensor) for declared, tensor in outputs if tensor.is_floating_point()]
    for name, tensor in floating:
        if not tensor.isfinite().all():
            raise Failed(f"output {name} is not finite in bfloat16")
    if problem := positions.problem_with(subject.sizes, subject.spec.sizes):
        raise Failed(problem)
    check_overflow(subject)
    unchanged = [f"{name} is {name_of(tensor.dtype)}" for name, tensor in floating if tensor.dtype != dtype]
    if unchanged:
        raise Warned(f"in a bfloat16 model output {', '.join(unchanged)}")
    return plural(len(outputs), "output")
