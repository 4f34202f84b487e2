"""The modules, parameters and buffers that a module has registered, by name.

They are read from where torch keeps them, because a module may have its own attribute `modules` or
`parameters`.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


def named_modules(module: nn.Module) -> dict[str, nn.Module]:
    """Return the module and all its submodules by dotted name, each once, parents before children."""
    return dict(_named_modules(module, "", set()))


def named_parameters(module: nn.Module, remove_duplicate: bool = True) -> dict[str, Tensor]:
    """Return the parameters by dotted name, a tied one under its first name only or under each."""
    return dict(_named_tensors(module, "_parameters", remove_duplicate))


def named_buffers(module: nn.Module, remove_duplicate: bool = True) -> dict[str, Tensor]:
    """Return the buffers by dotted name, a shared one under its first name only or under each."""
    return dict(_named_tensors(module, "_buffers", remove_duplicate))


def is_unshaped(module: nn.Module) -> bool:
    """Whether the module has lazy parameters or buffers, which get a shape when it first runs."""
    tensors = (*named_parameters(module).values(), *named_buffers(module).values())
    return any(is_lazy(tensor) for tensor in tensors)


def set_mode(module: nn.Module, training: bool) -> None:
    """Call `train`, which the model may override; set the flags directly where an attribute hides it."""
    try:
        module.train(training)
    except TypeError:  # an attribute is named `train` or `children`
        for submodule in named_modules(module).values():
            submodule.training = training


def move(module: nn.Module, device: str | torch.device) -> nn.Module:
    """Return the module with its parameters and buffers on `device`."""
    try:
        return module.to(device)
    except TypeError:  # an attribute is named `to` or `children`
        return convert_tensors(module, lambda tensor: tensor.to(device))


def convert_tensors(module: nn.Module, convert: Callable[[Tensor], Tensor]) -> nn.Module:
    """Convert the parameters and buffers of the module itself, as torch's own `to` does."""
    try:
        module._apply(convert)  # type: ignore[no-untyped-call]
    except TypeError:
        for submodule in named_modules(module).values():
            nn.Module._apply(submodule, convert, recurse=False)  # type: ignore[no-untyped-call]
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
    module: nn.Module, attribute: Literal["_parameters", "_buffers"], remove_duplicate: bool
) -> Iterator[tuple[str, Tensor]]:
    seen: set[Tensor] = set()
    for name, owner in named_modules(module).items():
        for key, tensor in getattr(owner, attribute).items():
            if tensor is None or (remove_duplicate and tensor in seen):
                continue
            seen.add(tensor)
            yield f"{name}.{key}" if name else key, tensor
