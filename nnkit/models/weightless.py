"""Build modules whose weights have no values: however large, they cost no time and no memory."""

import mmap
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from nnkit.models.members import named_parameters
from nnkit.models.tensors import bytes_of

# Elsewhere than on Windows, memory that is shared would be there as soon as it is read.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if sys.platform != "win32" else {}


@contextmanager
def parameters_on_meta(everything: bool = False) -> Iterator[None]:
    """Move each new parameter to the meta device when it is registered, and initialize none.

    The parameter remains the same object, with its class and attributes, for code that has kept a reference.
    Parameters that existed before, sparse ones and tensor subclasses keep their values.
    everything: create all tensors on meta. That would be simpler, but constructors that compute with
    tensors (all of torchvision's RegNets) fail under it.
    """
    register, new = nn.Module.register_parameter, nn.Parameter.__new__
    thread = threading.get_ident()
    created: dict[int, weakref.ref[nn.Parameter]] = {}

    def create_parameter(cls: type[nn.Parameter], *args: Any, **kwargs: Any) -> nn.Parameter:
        parameter = new(cls, *args, **kwargs)
        if threading.get_ident() == thread:
            created[id(parameter)] = weakref.ref(parameter)
        return parameter

    def register_parameter(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and id(parameter) in created and created[id(parameter)]() is parameter:
            _move(parameter, "meta")
        register(self, name, parameter)

    nn.Module.register_parameter = register_parameter  # type: ignore[method-assign, assignment]
    nn.Parameter.__new__ = create_parameter  # type: ignore[method-assign, assignment]
    try:
        with ExitStack() as stack:
            if everything:
                stack.enter_context(torch.device("meta"))
            stack.enter_context(_NoInitialization())
            yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
        nn.Parameter.__new__ = new  # type: ignore[method-assign]


def allocate(module: nn.Module, zeros: bool = False) -> None:
    """Allocate uninitialized memory on the CPU for the parameters on meta.

    zeros: memory that is 0 where nothing writes to it, and takes no room until then. Uninitialized memory may
    hold NaN, on which some models fail.
    """
    for parameter in named_parameters(module).values():
        if parameter.is_meta:
            _move(parameter, "cpu")
            if zeros and parameter.is_contiguous() and parameter.numel() and not parameter.is_meta:
                room = mmap.mmap(-1, bytes_of(parameter), **_PRIVATE)
                _swap(parameter, torch.frombuffer(room, dtype=parameter.dtype).view(parameter.shape))


def parameter_bytes(module: nn.Module) -> int:
    """Return the bytes that the parameters take, or would take."""
    return sum(bytes_of(parameter) for parameter in named_parameters(module).values())


def _move(parameter: Tensor, device: str) -> None:
    """Replace the contents of a plain parameter by uninitialized memory on a device; the object stays."""
    if is_lazy(parameter) or parameter.layout != torch.strided or hasattr(parameter, "__tensor_flatten__"):
        return
    # empty_like would import sympy when it is given a meta tensor.
    memory = torch.empty_strided(parameter.shape, parameter.stride(), dtype=parameter.dtype, device=device)
    _swap(parameter, memory)


def _swap(parameter: Tensor, memory: Tensor) -> None:
    other = nn.Parameter(memory, requires_grad=parameter.requires_grad)
    # Not torch.utils.swap_tensors: it refuses what has weak references, and exchanges attributes as well.
    torch._C._swap_tensor_impl(parameter, other)


class _NoInitialization(TorchFunctionMode):
    """Skips functions that fill tensors on meta with values: their kernels import sympy and torch._dynamo.

    A tensor that has values is filled as usual: an initializer may draw until the values satisfy it.
    """

    FILL = frozenset(
        {
            Tensor.normal_,
            Tensor.uniform_,
            Tensor.fill_,
            Tensor.zero_,
            Tensor.copy_,
            Tensor.mul_,
            Tensor.add_,
            Tensor.sub_,
            Tensor.div_,
            Tensor.clamp_,
            Tensor.erfinv_,
        }
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.FILL or getattr(func, "__module__", None) == "torch.nn.init":
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)
