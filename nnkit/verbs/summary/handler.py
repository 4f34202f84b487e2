"""SummaryRequest -> SummaryReport."""

import copy
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, TypeVar

from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from nnkit.contract.loading import load
from nnkit.contract.requests import SummaryRequest
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.building import build_module, build_without_weights
from nnkit.models.members import is_unshaped, named_buffers, named_modules, named_parameters
from nnkit.models.precision import count_dtypes
from nnkit.models.running import bind
from nnkit.models.sampling import sample_inputs
from nnkit.models.tensors import bytes_of, elements_of, storages_of
from nnkit.models.user_modules import parameter_names
from nnkit.verbs.summary.counting import may_multiply
from nnkit.verbs.summary.formulas import Formula
from nnkit.verbs.summary.modes import NeedsValues
from nnkit.verbs.summary.report import ForwardFailed, Row, Shape, Sharded, SummaryReport, Totals
from nnkit.verbs.summary.tracing import BudgetExceeded, Call, Trace, described, trace

T = TypeVar("T")

SIMPLEST_OPTIMIZER = "sgd"

SIMPLEST_OPTIMIZER = "sgd"

# A small model is run for real on the CPU: on meta tensors the first convolution imports sympy and
# the first batch norm torch._dynamo, which takes ten times as long as running ResNet-18 once.
SMALL_WEIGHTS = 2 * 2**30  # bytes of address space, most of which nothing ever touches
SMALL_INPUTS = 32 * 2**20  # bytes
SMALL_RUN = 20 * 10**9  # multiply-adds, a measure of the other work too


def summarize(request: SummaryRequest) -> SummaryReport:
    """Return the summary of the module that is given, or of the spec's, built without weights.

    Raises ForwardFailed, which has the rows up to the failure.
    """
    report = _counted(request)
    if report.failure is not None:
        raise ForwardFailed(report)
    if request.fsdp is not None:
        optimizer = request.optimizer or "adamw"
        sharded = _sharded(request, request.fsdp, optimizer)
        return replace(_trained(request, report, optimizer), sharded=sharded)
    return _trained(request, report, request.optimizer) if request.optimizer else report


def _sharded(request: SummaryRequest, ranks: int, optimizer: str) -> Sharded:
    """Return what each of so many ranks needs."""
    from nnkit.verbs.parallel.sizing import estimate_sharded  # it imports torch's distributed tensors

    def sharded(module: nn.Module, inputs: tuple[Any, ...]) -> Sharded:
        args, keywords = _bound(request, module, inputs)
        return estimate_sharded(module, args, keywords, ranks, optimizer, request.device)

    return _without_weights(request, sharded)


def _trained(request: SummaryRequest, report: SummaryReport, optimizer: str) -> SummaryReport:
    """Return the report with what a training step costs; where that can't be found, with the reason.

    Raises UsageProblem for an unknown optimizer.
    """
    try:
        return _with_training(request, report, optimizer)
    except UsageProblem:
        raise
    except NnkitError as problem:
        reason = f"no figures for training with {optimizer}: {problem.message}"
    if optimizer != SIMPLEST_OPTIMIZER:
        with suppress(NnkitError):
            flops = _with_training(request, report, SIMPLEST_OPTIMIZER).totals.training_flops
            reason += f"; {SIMPLEST_OPTIMIZER} works, and takes {flops:,} FLOPs"
    return replace(report, warnings=(*report.warnings, reason))


def _with_training(request: SummaryRequest, report: SummaryReport, optimizer: str) -> SummaryReport:
    """Return the report with what a training step costs, found without weights where that can be."""
    from nnkit.verbs.summary.training import with_training  # fake tensors import sympy, which takes a second

    def trained(module: nn.Module, inputs: tuple[Any, ...]) -> SummaryReport:
        args, keywords = _bound(request, module, inputs)
        formulas = formulas_of(request)
        if is_unshaped(module):
            trace(module, args, keywords, formulas=formulas)
        return with_training(report, module, args, keywords, formulas, optimizer, request.device)

    return _without_weights(request, trained)


def _without_weights(request: SummaryRequest, run: Callable[[nn.Module, tuple[Any, ...]], T]) -> T:
    """Return what `run` makes of the module on meta and its inputs; with values where that can't be."""
    spec = request.spec
    if request.module is not None:
        return run(_given(request.module), request.inputs or ())
    try:
        module = build_without_weights(spec, request.host, limit=0)
        return run(module, sample_inputs(spec, device="meta"))
    except NnkitError:
        return run(_with_values(request), sample_inputs(spec, full=True))


