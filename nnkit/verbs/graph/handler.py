"""SummaryRequest -> GraphReport, from the same run that a summary is made from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from torch import nn

from nnkit.contract.requests import SummaryRequest
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError
from nnkit.models.building import check_weights_fit
from nnkit.models.members import named_modules
from nnkit.verbs.graph.assembly import Assembly, Parts
from nnkit.verbs.graph.calls import fold, is_constant, items_of
from nnkit.verbs.graph.dims import name_dims
from nnkit.verbs.graph.flow import Flow, FlowTrace
from nnkit.verbs.graph.report import GraphReport
from nnkit.verbs.graph.timing import time_calls
from nnkit.verbs.graph.watching import FlowWatcher
from nnkit.verbs.summary.handler import add_training_or_warn
from nnkit.verbs.summary.modes import NeedsValues
from nnkit.verbs.summary.report import ForwardFailed, Row, TensorInfo
from nnkit.verbs.summary.runs import Run, leaves_of, name_outputs, report_of, run, run_again
from nnkit.verbs.summary.tracing import Call


def graph(request: SummaryRequest, seconds: bool = False, names: bool = True) -> GraphReport:
    """Return the graph of the given module, or of the spec's, built without weights.

    seconds: also run it on weights with values, on the request's device, and take the time of each call.
    names: also run it at other sizes, to name the axes inside it after the dims that they follow.

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
    rows = {
        call: row
        for call, row in zip(_walk(traced.root), summary.rows, strict=True)
        if not is_constant(call, traced.flow)
    }
    if request.optimizer:
        summary = replace(summary, rows=tuple(rows.values()))
        summary = add_training_or_warn(request, summary, request.optimizer)
        rows = dict(zip(rows, summary.rows, strict=True))
    times = time_calls(request, traced.flow) if seconds else {}
    nodes, edges = _assemble(request, ran.module, traced, owners, rows, times)
    if names:
        nodes, edges = name_dims(request, nodes, edges, _at_sizes(request, ran))
    return GraphReport(
        title=_title(request.spec),
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


def _title(spec: ModelSpec) -> str:
    """Return the name of a model, with its zoo: two zoos have a resnet18, and a picture may show both."""
    return spec.name if spec.architecture.namespace else spec.architecture.name


def _assemble(
    request: SummaryRequest,
    module: nn.Module,
    traced: FlowTrace,
    owners: Mapping[Call, Call],
    rows: Mapping[Call, Row],
    times: Mapping[Call, float],
) -> Parts:
    assembly = Assembly(traced.flow, owners, rows, times)
    for (_, call), name in zip(traced.flow.inputs, _input_names(traced), strict=True):
        assembly.add_input(call, name)
    assembly.add(items_of(traced.root, named_modules(module)), None)
    for name, takes in zip(_output_names(request, traced), traced.flow.outputs, strict=True):
        assembly.add_output(name, takes)
    return assembly.finish()


def _at_sizes(request: SummaryRequest, ran: Run) -> Callable[[Mapping[str, int]], Parts | None]:
    """Return a function that returns the nodes and edges at other sizes; None if the model fails at them."""

    def at(sizes: Mapping[str, int]) -> Parts | None:
        try:
            traced = run_again(request, ran, sizes, FlowWatcher)
        except (NnkitError, NeedsValues):
            return None
        assert isinstance(traced, FlowTrace)
        if traced.failure is not None:
            return None
        return _assemble(request, ran.module, traced, fold(traced.root, traced.flow), {}, {})

    return at


def _walk(call: Call) -> Iterator[Call]:
    yield call
    for child in call.children:
        yield from _walk(child)


def _warn_of_python(flow: Flow) -> Iterator[str]:
    if flow.through_python:
        names = ", ".join(dict.fromkeys(flow.through_python))
        yield f"{names}: values went through Python or NumPy, and what was made from them there has no edge"


def _input_names(traced: FlowTrace) -> Iterator[str]:
    """Yield the name of each tensor that forward was given, in the order in which it was given them."""
    names = {id(leaf): name for name, leaf in leaves_of(traced.arguments)}
    for position, (tensor, _) in enumerate(traced.flow.inputs):
        yield names.get(id(tensor), f"input_{position}")


def _output_names(request: SummaryRequest, traced: FlowTrace) -> Iterator[str]:
    """Yield the name of each tensor that forward returned."""
    outputs = name_outputs(request, traced.result)
    return (name for name, value in outputs.items() if isinstance(value, TensorInfo))
