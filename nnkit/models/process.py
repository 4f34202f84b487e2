"""What a verb shares with the rest of the process: its threads, and the context that torch is in.

A verb patches parts of torch while it observes a model, so only one thread at a time runs a verb, and others
wait. A verb gives the same result whatever context its caller has set in torch.
"""

import ctypes
import functools
import os
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import nn

P = ParamSpec("P")
T = TypeVar("T")

# Options of mallopt in glibc, and sizes of blocks in bytes: the second is where glibc itself ends.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
GIVEN_BACK, MOST_KEPT = 2**18, 2**25

_VERB = threading.RLock()  # reentrant: a verb may call a verb


def one_at_a_time(verb: Callable[P, T]) -> Callable[P, T]:
    """Let only one thread at a time run any of the functions decorated with this."""

    @functools.wraps(verb)
    def wait_and_run(*args: P.args, **kwargs: P.kwargs) -> T:
        with _VERB:
            return verb(*args, **kwargs)

    return wait_and_run


@contextmanager
def neutral_torch(plugin: str, module: "nn.Module | None" = None) -> Iterator[None]:
    """Run in the context that torch starts with; afterwards restore the caller's.

    This turns off inference_mode, no_grad, autocast, modes such as FakeTensorMode, a default device and a
    default dtype. Two of them stay where the user's own code needs them: it may have set the default dtype
    when it was imported, and a `module` that is already built may be on the default device. Random states
    are restored. plugin: the one that declares the model; empty for the user's own.
    """
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda", "xpu", "mps"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch._C._len_torch_dispatch_stack():
            stack.enter_context(torch.utils._python_dispatch._disable_current_modes())
        if module is None or not _is_on_default_device(module):
            stack.enter_context(_without_function_modes())
        if plugin:
            stack.enter_context(_default_dtype(torch.float32))
        stack.enter_context(random_states_kept(_accelerators_in_use()))
        yield


def _accelerators_in_use() -> "list[torch.device]":
    import torch

    if not torch.cuda.is_available() or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return []
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]


@contextmanager
def random_states_kept(devices: "Iterable[torch.device]" = ()) -> Iterator[None]:
    """Restore the random states of torch (CPU and `devices`), Python and NumPy at the end."""
    import torch

    accelerators = [device for device in devices if device.type not in ("cpu", "meta")]
    device_types = {device.type for device in accelerators} or {"cuda"}
    numpy = sys.modules.get("numpy")
    python_state, numpy_state = random.getstate(), numpy and numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=accelerators, device_type=device_types.pop()):
            yield
    finally:
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)


def _is_on_default_device(module: "nn.Module") -> bool:
    import torch

    from nnkit.models.members import named_parameters

    default = torch.get_default_device().type
    return default == "cpu" or any(
        tensor.device.type == default for tensor in named_parameters(module).values()
    )


@contextmanager
def _without_function_modes() -> Iterator[None]:
    """Remove all torch function modes from their stack; a default device is one of them."""
    import torch
    from torch import overrides

    pop: Callable[[], Any] = overrides._pop_mode
    push: Callable[[Any], None] = overrides._push_mode
    modes = [pop() for _ in range(torch._C._len_torch_function_stack())]
    try:
        yield
    finally:
        for mode in reversed(modes):
            push(mode)


@contextmanager
def _default_dtype(dtype: "torch.dtype") -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def give_back_memory() -> None:
    """Give memory that was freed back to the system.

    The C library of Linux keeps what it expects to need again. After many tensors of different sizes that can
    be as much as a large model.
    """
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def memory_given_back() -> Iterator[None]:
    """Give large blocks back to the system as soon as they are freed, for the length of the block.

    The C library of Linux begins by doing so, and keeps ever larger ones once such have been freed. That
    saves time where blocks come and go, and takes memory where a model is read and let go.
    """
    is_tuned = any(name in os.environ for name in ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_"))
    set_option = None if is_tuned else getattr(_c_library(), "mallopt", None)
    give_back_memory()
    if set_option is not None:
        set_option(MMAP_THRESHOLD, GIVEN_BACK)
    try:
        yield
    finally:
        if set_option is not None:
            set_option(MMAP_THRESHOLD, MOST_KEPT)
            set_option(TRIM_THRESHOLD, 2 * MOST_KEPT)
        give_back_memory()


def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
