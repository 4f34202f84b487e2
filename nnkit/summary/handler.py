"""SummaryRequest -> SummaryReport."""

from collections.abc import Iterable, Iterator
from typing import Literal

from torch import Tensor, nn

from nnkit.building import build_without_weights
from nnkit.errors import NnkitError
from nnkit.hookspecs import SummaryRequest
from nnkit.sampling import sample_inputs
from nnkit.summary.report import Row, SummaryReport, Totals
from nnkit.summary.tracing import BudgetExceeded, Call, Trace, trace

# A small model is run for real on the CPU: on meta tensors the first convolution imports sympy and
# the first batch norm torch._dynamo, which takes ten times as long as running ResNet-18 once.
SMALL_WEIGHTS = 2 * 2**30  # bytes of address space, most of which nothing ever touches
SMALL_INPUTS = 32 * 2**20  # bytes
SMALL_RUN = 20 * 10**9  # multiply-adds, a measure of the other work too


def summarize(request: SummaryRequest) -> SummaryReport:
    """Return the summary of the module that is given, or of the spec's, built without weights."""
    if request.module is not None:
        seen = trace(request.module, request.inputs or ())
        return _report(request, request.module, seen, "run", "a module that was built already")
    try:
        return _run_if_small(request)
    except BudgetExceeded:
        return _on_meta(request)


def _run_if_small(request: SummaryRequest) -> SummaryReport:
    spec = request.spec
    module = build_without_weights(spec, request.host, SMALL_WEIGHTS)
    on_meta = any(parameter.is_meta for parameter in module.parameters())
    inputs = sample_inputs(spec, device="meta")
    if on_meta or sum(each.nbytes for each in inputs) > SMALL_INPUTS:
        raise BudgetExceeded
    seen = trace(module, sample_inputs(spec), budget=SMALL_RUN, values=False)
    return _report(request, module, seen, "run", "")


def _on_meta(request: SummaryRequest) -> SummaryReport:
    spec = request.spec
    module = build_without_weights(spec, request.host, limit=0)
    try:
        seen = trace(module, sample_inputs(spec, device="meta"))
        return _report(request, module, seen, "meta", "")
    except NnkitError as error:
        module = build_without_weights(spec, request.host, limit=2**63)
        seen = trace(module, sample_inputs(spec))
        return _report(request, module, seen, "run", f"without data it can't run: {error.message}")


def _report(
    request: SummaryRequest, module: nn.Module, seen: Trace, method: Literal["meta", "run"], reason: str
) -> SummaryReport:
    rows = tuple(_rows(seen.root, set(), 0))
    return SummaryReport(request.spec, method, reason, rows, _totals(module, seen))


def _rows(call: Call, done: set[nn.Module], depth: int) -> Iterator[Row]:
    """Yield the row of `call` and of those beneath, in call order. `done` are modules met before."""
    repeated = call.module in done
    own = 0 if repeated or call.module is None else sum(each.numel() for each in call.module.parameters())
    if call.module is not None:
        done.add(call.module)
    yield Row(
        call.path, call.kind, call.type, depth, call.inputs, call.outputs,
        own, call.total_macs(), repeated, not call.children,
    )  # fmt: skip
    for child in call.children:
        yield from _rows(child, done, depth + 1)


def _totals(module: nn.Module, seen: Trace) -> Totals:
    parameters, buffers = list(module.parameters()), list(module.buffers())
    trainable = _elements(each for each in parameters if each.requires_grad)
    macs = seen.root.total_macs()
    return Totals(
        parameters=_elements(parameters),
        trainable=trainable,
        frozen=_elements(parameters) - trainable,
        buffers=_elements(buffers),
        parameter_bytes=sum(each.nbytes for each in parameters),
        buffer_bytes=sum(each.nbytes for each in buffers),
        macs=macs,
        flops=2 * macs,
        uncounted=dict(seen.uncounted.most_common()),
    )


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(each.numel() for each in tensors)
