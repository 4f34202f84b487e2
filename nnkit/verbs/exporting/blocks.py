"""What is asked of the elements of a tensor, block by block: all at once, that takes a tensor more."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nnkit.models.tensors import in_reals

BLOCK = 2**18  # elements that are converted at a time


def norm_of(tensor: Tensor) -> float:
    """Return the norm, added up in float64 block by block: a whole copy would take twice the memory."""
    values = in_reals(tensor.detach())
    if values.layout != torch.strided:
        return float(values.double().norm())
    return math.sqrt(sum(float(block.double().square().sum()) for block in _blocks(values)))


def is_constant(tensor: Tensor) -> bool:
    """Whether all elements of a tensor are the same number; a single element counts if it is 0 or 1."""
    if tensor.numel() == 1:
        return tensor.item() in (0, 1)
    if tensor.layout != torch.strided:
        return tensor.numel() > 0 and bool((tensor == tensor.flatten()[0]).all())
    blocks = _blocks(tensor)
    return tensor.numel() > 0 and all(bool((block == blocks[0][0]).all()) for block in blocks)


def _blocks(tensor: Tensor) -> Sequence[Tensor]:
    """Return the elements of a tensor in flat blocks of a bounded size."""
    blocks: Sequence[Tensor] = torch.split(tensor.detach().reshape(-1), BLOCK)
    return blocks
