"""The same model with one optional input more or less: what it costs, uses and returns."""

from collections.abc import Iterator
from dataclasses import replace

from nnkit.contract.requests import SummaryRequest
from nnkit.errors import NnkitError
from nnkit.verbs.summary.report import Variant
from nnkit.verbs.summary.runs import count


def count_variants(request: SummaryRequest) -> Iterator[Variant]:
    """Yield, for each optional input, the model without it if the request gives it, and with it if not.

    A module given from Python has none: its inputs are the ones given with it.
    """
    for name in request.spec.optional_inputs if request.module is None else ():
        yield _count_variant(request, name)


def _count_variant(request: SummaryRequest, name: str) -> Variant:
    spec = request.spec
    is_added = name in spec.without
    others = tuple(unit for unit in spec.optional_inputs if (unit in spec.without) != (unit == name))
    variant = spec.with_inputs(others)
    sizes = {dim: size for dim, size in variant.sizes.items() if dim not in spec.sizes}
    try:
        report = count(replace(request, spec=variant))
    except NnkitError as error:
        return Variant(name, is_added, sizes, failure=error.message)
    if report.failure is not None:
        where = report.failure.path or "the model"
        return Variant(name, is_added, sizes, failure=f"forward fails in {where}: {report.failure.error}")
    totals = report.totals
    return Variant(name, is_added, sizes, totals.macs, totals.unused, report.outputs)
