"""What a module has registered, by name.

Read from where torch keeps it, for a module may have an attribute `modules` or `parameters` of its own.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


def named_modules(module: nn.Module) -> dict[str, nn.Module]:
    """Return the module and all beneath it by dotted name, each once, a parent before its children."""
    return dict(_named_modules(module, "", set()))


def named_parameters(module: nn.Module, remove_duplicate: bool = True) -> dict[str, Tensor]:
    """Return the parameters by dotted name, a tied one under its first name alone or under each."""
    return dict(_named_tensors(module, "_parameters", remove_duplicate))


def named_buffers(module: nn.Module, remove_duplicate: bool = True) -> dict[str, Tensor]:
    """Return the buffers by dotted name, a shared one under its first name alone or under each."""
    return dict(_named_tensors(module, "_buffers", remove_duplicate))


def is_unshaped(module: nn.Module) -> bool:
    """Whether there are lazy parameters or buffers, which get a shape when the module first runs."""
    tensors = (*named_parameters(module).values(), *named_buffers(module).values())
    return any(is_lazy(each) for each in tensors)


def set_mode(module: nn.Module, training: bool) -> None:
    """Call `train`, which may be the model's own and do more; set the flags where an attribute hides it."""
    try:
        module.train(training)
    except TypeError:  # an attribute is called `train` or `children`
        for each in named_modules(module).values():
            each.training = training


def move(module: nn.Module, device: str | torch.device) -> nn.Module:
    """Return the module with its parameters and buffers on `device`."""
    try:
        return module.to(device)
    except TypeError:  # an attribute is called `to` or `children`
        return convert_tensors(module, lambda tensor: tensor.to(device))


def convert_tensors(module: nn.Module, convert: Callable[[Tensor], Tensor]) -> nn.Module:
    """Convert the parameters and buffers of the module itself, as torch's own `to` does."""
    try:
        module._apply(convert)  # type: ignore[no-untyped-call]
    except TypeError:
        for each in named_modules(module).values():
            nn.Module._apply(each, convert, recurse=False)  # type: ignore[no-untyped-call]
    return module


def _named_modules(module: nn.Module, name: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    if module in seen:
        return
    seen.add(module)
    yield name, module
    for key, child in module._modules.items():
        if child is not None:
            yield from _named_modules(child, f"{name}.{key}" if name else key, seen)


def _named_tensors(
    module: nn.Module, kind: Literal["_parameters", "_buffers"], remove_duplicate: bool
) -> Iterator[tuple[str, Tensor]]:
    seen: set[Tensor] = set()
    for name, owner in named_modules(module).items():
        for key, tensor in getattr(owner, kind).items():
            if tensor is None or (remove_duplicate and tensor in seen):
                continue
            seen.add(tensor)
            yield f"{name}.{key}" if name else key, tensor
