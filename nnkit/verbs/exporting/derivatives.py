"""Turn a module that differentiates in its own forward into one that computes derivatives by operators.

torch.export has no operator for torch.autograd.grad, so a model that returns forces, the gradient of an
energy, couldn't be exported. Tracing with gradients writes out what such a call computes.
"""

import functools
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map

from nnkit.models.copies import copy_of


def write_out_derivatives(module: nn.Module, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> nn.Module:
    """Return a copy of `module` with the same parameters, whose forward differentiates nothing.

    args, keywords: example inputs; sizes stay symbolic.
    """
    original, replaced = copy_of(module), copy_of(module)

    def run(state: dict[str, Tensor], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return functional_call(original, state, args, keywords)

    def clone(value: Any) -> Any:
        return value.detach().clone() if isinstance(value, Tensor) else value

    with torch.enable_grad():
        graph = make_fx(run, tracing_mode="symbolic")(
            {name: tensor.detach() for name, tensor in _state_of(replaced).items()},
            tree_map(clone, args),
            tree_map(clone, dict(keywords)),
        )

    @functools.wraps(type(module).forward)
    def forward(self: nn.Module, *args: Any, **keywords: Any) -> Any:
        return graph(_state_of(self), args, keywords)

    replaced.forward = types.MethodType(forward, replaced)
    return replaced


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
