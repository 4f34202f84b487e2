"""Whether the steps of a network can be seen from outside, or a tensor between two of them be kept.

Where they can't, a step may overwrite what the last one made. A hook may have kept it, a mode or a tracer
records each operation by its name, and a transform such as vmap gives tensors that have no memory of
their own.
"""

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook


def is_transformed() -> bool:
    """Return whether what runs now is compiled, traced, or transformed as by vmap."""
    return (
        torch.compiler.is_compiling()
        or torch.compiler.is_exporting()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or torch._C._functorch.maybe_current_level() is not None
    )


def sees_operations() -> bool:
    """Return whether a transform or a mode, such as that of a profiler of MACs, sees what runs now."""
    return (
        is_transformed()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
    )


def sees_calls(module: nn.Module) -> bool:
    """Return whether calls of this module go through a hook, or through a forward put in its place."""
    return bool(
        _has_any_global_hook()  # type: ignore[no-untyped-call]
        or "forward" in vars(module)
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
