"""The run that the counts of a summary come from, from the cheapest kind to the dearest.

1. A module given from Python runs where it is (`_run_given_module`).
2. A small model runs on the CPU on memory that holds no values (`_run_small_model`).
3. A larger one runs on meta tensors, which have no memory at all (`_run_on_meta`).
4. A model whose forward looks at values runs on its weights and on random inputs (`_run_with_values`).
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.loading import load
from nnkit.contract.requests import Host, SummaryRequest
from nnkit.errors import first_line
from nnkit.models.building import build_module, build_without_weights
from nnkit.models.members import is_unshaped, named_buffers, named_parameters
from nnkit.models.outputs import declarations_of
from nnkit.models.running import bind
from nnkit.models.sampling import sample_inputs
from nnkit.models.tensors import named_leaves_in, output_name
from nnkit.models.user_modules import parameter_names
from nnkit.verbs.summary.formulas import Formula
from nnkit.verbs.summary.modes import NeedsValues
from nnkit.verbs.summary.report import SummaryReport, Totals, Value
from nnkit.verbs.summary.rows import make_rows, make_totals
from nnkit.verbs.summary.tracing import (
    BudgetExceeded,
    Trace,
    Watch,
    Watcher,
    describe,
    describe_value,
    trace,
)

# A small model runs for real on the CPU: on meta tensors the first convolution imports sympy and
# the first batch norm torch._dynamo, which takes ten times as long as running ResNet-18 once.
SMALL_WEIGHTS = 2 * 2**30  # bytes of address space, most of which nothing ever touches
SMALL_INPUTS = 32 * 2**20  # bytes
SMALL_RUN = 20 * 10**9  # multiply-adds, a measure of the other work too

ON_META = 0  # bytes of weights up to which a model is built on the CPU: none
ON_CPU = 2**63  # the same: all


@dataclass(frozen=True)
class Run:
    """A run of a model: the module, what was seen, which kind it was, why, and whether weights had values."""

    module: nn.Module
    traced: Trace
    method: Literal["meta", "run"]
    reason: str
    values: bool = True


def count(request: SummaryRequest) -> SummaryReport:
    """Return the rows and totals, from the cheapest run that works."""
    return report_of(request, run(request))


def run(request: SummaryRequest, watch: Watch = Watcher) -> Run:
    """Run the model of a request in the cheapest way that works; `watch` makes what watches it."""
    if request.module is not None:
        return _run_given_module(request, request.module, watch)
    if request.on_meta:
        return _run_on_meta(request, watch)
    try:
        small = _run_small_model(request, watch)
    except BudgetExceeded:
        return _run_on_meta(request, watch)
    except NeedsValues:
        return _run_with_values(request, watch, "it can't run without data: forward looks at values")
    # What fails on weights without values may fail for the lack of them.
    return small if small.traced.failure is None else _run_with_values(request, watch, "")


def _run_given_module(request: SummaryRequest, module: nn.Module, watch: Watch) -> Run:
    """Run a module given from Python, on the inputs given with it."""
    module = copy_if_lazy(module)
    traced = _trace(request, module, request.inputs or (), watch)
    method: Literal["meta", "run"] = "meta" if _is_on_meta(module) else "run"
    return Run(module, traced, method, "the module was already built")


def _run_small_model(request: SummaryRequest, watch: Watch) -> Run:
    """Run a small model for real, on weights that hold no values.

    Raises BudgetExceeded for a large one, NeedsValues for one that looks at values.
    """
    spec = request.spec
    module = build_without_weights(spec, request.host, SMALL_WEIGHTS)
    inputs = sample_inputs(spec, device="meta")
    if _is_on_meta(module) or sum(tensor.nbytes for tensor in inputs) > SMALL_INPUTS:
        raise BudgetExceeded
    inputs = sample_inputs(spec, full=True)
    traced = _trace(request, module, inputs, watch, budget=SMALL_RUN, values=False)
    return Run(module, traced, "run", "", values=False)


def _run_on_meta(request: SummaryRequest, watch: Watch) -> Run:
    """Run a model of any size without weights or data; if that fails, run it for real."""
    spec = request.spec
    module = build_without_weights(spec, request.host, ON_META)
    traced = _trace(request, module, sample_inputs(spec, device="meta"), watch)
    if traced.failure is None:
        return Run(module, traced, "meta", "")
    reason = f"it can't run without data: {first_line(traced.failure.error)}"
    try:
        module = build_without_weights(spec, request.host, ON_CPU)
        traced = _trace(request, module, sample_inputs(spec), watch, values=False)
    except NeedsValues:
        return _run_with_values(request, watch, reason)
    if traced.failure is not None:
        return _run_with_values(request, watch, reason)
    return Run(module, traced, "run", reason, values=False)


def _run_with_values(request: SummaryRequest, watch: Watch, reason: str) -> Run:
    """Run a model on the values of its weights and inputs; `reason` says why that is needed."""
    module = build_with_values(request)
    traced = _trace(request, module, sample_inputs(request.spec, full=True), watch)
    return Run(module, traced, "run", reason)


def run_again(request: SummaryRequest, before: Run, sizes: Mapping[str, int], watch: Watch) -> Trace:
    """Run the module of an earlier run on inputs of other sizes, drawn as the spec says."""
    spec = request.spec.with_sizes(sizes)
    meta = before.method == "meta"
    inputs = sample_inputs(spec, device="meta") if meta else sample_inputs(spec, full=True)
    again = replace(request, spec=spec, module=None)
    return _trace(again, before.module, inputs, watch, budget=None, values=before.values)


def build_with_values(request: SummaryRequest) -> nn.Module:
    """Return the module with its weights or, if those are large, with zeros that take no memory."""
    module = build_without_weights(request.spec, request.host, SMALL_WEIGHTS)
    if _is_on_meta(module):
        return build_without_weights(request.spec, request.host, ON_CPU, zeros=True)
    return build_module(request.spec, request.host)


def copy_if_lazy(module: nn.Module) -> nn.Module:
    """Return the user's module, or a copy if it has lazy parameters, to which a run gives shapes."""
    if not is_unshaped(module):
        return module
    lazy = [buffer for buffer in named_buffers(module).values() if is_lazy(buffer)]  # torch can't copy these
    copies = {id(buffer): UninitializedBuffer(device=buffer.device) for buffer in lazy}  # type: ignore[call-arg]
    return copy.deepcopy(module, copies)


