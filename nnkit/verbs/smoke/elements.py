"""A few elements of a large tensor, or its checksum, so that a check of it costs little."""

from math import gcd

import torch
from torch import Tensor

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of an element
ROW = 1021  # a prime, so that hardly a row of it is a row of the tensor
MEETS = 2  # elements, or more, at every index of the longest axis
SMALL = 2**16  # elements


def some_of(tensor: Tensor, most: int) -> Tensor:
    """Return a flat view of about `most` elements, spread over every row and every column of a tensor.

    The step from one to the next has no divisor in common with an axis, so it meets every index of each. Of
    6×8 elements every 5th is

        [0,0] [0,5] [1,2] [1,7] [2,4] [3,1] [3,6] [4,3] [5,0] [5,5]

    A tensor that is small is returned as it is, and so is one of which no such step meets every index, or
    whose elements don't lie side by side.
    """
    if tensor.numel() <= most or tensor.layout != torch.strided:
        return tensor
    laid = tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))
    if not laid.is_contiguous():
        return tensor
    step = max(tensor.numel() // max(most, MEETS * max(tensor.shape) if tensor.ndim > 1 else 1), 1)
    while any(gcd(step, size) > 1 for size in tensor.shape):
        step += 1
    return (
        laid.view(-1)[::step] if step <= tensor.numel() // max(tensor.shape) or tensor.ndim == 1 else tensor
    )


def laid_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a tensor laid out as `other` is in memory, so that `some_of` takes the same elements of both."""
    if tensor.layout != other.layout or tensor.stride() == other.stride():
        return tensor
    return torch.empty_like(other, dtype=tensor.dtype).copy_(tensor)


def checksum(tensor: Tensor) -> Tensor:
    """Return integers that change when an element of a tensor does: sums of bits; the bits of a small tensor.

    Row by row: the sum of all would stay the same where elements change places. Where rows begin depends on
    where the tensor lies, so these are for comparing one tensor with itself.
    """
    tensor = tensor.detach()
    if tensor.layout != torch.strided or not tensor.is_contiguous() or tensor.element_size() not in INTEGERS:
        return tensor.clone()
    bits = tensor.view(INTEGERS[tensor.element_size()]).view(-1)
    together = 8 // tensor.element_size()  # that make up an integer of 64 bits, the fastest to sum
    start = -tensor.storage_offset() % together
    end = start + (bits.numel() - start) // (together * ROW) * together * ROW
    if end - start < SMALL:
        return bits.clone()
    rows = bits[start:end].view(torch.int64).view(-1, ROW)
    return torch.cat([rows.sum(1), bits[:start].long(), bits[end:].long()])
