"""The checks of a smoke-run, in the order in which they are printed."""

from collections.abc import Callable

from nnkit.contract.contributions import Check
from nnkit.verbs.smoke import (
    behavior,
    checks,
    full,
    invariances,
    numerics,
    padding,
    placement,
    states,
    ties,
    training,
    values,
    variants,
)
from nnkit.verbs.smoke.subject import Subject

DEFAULT = (
    checks.shapes,
    values.finite,
    training.gradients,
    training.updates,
    checks.batch_independence,
    behavior.batch_sizes,
    checks.determinism,
    behavior.eval_state,
    behavior.inputs_unchanged,
    behavior.input_effect,
    behavior.in_place,
    variants.optional_inputs,
    invariances.causality,
    padding.padding,
    invariances.permutation,
    invariances.pointwise,
    checks.stochastic,
    ties.tied,
    states.registry,
    states.round_trip,
    states.cast,
    placement.placement,
    numerics.derivative,
)
FULL = (
    full.overfit,
    full.compile,
    full.export,
    full.autocast,
    full.half,
    full.train_determinism,
    full.gradient_checkpointing,
    full.channels_last,
)


def declare(run: Callable[[Subject], str], full: bool = False) -> Check:
    """Return the declaration of a check: its function gives the name, its docstring the summary."""
    return Check(
        name=run.__name__.replace("_", "-"),
        summary=run.__doc__ or "",
        run=f"{run.__module__}:{run.__name__}",
        full=full,
    )


CHECKS = (*(declare(run) for run in DEFAULT), *(declare(run, full=True) for run in FULL))
