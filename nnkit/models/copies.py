"""Copies of a module to run, so that the module itself stays as it was built."""

import copy
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.models.members import named_modules, named_parameters

M = TypeVar("M", bound=nn.Module)
NONE: Mapping[int, nn.Parameter] = MappingProxyType({})
COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
PLAIN_TYPES = (bool, int, float, str, type(None))


def copy_of(module: M, own: Collection[Tensor] = (), replaced: Mapping[int, nn.Parameter] = NONE) -> M:
    """Return a copy with its own buffers and attributes; parameters are shared, to save memory.

    own: parameters that are copied too, with all that lie at the same place. replaced: others to use in place
    of parameters, by the id of each.
    """
    parameters = list(named_parameters(module).values())
    places = {_place_of(parameter) for parameter in own} - {None}
    ids = {id(parameter) for parameter in own}
    copied = [each for each in parameters if id(each) in ids or _place_of(each) in places]
    ids = {id(parameter) for parameter in copied}
    shared = {id(each): each for each in parameters if id(each) not in ids and not is_lazy(each)}
    return copy.deepcopy(module, {**_refused_in(module), **_copy_sharing(copied), **shared, **replaced})


def sharing_copy_of(module: M) -> M:
    """Return a copy with its own buffers, attributes and parameters; the latter lie in the module's memory.

    A parameter of the copy has its own gradient and dtype. What writes to it writes to the module's too, and
    torch's count of writes (`_version`) is the same for both.
    """
    shared: dict[int, object] = {
        id(parameter): nn.Parameter(parameter.detach(), parameter.requires_grad)
        for parameter in named_parameters(module).values()
        if is_shared(parameter)
    }
    return copy.deepcopy(module, {**_refused_in(module), **shared})


def is_shared(parameter: Tensor) -> bool:
    """Whether `sharing_copy_of` shares the memory of a parameter: one of a class of its own is copied."""
    return type(parameter) is nn.Parameter and parameter.layout == torch.strided


def whole_copy_of(module: M) -> M:
    """Return a copy that shares nothing with the module; what shares one memory in it still does."""
    return copy.deepcopy(module, {**_copy_sharing(named_parameters(module).values()), **_refused_in(module)})


def _place_of(parameter: Tensor) -> tuple[object, ...] | None:
    """Return where a plain parameter lies in memory and how, None for any other."""
    if type(parameter) is not nn.Parameter or not parameter.numel() or parameter.layout != torch.strided:
        return None
    address = parameter.data_ptr()
    return (address, parameter.shape, parameter.stride(), parameter.dtype) if address else None


def _copy_sharing(parameters: Iterable[Tensor]) -> dict[int, object]:
    """Return copies of parameters that lie at one place in memory: deepcopy would part them."""
    groups: dict[tuple[object, ...], list[Tensor]] = {}
    for parameter in parameters:
        if (place := _place_of(parameter)) is not None:
            groups.setdefault(place, []).append(parameter)
    copies: dict[int, object] = {}
    for group in groups.values():
        if len(group) > 1:
            data = group[0].detach().clone()
            copies |= {id(parameter): nn.Parameter(data, parameter.requires_grad) for parameter in group}
    return copies


def _refused_in(module: nn.Module) -> dict[int, object]:
    """Return copies of the tensors that deepcopy refuses, by identity.

    These are tensors in compressed layouts, and attributes that were computed from parameters: torch's old
    weight_norm computes its weight again before each call.
    """
    copies: dict[int, object] = {}
    for submodule in named_modules(module).values():
        values = (*submodule._parameters.values(), *submodule._buffers.values(), *vars(submodule).values())
        for value in values:
            if isinstance(value, Tensor) and (value.layout in COMPRESSED or not value.is_leaf):
                plain = value.detach().clone()
                is_parameter = isinstance(value, nn.Parameter)
                copies[id(value)] = nn.Parameter(plain, value.requires_grad) if is_parameter else plain
    return copies


def state_of(module: nn.Module) -> Mapping[str, object]:
    """Return a copy of what forward may change: buffers, and attributes that are tensors or plain."""
    state: dict[str, object] = {f"buffer {name!r}": buffer.clone() for name, buffer in module.named_buffers()}
    for path, submodule in module.named_modules():
        for name, value in vars(submodule).items():
            key = f"attribute {'.'.join(filter(None, (path, name)))!r}"
            if isinstance(value, Tensor):
                state[key] = value.detach().clone()
            elif isinstance(value, PLAIN_TYPES):
                state[key] = value
    return state


def changed_between(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return the names of what is new in a state, or differs."""
    return [name for name, value in after.items() if name not in before or not _equal(before[name], value)]


def _equal(first: object, second: object) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        return bool(((first == second) | (first.isnan() & second.isnan())).all())
    return type(first) is type(second) and first == second
