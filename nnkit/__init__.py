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
    from nnkit.architecture import Architecture as Architecture
    from nnkit.architecture import Dim as Dim
    from nnkit.architecture import Preset as Preset
    from nnkit.architecture import TensorSpec as TensorSpec
    from nnkit.errors import NnkitError as NnkitError
    from nnkit.exporting.report import ExportReport as ExportReport
    from nnkit.hookspecs import BuildRequest as BuildRequest
    from nnkit.hookspecs import Check as Check
    from nnkit.hookspecs import Executed as Executed
    from nnkit.hookspecs import ExecuteRequest as ExecuteRequest
    from nnkit.hookspecs import Executor as Executor
    from nnkit.hookspecs import Exporter as Exporter
    from nnkit.hookspecs import ExportOptions as ExportOptions
    from nnkit.hookspecs import ExportRequest as ExportRequest
    from nnkit.hookspecs import Host as Host
    from nnkit.hookspecs import OperatorFormula as OperatorFormula
    from nnkit.hookspecs import SmokeRequest as SmokeRequest
    from nnkit.hookspecs import SummaryRequest as SummaryRequest
    from nnkit.hookspecs import WriteRequest as WriteRequest
    from nnkit.hookspecs import hookimpl as hookimpl
    from nnkit.smoke.report import CheckResult as CheckResult
    from nnkit.smoke.report import SmokeReport as SmokeReport
    from nnkit.smoke.subject import Failed as Failed
    from nnkit.smoke.subject import Skipped as Skipped
    from nnkit.smoke.subject import Subject as Subject
    from nnkit.smoke.subject import Warned as Warned
    from nnkit.spec import ModelSpec as ModelSpec
    from nnkit.summary.report import SummaryReport as SummaryReport

_HOMES = {
    "Architecture": "nnkit.architecture",
    "BuildRequest": "nnkit.hookspecs",
    "Check": "nnkit.hookspecs",
    "CheckResult": "nnkit.smoke.report",
    "Dim": "nnkit.architecture",
    "ExportOptions": "nnkit.hookspecs",
    "ExecuteRequest": "nnkit.hookspecs",
    "Executed": "nnkit.hookspecs",
    "Executor": "nnkit.hookspecs",
    "ExportReport": "nnkit.exporting.report",
    "ExportRequest": "nnkit.hookspecs",
    "Exporter": "nnkit.hookspecs",
    "Failed": "nnkit.smoke.subject",
    "Host": "nnkit.hookspecs",
    "Meta": "msgspec",
    "ModelSpec": "nnkit.spec",
    "NnkitError": "nnkit.errors",
    "OperatorFormula": "nnkit.hookspecs",
    "Preset": "nnkit.architecture",
    "Skipped": "nnkit.smoke.subject",
    "SmokeReport": "nnkit.smoke.report",
    "SmokeRequest": "nnkit.hookspecs",
    "Subject": "nnkit.smoke.subject",
    "SummaryReport": "nnkit.summary.report",
    "SummaryRequest": "nnkit.hookspecs",
    "TensorSpec": "nnkit.architecture",
    "Warned": "nnkit.smoke.subject",
    "WriteRequest": "nnkit.hookspecs",
    "bench": "nnkit.api",
    "build": "nnkit.api",
    "compare": "nnkit.api",
    "export": "nnkit.api",
    "export_all": "nnkit.api",
    "fit": "nnkit.api",
    "hookimpl": "nnkit.hookspecs",
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
