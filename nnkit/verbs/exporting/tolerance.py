"""How far an output of a file may be off from the module's and still count as the same.

Two runtimes add numbers in different orders, so their results differ by rounding. Three rules say how large a
difference may be:

1. By the spread of the output. A share of its standard deviation (SHARE) is allowed in every element:
   float32 logits with a spread of 2 may differ by 1e-4 * 2 = 0.0002.
2. By the size of the element. A large number has coarse digits, so LAST_PLACES units in its last place are
   allowed in any case: for 1000 in float32 that is 16 * 1.2e-7 * 1000 = 0.0019.
3. By what the module itself loses. Some networks amplify rounding. Where rules 1 and 2 fail, the module
   is run in float64 as well. If its float32 result is off by 0.001, the file may be off by
   MODULE_ROUNDING * 0.001 = 0.008, but never by more than MODULE_ROUNDING_SHARE of the spread.

A few huge elements, such as scores masked with -1e9, would inflate the spread and hide every fault. They
are left out of it (`core_of`), and each of them may differ by SHARE of its own size.
"""

import torch
from torch import Tensor

from nnkit.models.tensors import core_of, spread_of

# The largest difference of an element as a share of the spread of its output. Float32 rounding stays below
# a tenth of this on every architecture that ships with nnkit.
SHARE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}

# The largest difference of an element in units of its own last place.
LAST_PLACES = 16

# A file may be off by this many times what the module itself is off from its result in float64.
MODULE_ROUNDING = 8

# The most that rule 3 allows, as a share of the spread. For a dtype with a coarse SHARE, twice that share.
MODULE_ROUNDING_SHARE = 0.02

# At sizes far from the traced ones, sums run over thousands of elements: 10 times the tolerance is allowed.
FAR_FACTOR = 10


def tolerance_of(expected: Tensor) -> Tensor:
    """Return, for each element of `expected`, the largest difference that counts as rounding."""
    return _limits(expected, core_of(expected))[0]


def tolerance_and_scale(expected: Tensor) -> tuple[Tensor, float]:
    """Return the tolerance of each element, and the spread of the output that it is a share of."""
    return _limits(expected, core_of(expected))


def _limits(expected: Tensor, core: Tensor) -> tuple[Tensor, float]:
    share, eps, compared = SHARE[expected.dtype], torch.finfo(expected.dtype).eps, expected[core]
    scale = spread_of(compared) if compared.numel() else 0.0
    magnitudes = expected.double().abs().nan_to_num(posinf=0.0)
    by_spread = torch.tensor(share * scale)
    inside = torch.maximum(by_spread, LAST_PLACES * eps * magnitudes)
    return torch.where(core, inside, torch.maximum(inside, share * magnitudes)), scale


def typical_tolerance(expected: Tensor) -> float | None:
    """Return what is allowed in the middle of an output, or None for integers and empty outputs."""
    if not expected.is_floating_point():
        return None
    core = core_of(expected)
    return float(_limits(expected, core)[0][core].median()) if core.any() else None


def largest_module_rounding(dtype: torch.dtype, scale: float) -> float:
    """Return the most that rule 3 allows for an output of this dtype and spread."""
    return max(MODULE_ROUNDING_SHARE, 2 * SHARE.get(dtype, 0.0)) * scale


def is_same(first: Tensor, second: Tensor) -> bool:
    """Whether two outputs of the same shape and floating dtype differ by rounding at most."""
    apart = torch.where(first == second, 0.0, (first.double() - second.double()).abs())
    return bool((apart <= tolerance_of(second)).all())
