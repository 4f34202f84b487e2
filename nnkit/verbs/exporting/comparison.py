"""Compare two results for the same output."""

import torch
from torch import Tensor

from nnkit.verbs.exporting.plan import Run
from nnkit.verbs.exporting.report import Check, Weights
from nnkit.verbs.exporting.tolerance import tolerance_and_scale

# In place of a tolerance of 0, so that no difference is divided by 0.
NEARLY_ZERO_TOLERANCE = 1e-300


def compare(
    run: Run, name: str, result: Tensor, expected: Tensor, weights: Weights, rounding: float = 0.0
) -> Check:
    """Compare one output. Integers must be equal; floats may differ by rounding (see tolerance.py).

    rounding: a difference that is allowed in any case.
    """
    if expected.dtype == torch.float16 and result.dtype == torch.float32:
        result = result.half()  # a float16 model behind float32 outputs
    if result.shape != expected.shape or result.dtype != expected.dtype:
        problem = f"is {_format_type(result)}, but the module returns {_format_type(expected)}"
        return failed_check(run, name, problem, weights)
    if expected.numel() == 0:
        return Check(run.sizes, name, 0.0, 0.0, True, weights=weights)
    if not expected.is_floating_point():
        wrong = int((result != expected).sum())
        problem = f"differs in {wrong} elements" if wrong else ""
        return Check(run.sizes, name, float(wrong), 1.0, not wrong, problem, weights=weights)
    return _compare_floats(run, name, result, expected, weights, rounding)


def _compare_floats(
    run: Run, name: str, result: Tensor, expected: Tensor, weights: Weights, rounding: float
) -> Check:
    # An infinity may be intended (a masked score). It counts as equal to the same infinity only.
    apart = torch.where(result == expected, 0.0, (result.double() - expected.double()).abs())
    tolerance, scale = tolerance_and_scale(expected)
    limit = tolerance.clamp_min(rounding)
    # The worst element is the one that uses most of its tolerance. NaN is worse than any number.
    used = (apart / limit.clamp_min(NEARLY_ZERO_TOLERANCE)).nan_to_num(float("inf"), posinf=float("inf"))
    worst = used.argmax()
    difference = float(apart.flatten()[worst])
    passed = bool((apart <= limit).all())
    return Check(
        run.sizes,
        name,
        difference,
        scale,
        passed,
        "" if passed else f"differs by {difference:.3g}, where the spread of the output is {scale:.3g}",
        tolerance=float(limit.flatten()[worst]),
        where=tuple(int(index) for index in torch.unravel_index(worst, expected.shape)),
        weights=weights,
        rounded=bool(rounding),
    )


def failed_check(run: Run, output: str, problem: str, weights: Weights) -> Check:
    """Return the check of an output that can't be compared."""
    return Check(run.sizes, output, float("inf"), 0.0, False, problem, weights=weights)


def describe_sizes(run: Run) -> str:
    """Return the sizes of a run as they appear in a message: `batch 2, time 8`."""
    return ", ".join(f"{name} {size}" for name, size in run.sizes.items()) or "the given inputs"


def _format_type(tensor: Tensor) -> str:
    """Return dtype and shape, as in `float32[2, 10]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
