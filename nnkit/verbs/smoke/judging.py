"""How the outputs of two runs are compared, and the loss that is made of outputs."""

import torch
from torch import Tensor

from nnkit.contract.architecture import TensorSpec
from nnkit.errors import first_line
from nnkit.models.tensors import in_reals, spread_of
from nnkit.verbs.smoke.subject import Failed, Outputs, Skipped

# How far two computations of the same value may differ, as a share of its spread.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def raise_without_kernel(error: Exception, device: torch.device) -> None:
    """Raise Skipped for an error that only says that the CPU has no kernel for a dtype."""
    message = first_line(error)
    if device.type == "cpu" and " not implemented for " in message:
        raise Skipped(f"the CPU has no kernel for it: {message}") from error


def batch_axis(tensor: TensorSpec) -> int | None:
    """Return the axis of the batch; None for a tensor without one."""
    return tensor.shape.index("batch") if "batch" in tensor.shape else None


def rows(tensor: Tensor, axis: int | None, first: int, count: int) -> Tensor:
    """Return some samples as a batch of their own; a tensor without a batch axis as it is."""
    return tensor if axis is None else tensor.narrow(axis, first, count)


def difference(left: Tensor, right: Tensor) -> float:
    """Return the largest difference, as a share of the spread of `left`; infinite where shapes differ."""
    if left.shape != right.shape:
        return float("inf")
    if left.numel() == 0 or torch.equal(left, right):
        return 0.0
    left, right = in_reals(left), in_reals(right)
    if not left.is_floating_point():
        return float("inf")
    largest = (left.detach().double() - right.detach().double()).abs().max()
    return float(largest) / (spread_of(left) or 1.0)


def tolerance_of(tensor: Tensor) -> float:
    """Return how far two computations of a tensor may differ, as a share of its spread."""
    return TOLERANCE.get(in_reals(tensor).dtype, 0.0)


def largest_difference(first: Outputs, second: Outputs) -> tuple[float, str, bool]:
    """Return the largest difference between two runs, its output, and whether rounding explains it.

    Largest beyond its own tolerance, so that float16, which may differ more, hides no fault in float32.
    """
    differences = [
        (difference(tensor, other), declared.name, tolerance_of(tensor))
        for (declared, tensor), (_, other) in zip(first, second, strict=True)
    ]
    apart, name, tolerance = max(differences, key=lambda measured: measured[0] - measured[2])
    return apart, name, apart <= tolerance


def projection(outputs: Outputs, needs_gradient: bool = True) -> Tensor:
    """Return a loss that depends on every element of every differentiable output."""
    loss = None
    for index, (_, output) in enumerate(outputs):
        tensor = in_reals(output)
        if not tensor.numel():  # a cache of nothing: its mean is NaN
            continue
        if tensor.is_floating_point() and (tensor.requires_grad or not needs_gradient):
            generator = torch.Generator().manual_seed(index)
            weights = torch.randn(tensor.shape, generator=generator).to(tensor)
            term = (tensor * weights).mean()
            loss = term if loss is None else loss + term
    if loss is None:
        raise Failed("no output depends on a parameter: there is nothing to train")
    return loss
