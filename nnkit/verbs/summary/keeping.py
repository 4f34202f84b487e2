"""Restores a module after a run: its attributes, buffers, modes and gradients."""

import types
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.models.members import is_unshaped, named_buffers, named_modules, named_parameters
from nnkit.models.tensors import storages_of, tensors_in

NO_STATE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


class Snapshot:
    """A module's attributes, their contents, its tensors and its inputs, which `restore` puts back.

    Attributes are followed through lists, dicts, sets and objects of the user's own classes. Buffers are
    copied beforehand, other tensors by `before_write`. Values that change unseen can't be put back.
    replaced: after `restore`, the storages of tensors that the run gave a new one.
    """

    def __init__(self, module: nn.Module, inputs: Any = ()) -> None:
        self.states: dict[int, tuple[Any, Any]] = {}
        self.tensors: dict[int, tuple[Tensor, Tensor]] = {}
        self.copies: dict[int, tuple[Tensor, int, Tensor]] = {}
        self.by_storage: dict[int, list[Tensor]] = {}
        self.written: set[int] = set()
        self.replaced: set[int] = set()
        self.gradients: list[tuple[Tensor, bool, Tensor | None]] = []
        parameters, buffers = named_parameters(module).values(), named_buffers(module).values()
        self.modes = {submodule: submodule.training for submodule in named_modules(module).values()}
        for tensor in (*parameters, *buffers, *tensors_in(inputs)):
            self._watch(tensor)
        for buffer in buffers:
            self._copy(buffer)
        if not is_unshaped(module):  # a lazy module changes its class
            self._note(module)

    def before_write(self, tensor: Tensor) -> None:
        """Copy every tensor that shares its storage with `tensor`, which is about to be written to."""
        for storage in storages_of(tensor):
            for sharer in self.by_storage.get(storage, ()):
                self._copy(sharer)
                self.written.add(id(sharer))

    def restore(self) -> None:
        """Put everything back."""
        for module, mode in self.modes.items():
            module.training = mode
        for state, content in self.states.values():
            _fill(state, content)
        with torch.no_grad():
            for tensor, held in self.tensors.values():
                if _storage(tensor) != _storage(held):
                    self.replaced.add(_storage(held))
                    tensor.data = held
            for key, (tensor, version, before) in self.copies.items():
                # A write to `data` doesn't change the version.
                if key in self.written or tensor._version != version:
                    tensor.copy_(before)
            for tensor, needed, gradient in self.gradients:
                tensor.grad = gradient
                tensor.requires_grad_(needed)

    def _note(self, value: Any) -> None:
        """Record the contents of a container or an object, however nested."""
        if isinstance(value, Tensor):
            self._watch(value)
        elif isinstance(value, tuple):
            for element in value:
                self._note(element)
        elif (state := _state_of(value)) is not None and id(state) not in self.states:
            content = state.copy()
            self.states[id(state)] = state, content
            for element in list(content.values() if isinstance(content, dict) else content):
                self._note(element)

    def _watch(self, tensor: Tensor) -> None:
        if _has_values(tensor) and id(tensor) not in self.tensors:
            self.tensors[id(tensor)] = tensor, tensor.detach()
            self.by_storage.setdefault(_storage(tensor), []).append(tensor)
            if tensor.is_leaf:
                self.gradients.append((tensor, tensor.requires_grad, tensor.grad))
                if tensor.grad is not None:
                    self._watch(tensor.grad)

    def _copy(self, tensor: Tensor) -> None:
        if _has_values(tensor) and id(tensor) not in self.copies:
            self.copies[id(tensor)] = tensor, tensor._version, tensor.detach().clone()


def _has_values(tensor: Tensor) -> bool:
    """Whether a tensor is a plain one, with its own memory that may be written to."""
    if is_lazy(tensor) or tensor.is_meta or tensor.is_nested or tensor.is_inference():
        return False
    return tensor.layout == torch.strided and not hasattr(tensor, "__tensor_flatten__")


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _state_of(value: Any) -> Any:
    """Return the container that holds the state of `value`, None if it has none."""
    if isinstance(value, (list, dict, set, deque)):
        return value
    if isinstance(value, (NO_STATE, torch.jit.ScriptModule)):
        return None
    if not isinstance(value, nn.Module) and type(value).__module__.partition(".")[0] == "torch":
        return None
    state = getattr(value, "__dict__", None)
    return state if isinstance(state, dict) else None


def _fill(state: Any, content: Any) -> None:
    """Make a container hold the same objects as `content`, unless it does already."""
    same = len(state) == len(content)
    if isinstance(state, dict):
        same = same and all(name in state and state[name] is value for name, value in content.items())
    elif isinstance(state, set):
        same = same and state == content
    else:
        same = same and all(one is other for one, other in zip(state, content, strict=True))
    if not same:
        state.clear()
        (state.extend if isinstance(state, (list, deque)) else state.update)(content)
