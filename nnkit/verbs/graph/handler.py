"""SummaryRequest -> GraphReport, from the same run that a summary is made from."""

from collections.abc import Iterator
from dataclasses import replace

from nnkit.contract.requests import SummaryRequest
from nnkit.models.building import check_weights_fit
from nnkit.models.members import named_modules
from nnkit.verbs.graph.assembly import Assembly
from nnkit.verbs.graph.calls import fold, is_constant, items_of
from nnkit.verbs.graph.report import GraphReport
from nnkit.verbs.graph.watching import Flow, FlowTrace, FlowWatcher
from nnkit.verbs.summary.handler import add_training_or_warn
from nnkit.verbs.summary.report import ForwardFailed, TensorInfo
from nnkit.verbs.summary.runs import leaves_of, name_outputs, report_of, run
from nnkit.verbs.summary.tracing import Call


def graph(request: SummaryRequest) -> GraphReport:
    """Return the graph of the given module, or of the spec's, built without weights.

    Raises ForwardFailed, which has the rows up to the failure, and UsageProblem for weights that don't fit.
    """
    if request.module is None:
        check_weights_fit(request.spec, request.host)
    ran = run(request, FlowWatcher)
    traced = ran.traced
    assert isinstance(traced, FlowTrace)
    if traced.failure is not None:
        raise ForwardFailed(report_of(request, ran))
    owners = fold(traced.root, traced.flow)
    summary = report_of(request, ran)
    calls = list(_walk(traced.root))
    rows = {
        call: row for call, row in zip(calls, summary.rows, strict=True) if not is_constant(call, traced.flow)
    }
    if request.optimizer:
        summary = replace(summary, rows=tuple(rows.values()))
        summary = add_training_or_warn(request, summary, request.optimizer)
        rows = dict(zip(rows, summary.rows, strict=True))
    assembly = Assembly(traced.flow, owners, rows)
    for (_, call), name in zip(traced.flow.inputs, _input_names(traced), strict=True):
        assembly.add_input(call, name)
    assembly.add(items_of(traced.root, named_modules(ran.module)), None)
    for name, takes in zip(_output_names(request, traced), traced.flow.outputs, strict=True):
        assembly.add_output(name, takes)
    nodes, edges = assembly.finish()
    return GraphReport(
        title=request.spec.architecture.name,
        spec=request.spec,
        method=summary.method,
        reason=summary.reason,
        nodes=nodes,
        edges=edges,
        totals=summary.totals,
        memory=summary.memory,
        sizes=dict(request.spec.sizes),
        warnings=(*summary.warnings, *_warn_of_python(traced.flow)),
    )


def _warn_of_python(flow: Flow) -> Iterator[str]:
    if flow.through_python:
        names = ", ".join(dict.fromkeys(flow.through_python))
        yield f"{names}: values went through Python or NumPy, and what was made from them there has no edge"


def _walk(call: Call) -> Iterator[Call]:
    yield call
    for child in call.children:
        yield from _walk(child)


def _input_names(traced: FlowTrace) -> Iterator[str]:
    """Yield the name of each tensor that forward was given, in the order in which it was given them."""
    names = {id(leaf): name for name, leaf in leaves_of(traced.arguments)}
    for position, (tensor, _) in enumerate(traced.flow.inputs):
        yield names.get(id(tensor), f"input_{position}")


def _output_names(request: SummaryRequest, traced: FlowTrace) -> Iterator[str]:
    """Yield the name of each tensor that forward returned."""
    outputs = name_outputs(request, traced.result)
    return (name for name, value in outputs.items() if isinstance(value, TensorInfo))