def bind_inputs(
    request: SummaryRequest, module: nn.Module, inputs: tuple[Any, ...]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return what forward takes by position and by name; inputs given from Python are bound already."""
    if request.module is not None:
        return inputs, request.keywords
    return bind(module, request.spec.signature, inputs)


def formulas_of_plugins(host: Host) -> Mapping[str, Formula]:
    """Return the formulas of plugins by the qualified name of their operator."""
    return {formula.operator: _PluginFormula(formula.macs) for formula in host.formulas()}


class _PluginFormula:
    """A plugin's formula, imported when its operator first runs."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.formula: Callable[..., Any] | None = None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
        self.formula = self.formula or load(self.reference)
        macs: int | None = self.formula(args, kwargs, result)
        return macs


def _is_on_meta(module: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in named_parameters(module).values())


def _trace(
    request: SummaryRequest,
    module: nn.Module,
    inputs: tuple[Any, ...],
    watch: Watch,
    budget: int | None = None,
    values: bool = True,
) -> Trace:
    args, keywords = bind_inputs(request, module, inputs)
    formulas = formulas_of_plugins(request.host)
    traced = trace(module, args, keywords, formulas=formulas, budget=budget, values=values, watch=watch)
    traced.arguments = _arguments_of(request, module, inputs)
    traced.root.inputs = describe((), traced.arguments)
    return traced


def _arguments_of(request: SummaryRequest, module: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Return what forward is given by name: declared tensors and constants, or what Python passed."""
    if request.module is None:
        signature = request.spec.signature
        return {**dict(zip(signature.names, inputs, strict=True)), **signature.constants}
    names = parameter_names(module.forward, len(inputs))
    return {**dict(zip(names, inputs, strict=True)), **request.keywords}


def report_of(request: SummaryRequest, run: Run) -> SummaryReport:
    """Return what a run showed as a report."""
    module, traced = run.module, run.traced
    totals = make_totals(module, traced)
    return SummaryReport(
        request.spec,
        run.method,
        run.reason,
        tuple(make_rows(module, traced.root)),
        totals,
        inputs={name: describe_value(leaf) for name, leaf in leaves_of(traced.arguments)},
        outputs={} if traced.failure else name_outputs(request, traced.result),
        failure=traced.failure,
        warnings=tuple(_warn_of_missing_products(totals)),
    )


def leaves_of(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what forward was given, however nested, by dotted names."""
    return (leaf for name, value in arguments.items() for leaf in named_leaves_in(value, name))


def name_outputs(request: SummaryRequest, result: Any) -> dict[str, Value]:
    """Return what forward returned by dotted names: those declared, or those that it gave itself."""
    declared = iter(declarations_of(result, request.spec.outputs))
    named = {}
    for path, leaf in named_leaves_in(result):
        tensor = next(declared, None) if isinstance(leaf, Tensor) else None
        name = tensor.name if isinstance(tensor, TensorSpec) else tensor or output_name(path)
        named[name] = describe_value(leaf)
    return named


def _warn_of_missing_products(totals: Totals) -> Iterator[str]:
    if totals.missed:
        names = ", ".join(f"{name} ×{totals.uncounted[name]}" for name in totals.missed)
        which = "more" if totals.macs else "an unknown number of"
        yield f"the model does {which} multiply-adds: nnkit has no formula for {names}"
