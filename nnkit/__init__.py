"""nnkit: build, summarize, export and smoke-test neural-network architectures, found through plugins.

Every name is imported when it is first used, so `import nnkit` is fast and imports no torch.
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
    from nnkit.api import graph as graph
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
    from nnkit.contract.architecture import TrainingStep as TrainingStep
    from nnkit.contract.catalog import CatalogRow as CatalogRow
    from nnkit.contract.contributions import Check as Check
    from nnkit.contract.contributions import Executor as Executor
    from nnkit.contract.contributions import Exporter as Exporter
    from nnkit.contract.contributions import OperatorFormula as OperatorFormula
    from nnkit.contract.contributions import Picture as Picture
    from nnkit.contract.hooks import hookimpl as hookimpl
    from nnkit.contract.namespace import Namespace as Namespace
    from nnkit.contract.namespace import ZooName as ZooName
    from nnkit.contract.open_config import OpenField as OpenField
    from nnkit.contract.open_config import open_config as open_config
    from nnkit.contract.requests import BuildRequest as BuildRequest
    from nnkit.contract.requests import DeclareRequest as DeclareRequest
    from nnkit.contract.requests import DrawRequest as DrawRequest
    from nnkit.contract.requests import Executed as Executed
    from nnkit.contract.requests import ExecuteRequest as ExecuteRequest
    from nnkit.contract.requests import ExportOptions as ExportOptions
    from nnkit.contract.requests import ExportRequest as ExportRequest
    from nnkit.contract.requests import Host as Host
    from nnkit.contract.requests import ReadRequest as ReadRequest
    from nnkit.contract.requests import SmokeRequest as SmokeRequest
    from nnkit.contract.requests import SummaryRequest as SummaryRequest
    from nnkit.contract.requests import WriteRequest as WriteRequest
    from nnkit.contract.settings import settings_of as settings_of
    from nnkit.contract.settings import settings_text as settings_text
    from nnkit.contract.spec import ModelSpec as ModelSpec
    from nnkit.errors import NnkitError as NnkitError
    from nnkit.errors import PluginProblem as PluginProblem
    from nnkit.errors import UsageProblem as UsageProblem
    from nnkit.errors import did_you_mean as did_you_mean
    from nnkit.verbs.exporting.report import ExportReport as ExportReport
    from nnkit.verbs.graph.report import GraphReport as GraphReport
    from nnkit.verbs.smoke.report import CheckResult as CheckResult
    from nnkit.verbs.smoke.report import SmokeReport as SmokeReport
    from nnkit.verbs.smoke.subject import Failed as Failed
    from nnkit.verbs.smoke.subject import Skipped as Skipped
    from nnkit.verbs.smoke.subject import Subject as Subject
    from nnkit.verbs.smoke.subject import Warned as Warned
    from nnkit.verbs.summary.report import SummaryReport as SummaryReport

_HOMES = {
    "Architecture": "nnkit.contract.architecture",
    "BuildRequest": "nnkit.contract.requests",
    "CatalogRow": "nnkit.contract.catalog",
    "Check": "nnkit.contract.contributions",
    "CheckResult": "nnkit.verbs.smoke.report",
    "DeclareRequest": "nnkit.contract.requests",
    "Dim": "nnkit.contract.architecture",
    "DrawRequest": "nnkit.contract.requests",
    "ExecuteRequest": "nnkit.contract.requests",
    "Executed": "nnkit.contract.requests",
    "Executor": "nnkit.contract.contributions",
    "ExportOptions": "nnkit.contract.requests",
    "ExportReport": "nnkit.verbs.exporting.report",
    "ExportRequest": "nnkit.contract.requests",
    "Exporter": "nnkit.contract.contributions",
    "Failed": "nnkit.verbs.smoke.subject",
    "GraphReport": "nnkit.verbs.graph.report",
    "Host": "nnkit.contract.requests",
    "Meta": "msgspec",
    "ModelSpec": "nnkit.contract.spec",
    "Namespace": "nnkit.contract.namespace",
    "NnkitError": "nnkit.errors",
    "OpenField": "nnkit.contract.open_config",
    "OperatorFormula": "nnkit.contract.contributions",
    "Picture": "nnkit.contract.contributions",
    "Preset": "nnkit.contract.architecture",
    "ReadRequest": "nnkit.contract.requests",
    "Skipped": "nnkit.verbs.smoke.subject",
    "SmokeReport": "nnkit.verbs.smoke.report",
    "SmokeRequest": "nnkit.contract.requests",
    "Subject": "nnkit.verbs.smoke.subject",
    "SummaryReport": "nnkit.verbs.summary.report",
    "SummaryRequest": "nnkit.contract.requests",
    "TensorSpec": "nnkit.contract.architecture",
    "TrainingStep": "nnkit.contract.architecture",
    "PluginProblem": "nnkit.errors",
    "UsageProblem": "nnkit.errors",
    "Warned": "nnkit.verbs.smoke.subject",
    "WriteRequest": "nnkit.contract.requests",
    "ZooName": "nnkit.contract.namespace",
    "bench": "nnkit.api",
    "build": "nnkit.api",
    "compare": "nnkit.api",
    "did_you_mean": "nnkit.errors",
    "export": "nnkit.api",
    "export_all": "nnkit.api",
    "fit": "nnkit.api",
    "graph": "nnkit.api",
    "hookimpl": "nnkit.contract.hooks",
    "inspect_file": "nnkit.api",
    "open_config": "nnkit.contract.open_config",
    "resolve": "nnkit.api",
    "settings_of": "nnkit.contract.settings",
    "settings_text": "nnkit.contract.settings",
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
