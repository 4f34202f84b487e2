"""The class of a module object, built again: only that shows what its constructor draws and no file keeps."""

from collections.abc import Callable

import torch
from torch import nn

Shapes = dict[str, tuple[int, ...]]


def build_twice(built: nn.Module, device: torch.device) -> tuple[nn.Module, nn.Module] | None:
    """Return two modules with different random numbers, each built as `Class()`, in eval mode.

    None where the class needs arguments, or without them makes tensors other than those of the object. Its
    shapes are made first, without values, which costs little however large it is.
    """
    kind: Callable[[], nn.Module] = type(built)
    if type(built).__module__.startswith("torch.nn."):
        return None
    try:
        with torch.device("meta"):
            if _shapes_of(kind()) != _shapes_of(built):
                return None
        first, second = (_build_with(kind, seed).to(device) for seed in (1, 2))
    except Exception:  # it needs arguments, or values
        return None
    return first, second


def _build_with(kind: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind().eval()


def _shapes_of(module: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
