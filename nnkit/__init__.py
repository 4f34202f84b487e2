"""nnkit: build, summarise, export and smoke-run neural-network architectures, found through plugins.

Everything here is loaded when first used, so `import nnkit` costs nothing and imports no torch.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from msgspec import Meta as Meta

    from nnkit.api import bench as bench
    from nnkit.api import build as build
    from nnkit.api import compare as compare
    from nnkit.api import export as export
    from nnkit.api import export_all as export_all
    from nnkit.api import fit as fit
    from nnkit.api import inspect_file as inspect_file
    from nnkit.api import resolve as resolve
    from nnkit.api import smoke_run as smoke_run
    from nnkit.api import smoke_sweep as smoke_sweep
    from nnkit.api import summarize as summarize
    from nnkit.api import verify as verify
    from nnkit.contract.architecture import Architecture as Architecture
    from nnkit.contract.architecture import Dim as Dim
    from nnkit.contract.architecture import Preset as Preset
    from nnkit.contract.architecture import TensorSpec as TensorSpec
    from nnkit.contract.hookspecs import BuildRequest as BuildRequest
    from nnkit.contract.hookspecs import Check as Check
    from nnkit.contract.hookspecs import Executed as Executed
    from nnkit.contract.hookspecs import ExecuteRequest as ExecuteRequest
    from nnkit.contract.hookspecs import Executor as Executor
    from nnkit.contract.hookspecs import Exporter as Exporter
    from nnkit.contract.hookspecs import ExportOptions as ExportOptions
    from nnkit.contract.hookspecs import ExportRequest as ExportRequest
    from nnkit.contract.hookspecs import Host as Host
    from nnkit.contract.hookspecs import OperatorFormula as OperatorFormula
    from nnkit.contract.hookspecs import SmokeRequest as SmokeRequest
    from nnkit.contract.hookspecs import SummaryRequest as SummaryRequest
    from nnkit.contract.hookspecs import WriteRequest as WriteRequest
    from nnkit.contract.hookspecs import hookimpl as hookimpl
    from nnkit.contract.spec import ModelSpec as ModelSpec
    from nnkit.errors import NnkitError as NnkitError
    from nnkit.verbs.exporting.report import ExportReport as ExportReport
    from nnkit.verbs.smoke.report import CheckResult as CheckResult
    from nnkit.verbs.smoke.report import SmokeReport as SmokeReport
    from nnkit.verbs.smoke.subject import Failed as Failed
    from nnkit.verbs.smoke.subject import Skipped as Skipped
    from nnkit.verbs.smoke.subject import Subject as Subject
    from nnkit.verbs.smoke.subject import Warned as Warned
    from nnkit.verbs.summary.report import SummaryReport as SummaryReport

_HOMES = {
    "Architecture": "nnkit.contract.architecture",
    "BuildRequest": "nnkit.contract.hookspecs",
    "Check": "nnkit.contract.hookspecs",
    "CheckResult": "nnkit.verbs.smoke.report",
    "Dim": "nnkit.contract.architecture",
    "ExportOptions": "nnkit.contract.hookspecs",
    "ExecuteRequest": "nnkit.contract.hookspecs",
    "Executed": "nnkit.contract.hookspecs",
    "Executor": "nnkit.contract.hookspecs",
    "ExportReport": "nnkit.verbs.exporting.report",
    "ExportRequest": "nnkit.contract.hookspecs",
    "Exporter": "nnkit.contract.hookspecs",
    "Failed": "nnkit.verbs.smoke.subject",
    "Host": "nnkit.contract.hookspecs",
    "Meta": "msgspec",
    "ModelSpec": "nnkit.contract.spec",
    "NnkitError": "nnkit.errors",
    "OperatorFormula": "nnkit.contract.hookspecs",
    "Preset": "nnkit.contract.architecture",
    "Skipped": "nnkit.verbs.smoke.subject",
    "SmokeReport": "nnkit.verbs.smoke.report",
    "SmokeRequest": "nnkit.contract.hookspecs",
    "Subject": "nnkit.verbs.smoke.subject",
    "SummaryReport": "nnkit.verbs.summary.report",
    "SummaryRequest": "nnkit.contract.hookspecs",
    "TensorSpec": "nnkit.contract.architecture",
    "Warned": "nnkit.verbs.smoke.subject",
    "WriteRequest": "nnkit.contract.hookspecs",
    "bench": "nnkit.api",
    "build": "nnkit.api",
    "compare": "nnkit.api",
    "export": "nnkit.api",
    "export_all": "nnkit.api",
    "fit": "nnkit.api",
    "hookimpl": "nnkit.contract.hookspecs",
    "inspect_file": "nnkit.api",
    "resolve": "nnkit.api",
    "smoke_run": "nnkit.api",
    "smoke_sweep": "nnkit.api",
    "summarize": "nnkit.api",
    "verify": "nnkit.api",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nnkit' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
