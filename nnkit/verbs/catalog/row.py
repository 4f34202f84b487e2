"""The row of one architecture: its default model, summarized."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from nnkit.contract.architecture import Architecture
from nnkit.contract.catalog import CatalogRow
from nnkit.contract.loading import load
from nnkit.contract.namespace import Namespace
from nnkit.contract.requests import SummaryRequest
from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import format_shape
from nnkit.errors import NnkitError, PluginProblem, first_line
from nnkit.host.members import declare
from nnkit.host.plugin_manager import PluginManager
from nnkit.models.building import build_without_weights
from nnkit.models.members import named_parameters
from nnkit.models.process import neutral_torch, one_at_a_time
from nnkit.models.references import Reference
from nnkit.models.tensors import bytes_of
from nnkit.verbs.summary.report import ForwardFailed, SummaryReport, TensorInfo

ADAM_STATE = 2  # moments that Adam keeps of each parameter
ADAM_SCRATCH = 2  # tensors of its size that Adam makes while it moves a parameter
LONGEST_REASON = 200  # characters


@one_at_a_time
def measure(name: str, manager: PluginManager, quick: bool) -> Iterator[CatalogRow]:
    """Yield the row of `timm/convnext_tiny`, then, unless quick, with the bytes of a training step too.

    What can't be measured has its reason as the method. Raises PluginProblem where a package is missing or
    can't be imported.
    """
    prefix, _, member = name.partition("/")
    namespace = manager.namespaces().get(prefix)
    row = CatalogRow(name=member, version=manager.version_of(prefix))
    try:
        if namespace and namespace.probe and not quick:
            row = _probe(namespace, row)
        plugin, architecture = _find(manager, name, namespace, row)
        row = replace(row, family=architecture.family)
        spec = Reference(architecture, plugin).resolve(None, {})
        spec.require_support("summary")
        report = _summarize(spec, manager)
    except PluginProblem:
        raise
    except Exception as error:
        row = replace(row, method=describe_reason(error))
    else:
        row = replace(row, input=describe_inputs(report), **_figures(report))
        if not quick and row.macs is not None:
            yield row
            row = replace(row, training=_training(spec, manager))
    yield row


def _probe(namespace: Namespace, row: CatalogRow) -> CatalogRow:
    """Return the row with what the adapter found by trying."""
    found = load(namespace.probe)(row.name)
    allowed = {each.name for each in fields(CatalogRow)} - {"name", "version"}
    if not isinstance(found, Mapping) or not allowed.issuperset(found):
        raise PluginProblem(f"{namespace.probe} returned {found!r}; expected values of {', '.join(allowed)}")
    return replace(row, **found)


def _find(
    manager: PluginManager, name: str, namespace: Namespace | None, row: CatalogRow
) -> tuple[str, Architecture]:
    if namespace is None:
        return manager.find(name)
    owner = next(plugin.name for plugin in manager.plugins.values() if namespace.prefix in plugin.namespaces)
    return owner, declare(namespace, row.name, manager.members(namespace.prefix), row)


def _summarize(spec: ModelSpec, manager: PluginManager, optimizer: str | None = None) -> SummaryReport:
    request = SummaryRequest(spec=spec, host=manager, optimizer=optimizer, variants=False, on_meta=True)
    with neutral_torch(spec.plugin):
        try:
            report: SummaryReport = manager.hook.nnkit_summarize(request=request)
        except ForwardFailed as failed:
            return failed.report
    return report


def _figures(report: SummaryReport) -> dict[str, Any]:
    """Return the figures of a summary; those of a forward that failed are only its parameters."""
    totals = report.totals
    if report.failure is not None:
        return {"parameters": totals.parameters, "method": describe_reason(report.failure.error)}
    if totals.missed and not totals.macs:
        unknown = f"no formula for {', '.join(totals.missed)}"
        return {"parameters": totals.parameters, "method": unknown}
    return {
        "parameters": totals.parameters,
        "macs": totals.macs,
        "activations": totals.activations,
        "method": report.method,
    }


def _training(spec: ModelSpec, manager: PluginManager) -> int:
    """Return the bytes of a training step with Adam, 0 if they can't be estimated.

    A step of Adam on tensors without values takes longer than all else together. So the step is one of SGD,
    and what Adam adds is added. The peak is in the backward pass, or where the largest parameter moves. The
    result is within 0.5 % of `summary --training`.
    """
    try:
        memory = _summarize(spec, manager, "sgd").memory
        parameters = named_parameters(build_without_weights(spec, manager, limit=0)).values()
    except Exception:
        return 0
    if memory is None or not memory.training_peak:
        return 0
    state = ADAM_STATE * memory.gradients
    largest = max((bytes_of(parameter) for parameter in parameters if parameter.requires_grad), default=0)
    moving = memory.parameters + memory.buffers + memory.inputs + memory.gradients + state
    return max(memory.training_peak + state, moving + ADAM_SCRATCH * largest)


def describe_inputs(report: SummaryReport) -> str:
    """Return the inputs as a list shows them: `3×224×224`, or `input_ids 16, pixel_values 3×224×224`.

    A batch of one is left out.
    """
    tensors = {name: value for name, value in report.inputs.items() if isinstance(value, TensorInfo)}
    first = 1 if report.batch == 1 else 0
    shapes = {name: format_shape(tensor.shape[first:]) for name, tensor in tensors.items()}
    return ", ".join(shapes.values() if len(shapes) == 1 else map(" ".join, shapes.items()))


def describe_reason(error: object) -> str:
    """Return why there are no figures, in one line."""
    text = error.message if isinstance(error, NnkitError) else first_line(error)
    if isinstance(error, Exception) and not isinstance(error, NnkitError):
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split())[:LONGEST_REASON]
