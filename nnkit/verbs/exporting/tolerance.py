"""How far an output may be off and still be the same: by its spread, its dtype and the size of an element."""

import torch
from torch import Tensor

from nnkit.models.tensors import core_of, spread_of

# The largest difference of an element, as a share of the spread of the output, and in units of its own
# last place. Rounding in float32 stays below a tenth of it on every architecture of the zoo.
SHARE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
LAST_PLACES = 16


def allowed(expected: Tensor) -> Tensor:
    """Return, for each element of `expected`, the largest difference that counts as rounding."""
    share, eps = SHARE[expected.dtype], torch.finfo(expected.dtype).eps
    core, sizes = core_of(expected), expected.double().abs().nan_to_num(posinf=0.0)
    inside = torch.maximum(torch.tensor(share * scale_of(expected)), LAST_PLACES * eps * sizes)
    return torch.where(core, inside, torch.maximum(inside, share * sizes))


def typical(expected: Tensor) -> float | None:
    """Return what is allowed in the middle of an output; None for integers and what is empty."""
    if not expected.is_floating_point():
        return None
    core = core_of(expected)
    return float(allowed(expected)[core].median()) if core.any() else None


def scale_of(expected: Tensor) -> float:
    """Return the spread of an output, by which its differences are judged."""
    core = expected[core_of(expected)]
    return spread_of(core) if core.numel() else 0.0


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two outputs of one shape and a floating dtype differ by rounding at most."""
    apart = torch.where(first == second, 0.0, (first.double() - second.double()).abs())
    return bool((apart <= allowed(second)).all())
