"""Statistics of the values of a tensor in a file."""

import torch
from torch import Tensor

from nnkit.verbs.summary.file_report import TensorStats

CHUNK = 2**22  # elements that are read at once


def stats_of(tensor: Tensor) -> TensorStats | None:
    """Return the statistics of a tensor, computed part by part; None if it has no real values."""
    if tensor.numel() == 0 or tensor.is_complex() or tensor.layout != torch.strided:
        return None
    nans = infinities = count = 0
    low, high, total, squares = float("inf"), float("-inf"), 0.0, 0.0
    parts = list(torch.split(tensor.detach().reshape(-1), CHUNK))
    for part in parts:
        values = part.double()
        nans += int(values.isnan().sum())
        infinities += int(values.isinf().sum())
        values = values[values.isfinite()]
        if values.numel():
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            total, count = total + float(values.sum()), count + values.numel()
    if not count:
        return TensorStats(None, None, None, None, nans, infinities)
    mean = total / count
    for part in parts:  # a second pass with the mean: sums of squares lose what is small beside it
        values = part.double()
        squares += float((values[values.isfinite()] - mean).square().sum())
    return TensorStats(low, high, mean, (squares / count) ** 0.5, nans, infinities)
