"""Two results of one output, compared."""

import torch
from torch import Tensor

from nnkit.verbs.exporting.plan import Run
from nnkit.verbs.exporting.report import Check, Weights
from nnkit.verbs.exporting.tolerance import allowed, scale_of

TINY = 1e-300


def compare(
    run: Run, name: str, result: Tensor, expected: Tensor, weights: Weights, rounding: float = 0.0
) -> Check:
    """Judge one output. Integers must be equal; floats may differ by rounding, seen at their scale.

    rounding: what may differ in any case.
    """
    if expected.dtype == torch.float16 and result.dtype == torch.float32:
        result = result.half()  # a float16 model behind float32 outputs
    if result.shape != expected.shape or result.dtype != expected.dtype:
        got, wanted = (f"{str(each.dtype)[6:]}{list(each.shape)}" for each in (result, expected))
        return failed(run, name, f"is {got} where the module gives {wanted}", weights)
    if expected.numel() == 0:
        return Check(run.sizes, name, 0.0, 0.0, True, weights=weights)
    if not expected.is_floating_point():
        wrong = int((result != expected).sum())
        problem = f"differs in {wrong} elements" if wrong else ""
        return Check(run.sizes, name, float(wrong), 1.0, not wrong, problem, weights=weights)
    # Infinities may be meant (what is masked); they must stand in the same places.
    apart = torch.where(result == expected, 0.0, (result.double() - expected.double()).abs())
    limit = allowed(expected).clamp_min(rounding)
    # By the share of what is allowed; NaN is more than anything.
    place = int((apart / limit.clamp_min(TINY)).nan_to_num(float("inf"), posinf=float("inf")).argmax())
    diff, scale = float(apart.flatten()[place]), scale_of(expected)
    passed = bool((apart <= limit).all())
    problem = "" if passed else f"differs by {diff:.3g} where its spread is {scale:.3g}"
    where = tuple(int(each) for each in torch.unravel_index(torch.tensor(place), expected.shape))
    tolerance, rounded = float(limit.flatten()[place]), bool(rounding)
    return Check(run.sizes, name, diff, scale, passed, problem, tolerance, where, weights, rounded)


def failed(run: Run, output: str, problem: str, weights: Weights) -> Check:
    """Return the check of an output that can't be compared."""
    return Check(run.sizes, output, float("inf"), 0.0, False, problem, weights=weights)


def words(run: Run) -> str:
    """Return the sizes of a run for a sentence."""
    return ", ".join(f"{name} {size}" for name, size in run.sizes.items()) or "the given inputs"
