"""What pytest-torch says of a bare module, where it is installed: the strongest other tool for one.

Its checks without code (`pytest --torch-model=…`), and the check of every parameter's gradient beside them.
"""

import copy
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nnkit.models.tensors import tensors_in

AVAILABLE = importlib.util.find_spec("pytest_torch") is not None
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}  # its own for models of zoos


def caught(module: nn.Module, inputs: list[Any], all_gradients: bool = True) -> list[str]:
    """Return the names of the checks that fail; none where it isn't installed."""
    return [name for name, run in _checks(module, tuple(inputs), all_gradients) if _fails(run)]


def _checks(
    module: nn.Module, inputs: tuple[Any, ...], all_gradients: bool
) -> Iterator[tuple[str, Callable[[], Any]]]:
    if not AVAILABLE:
        return
    import pytest_torch

    def build() -> nn.Module:
        return copy.deepcopy(module)

    yield "contract", lambda: pytest_torch.check_inference_contract(build(), inputs, **TOLERANCE)
    yield "layout", lambda: pytest_torch.assert_layout_invariant(build(), inputs, **TOLERANCE)
    yield (
        "checkpoint",
        lambda: pytest_torch.assert_checkpoint_roundtrip(build, inputs, model=build(), **TOLERANCE),
    )
    yield "finite", lambda: pytest_torch.assert_gradients_finite(build().train(), inputs, _loss)
    if all_gradients:
        yield "gradients", lambda: pytest_torch.assert_all_params_receive_grad(build().train(), inputs, _loss)


def _fails(run: Callable[[], Any]) -> bool:
    try:
        run()
    except Exception:
        return True
    return False


def _loss(output: Any) -> Tensor:
    terms = [tensor.mean() for tensor in tensors_in(output) if tensor.requires_grad]
    return torch.stack(terms).sum()