def _counted(request: SummaryRequest) -> SummaryReport:
    if request.module is not None:
        module = _given(request.module)
        seen = _trace(request, module, request.inputs or ())
        method: Literal["meta", "run"] = "meta" if _is_on_meta(module) else "run"
        return _report(request, module, seen, method, "a module that was built already")
    try:
        report = _run_if_small(request)
    except BudgetExceeded:
        return _on_meta(request)
    except NeedsValues:
        return _for_real(request, "without data it can't run: it looks at values")
    # What fails on weights without values may do so for the lack of them.
    return report if report.failure is None else _for_real(request, "")


def _given(module: nn.Module) -> nn.Module:
    """Return a module of the user's, or, as a run gives shapes to its lazy parameters, a copy."""
    if not is_unshaped(module):
        return module
    lazy = [each for each in named_buffers(module).values() if is_lazy(each)]  # which torch doesn't copy
    made = {id(each): UninitializedBuffer(device=each.device) for each in lazy}  # type: ignore[call-arg]
    return copy.deepcopy(module, made)


def _is_on_meta(module: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in named_parameters(module).values())


def _run_if_small(request: SummaryRequest) -> SummaryReport:
    """Run a small model for real on weights that hold no values.

    Raises BudgetExceeded for a large one, NeedsValues for one that looks at values.
    """
    spec = request.spec
    module = build_without_weights(spec, request.host, SMALL_WEIGHTS)
    inputs = sample_inputs(spec, device="meta")
    if _is_on_meta(module) or sum(each.nbytes for each in inputs) > SMALL_INPUTS:
        raise BudgetExceeded
    seen = _trace(request, module, sample_inputs(spec, full=True), budget=SMALL_RUN, values=False)
    return _report(request, module, seen, "run", "")


def _on_meta(request: SummaryRequest) -> SummaryReport:
    """Run a model of any size without weights or data; what can't be run so is run for real."""
    spec = request.spec
    module = build_without_weights(spec, request.host, limit=0)
    seen = _trace(request, module, sample_inputs(spec, device="meta"))
    if seen.failure is None:
        return _report(request, module, seen, "meta", "")
    reason = f"without data it can't run: {_first_line(seen.failure.error)}"
    try:
        module = build_without_weights(spec, request.host, limit=2**63)
        seen = _trace(request, module, sample_inputs(spec), values=False)
    except NeedsValues:
        return _for_real(request, reason)
    return _report(request, module, seen, "run", reason) if not seen.failure else _for_real(request, reason)


def _for_real(request: SummaryRequest, reason: str) -> SummaryReport:
    """Run a model on the values of its weights and inputs; `reason` says why."""
    module = _with_values(request)
    seen = _trace(request, module, sample_inputs(request.spec, full=True))
    return _report(request, module, seen, "run", reason)


def _with_values(request: SummaryRequest) -> nn.Module:
    """Return the module with its weights, or, where they are many, with memory that nothing has touched."""
    module = build_without_weights(request.spec, request.host, SMALL_WEIGHTS)
    if _is_on_meta(module):
        return build_without_weights(request.spec, request.host, limit=2**63)
    return build_module(request.spec, request.host)


def _trace(
    request: SummaryRequest,
    module: nn.Module,
    inputs: tuple[Any, ...],
    budget: int | None = None,
    values: bool = True,
) -> Trace:
    args, keywords = _bound(request, module, inputs)
    seen = trace(module, args, keywords, formulas=formulas_of(request), budget=budget, values=values)
    names = _argument_names(request, module, len(inputs))
    given = zip([*names, *request.keywords], [*inputs, *request.keywords.values()], strict=True)
    seen.root.inputs = described((), dict(given))
    return seen


