"""SummaryRequest -> SummaryReport: counts first, then, if asked for, what a training step costs."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from nnkit.contract.requests import SummaryRequest
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.building import build_without_weights, check_weights_fit
from nnkit.models.members import is_unshaped
from nnkit.models.sampling import sample_inputs
from nnkit.verbs.summary.report import ForwardFailed, Sharded, SummaryReport
from nnkit.verbs.summary.runs import (
    bind_inputs,
    build_with_values,
    copy_if_lazy,
    count,
    formulas_of_plugins,
)
from nnkit.verbs.summary.tracing import trace
from nnkit.verbs.summary.variants import count_variants

T = TypeVar("T")

SIMPLEST_OPTIMIZER = "sgd"
OPTIMIZER_WHEN_SHARDED = "adamw"


def summarize(request: SummaryRequest) -> SummaryReport:
    """Return the summary of the given module, or of the spec's, built without weights.

    Raises ForwardFailed, which has the rows up to the failure, and UsageProblem for weights that don't fit.
    """
    if request.module is None:
        check_weights_fit(request.spec, request.host)
    report = count(request)
    if report.failure is not None:
        raise ForwardFailed(report)
    if request.variants:
        report = replace(report, variants=tuple(count_variants(request)))
    if request.fsdp is not None:
        optimizer = request.optimizer or OPTIMIZER_WHEN_SHARDED
        sharded = _estimate_sharded(request, request.fsdp, optimizer)
        return replace(add_training_or_warn(request, report, optimizer), sharded=sharded)
    return add_training_or_warn(request, report, request.optimizer) if request.optimizer else report


def _estimate_sharded(request: SummaryRequest, ranks: int, optimizer: str) -> Sharded:
    """Return what each rank needs with the model sharded over `ranks` of them."""
    from nnkit.verbs.parallel.sizing import estimate_sharded  # it imports torch's distributed tensors

    def estimate(module: nn.Module, inputs: tuple[Any, ...]) -> Sharded:
        args, keywords = bind_inputs(request, module, inputs)
        return estimate_sharded(module, args, keywords, ranks, optimizer, request.device)

    return _call_without_weights(request, estimate)


def add_training_or_warn(request: SummaryRequest, report: SummaryReport, optimizer: str) -> SummaryReport:
    """Return the report with the cost of a training step; if that can't be estimated, with a warning.

    Raises UsageProblem for an unknown optimizer.
    """
    try:
        return _add_training(request, report, optimizer)
    except UsageProblem:
        raise
    except NnkitError as problem:
        reason = f"no figures for training with {optimizer}: {problem.message}"
    if optimizer != SIMPLEST_OPTIMIZER:
        with suppress(NnkitError):
            flops = _add_training(request, report, SIMPLEST_OPTIMIZER).totals.training_flops
            reason += f"; {SIMPLEST_OPTIMIZER} works, and takes {flops:,} FLOPs"
    return replace(report, warnings=(*report.warnings, reason))


def _add_training(request: SummaryRequest, report: SummaryReport, optimizer: str) -> SummaryReport:
    """Return the report with the cost of a training step, estimated without weights where possible."""
    from nnkit.verbs.summary.training import with_training  # fake tensors import sympy, which takes a second

    def add(module: nn.Module, inputs: tuple[Any, ...]) -> SummaryReport:
        args, keywords = bind_inputs(request, module, inputs)
        formulas = formulas_of_plugins(request.host)
        if is_unshaped(module):
            trace(module, args, keywords, formulas=formulas)  # a run gives its lazy parameters shapes
        return with_training(report, module, args, keywords, formulas, optimizer, request.device)

    return _call_without_weights(request, add)


def _call_without_weights(request: SummaryRequest, estimate: Callable[[nn.Module, tuple[Any, ...]], T]) -> T:
    """Return what `estimate` makes of the module and its inputs on meta, or with values if that fails."""
    spec = request.spec
    if request.module is not None:
        return estimate(copy_if_lazy(request.module), request.inputs or ())
    try:
        module = build_without_weights(spec, request.host, limit=0)
        return estimate(module, sample_inputs(spec, device="meta"))
    except NnkitError:
        return estimate(build_with_values(request), sample_inputs(spec, full=True))
