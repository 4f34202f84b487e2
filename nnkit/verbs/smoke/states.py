"""Checks of what a model holds: that nothing hides from the registry, and that all of it moves along."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nnkit.errors import first_line
from nnkit.models.building import build_module
from nnkit.models.precision import convert
from nnkit.verbs.smoke.subject import Failed, Skipped, Subject, Warned, largest_difference

HOOKS = "torch.nn.utils."
DEEP = 3  # containers within containers that are looked into


def registry(subject: Subject) -> str:
    """No tensor or module hides in a plain attribute, where `.to()` and `state_dict()` pass it over."""
    module = subject.fresh()
    for name, found in hidden(module):
        told = "module" if isinstance(found, nn.Module) else "tensor"
        way = "nn.ModuleList" if told == "module" else "register_buffer or nn.ParameterList"
        raise Failed(f"{name} is a {told} out of sight; use {way}")
    return f"{len(_known(module))} tensors and modules, all registered"


def hidden(module: nn.Module) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """Yield the tensors and modules in plain attributes and containers there, with their paths."""
    known = _known(module)
    for path, each in module.named_modules():
        computed = _computed_by_torch(each)
        for name, value in vars(each).items():
            if name in ("_parameters", "_buffers", "_modules") or name in computed:
                continue
            for place, found in _held(value, name):
                if id(found) not in known:
                    yield f"{path + '.' if path else ''}{place}", found


def _computed_by_torch(module: nn.Module) -> set[str]:
    """Return the attributes that a hook of torch's (spectral norm, pruning) sets before each forward."""
    hooks = [each for each in module._forward_pre_hooks.values() if type(each).__module__.startswith(HOOKS)]
    names = (getattr(each, name, None) for each in hooks for name in ("name", "_tensor_name"))
    return {name for name in names if isinstance(name, str)}


def _known(module: nn.Module) -> set[int]:
    return {id(each) for each in (*module.parameters(), *module.buffers(), *module.modules())}


def _held(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Tensor | nn.Module]]:
    if isinstance(value, (Tensor, nn.Module)):
        yield name, value
    elif depth < DEEP and isinstance(value, (list, tuple)):
        for place, each in enumerate(value):
            yield from _held(each, f"{name}[{place}]", depth + 1)
    elif depth < DEEP and isinstance(value, dict):
        for key, each in value.items():
            yield from _held(each, f"{name}[{key!r}]", depth + 1)


def round_trip(subject: Subject) -> str:
    """A model of another seed gives the same outputs once it has this one's state dict."""
    module = subject.stirred()
    state = module.state_dict()
    other_seed = replace(subject.spec, seed=subject.spec.seed + 1, weights=None)
    other = build_module(other_seed, subject.host, subject.device)
    try:
        other.load_state_dict(state)
    except RuntimeError as error:
        raise Failed(f"its own state dict doesn't fit: {' '.join(str(error).split())[:200]}") from error
    inputs = subject.inputs()
    first, second = subject.evaluate(module, inputs), subject.evaluate(other, inputs)
    apart, name, rounding = largest_difference(first, second)
    if not rounding:
        raise Failed(f"output {name} differs by {apart:.2g} of its spread: it isn't all in the state dict")
    return f"{len(state)} tensors carry all that the outputs depend on"


def cast(subject: Subject) -> str:
    """It runs in bfloat16 after `.to(torch.bfloat16)`, and gives bfloat16 back."""
    kind = torch.bfloat16
    module = convert(subject.fresh(), kind)
    inputs = tuple(each.to(kind) if each.is_floating_point() else each for each in subject.inputs())
    try:
        outputs = subject.evaluate(module, inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise Failed(f"fails in bfloat16: {first_line(error)}") from error
    for declared, tensor in outputs:
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise Failed(f"output {declared.name} is not finite in bfloat16")
    others = [f"{each.name} is {str(tensor.dtype)[6:]}" for each, tensor in outputs if _stays(tensor, kind)]
    if others:
        raise Warned(f"in a bfloat16 model output {', '.join(others)}")
    return f"{len(outputs)} outputs"


def _stays(tensor: Tensor, kind: torch.dtype) -> bool:
    return tensor.is_floating_point() and tensor.dtype != kind


def placement(subject: Subject) -> str:
    """Forward and backward on the device, with nothing left behind or brought along from the CPU."""
    if subject.device.type == "cpu":
        raise Skipped("on the CPU everything is in its place")
    module = subject.fresh().train()
    outputs = subject.outputs(module, subject.inputs())
    for name, each in (*module.named_parameters(), *module.named_buffers()):
        if each.device.type != subject.device.type:
            raise Failed(f"{name} is on {each.device}")
    for declared, tensor in outputs:
        if tensor.device.type != subject.device.type:
            raise Failed(f"output {declared.name} is on {tensor.device}")
    return f"everything on {subject.device}"