def _bound(
    request: SummaryRequest, module: nn.Module, inputs: tuple[Any, ...]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return what forward takes by position and by name; what Python gave for a module is bound already."""
    if request.module is not None:
        return inputs, request.keywords
    return bind(module, request.spec.input_names, inputs)


def _argument_names(request: SummaryRequest, module: nn.Module, count: int) -> list[str]:
    """Return what the positional arguments of forward are called."""
    if request.module is None:
        return [tensor.name for tensor in request.spec.inputs]
    return parameter_names(module.forward, count)


def formulas_of(request: SummaryRequest) -> Mapping[str, Formula]:
    """Return what plugins say of operators of their own."""
    return {each.operator: _Lazy(each.macs) for each in request.host.formulas()}


class _Lazy:
    """A plugin's formula, imported when its operator is met."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.formula: Callable[..., Any] | None = None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
        self.formula = self.formula or load(self.reference)
        macs: int | None = self.formula(args, kwargs, result)
        return macs


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else text


def _report(
    request: SummaryRequest, module: nn.Module, seen: Trace, method: Literal["meta", "run"], reason: str
) -> SummaryReport:
    rows, totals = tuple(_Rows(module).of(seen.root)), _totals(module, seen)
    warnings = tuple(_missing_products(totals))
    return SummaryReport(request.spec, method, reason, rows, totals, failure=seen.failure, warnings=warnings)


def _missing_products(totals: Totals) -> Iterator[str]:
    if totals.missed:
        names = ", ".join(f"{name} ×{totals.uncounted[name]}" for name in totals.missed)
        which = "more" if totals.macs else "an unknown number of"
        yield f"the model does {which} multiply-adds: there is no formula for {names}"


class _Rows:
    """Turns calls into rows, counting each tensor where it is met first, in call order."""

    def __init__(self, module: nn.Module) -> None:
        self.done: set[nn.Module] = set()
        self.met: set[Tensor] = set()
        self.owners: dict[tuple[Tensor, int], Call] = {}
        self.names = {each: name for name, each in named_parameters(module).items()}

    def of(self, call: Call, depth: int = 0, counted: Collection[Tensor] = ()) -> Iterator[Row]:
        """Yield the row of `call` and of those beneath; `counted` are what its caller counts."""
        repeated = call.module in self.done
        parameters, tied = self._count(call, depth, counted)
        yield Row(
            path=call.path, kind=call.kind, type=call.type, depth=depth, inputs=call.inputs,
            outputs=call.outputs, parameters=_elements(parameters),
            trainable=_elements(_trainable(parameters)), macs=call.total("macs"),
            kernel=_kernel(call.module), repeated=repeated, tied=tied, leaf=not call.children,
        )  # fmt: skip
        for child in call.children:
            yield from self.of(child, depth + 1, parameters)

    def _count(self, call: Call, depth: int, counted: Collection[Tensor]) -> tuple[Collection[Tensor], str]:
        """Return the parameters that count here, and the name of one that counts elsewhere."""
        if call.module is None or call.module in self.done:
            return (), ""
        self.done.add(call.module)
        mine, tied = set(), ""
        for each in named_parameters(call.module).values():
            # What a caller has beneath it counts for both, unless it was met under another.
            first = self.owners.setdefault((each, depth), call) is call
            if first and (each in counted or each not in self.met):
                mine.add(each)
            elif not is_lazy(each):
                tied = self.names.get(each, "another module")
        self.met |= mine
        return mine, tied


def _trainable(parameters: Iterable[Tensor]) -> Iterator[Tensor]:
    return (each for each in parameters if each.requires_grad)


def _kernel(module: nn.Module | None) -> Shape | None:
    """Return the size of the window of a convolution or pooling, one number an axis."""
    size = getattr(module, "kernel_size", None)
    if isinstance(size, int):
        return (size,)
    if isinstance(size, tuple) and size and all(isinstance(each, int) for each in size):
        return size
    return None


def _totals(module: nn.Module, seen: Trace) -> Totals:
    parameters, buffers = list(named_parameters(module).values()), list(named_buffers(module).values())
    trainable = _elements(_trainable(parameters))
    macs = seen.root.total("macs")
    uncounted = dict(seen.uncounted.most_common())
    return Totals(
        parameters=_elements(parameters),
        trainable=trainable,
        frozen=_elements(parameters) - trainable,
        buffers=_elements(buffers),
        parameter_bytes=_bytes(parameters),
        dtypes=count_dtypes(parameters),
        buffer_bytes=_bytes(buffers),
        macs=macs,
        flops=2 * macs,
        uncounted=uncounted,
        missed=tuple(name for name in uncounted if may_multiply(name, known_only=macs > 0)),
        unused=() if seen.failure else tuple(_unused(module, seen.read)),
    )


def _unused(module: nn.Module, read: set[int]) -> Iterator[str]:
    """Yield the names of parameters that no operator read; `aux1.*` for all of a module's."""
    parameters = named_parameters(module)
    unused = {
        name
        for name, each in parameters.items()
        if not is_lazy(each) and (storages := storages_of(each)) and storages.isdisjoint(read)
    }
    for prefix, each in named_modules(module).items():
        beneath = {f"{prefix}.{name}" if prefix else name for name in named_parameters(each)}
        if len(beneath) > 1 and beneath <= unused:
            yield f"{prefix}.*" if prefix else "*"
            unused -= beneath
    yield from (name for name in parameters if name in unused)


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(elements_of(each) for each in tensors)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(bytes_of(each) for each in tensors)
