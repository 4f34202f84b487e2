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
    from nnkit.hookspecs import ExecuteRequest as ExecuteRequest
    from nnkit.hookspecs import Executor as Executor
    from nnkit.hookspecs import Exporter as Exporter
    from nnkit.hookspecs import ExportOptions as ExportOptions
    from nnkit.hookspecs import OperatorFormula as OperatorFormula
    from nnkit.hookspecs import WriteRequest as WriteRequest
    from nnkit.hookspecs import hookimpl as hookimpl

_HOMES = {
    "Architecture": "nnkit.architecture",
    "Dim": "nnkit.architecture",
    "ExportOptions": "nnkit.hookspecs",
    "ExecuteRequest": "nnkit.hookspecs",
    "Executor": "nnkit.hookspecs",
    "Exporter": "nnkit.hookspecs",
    "Meta": "msgspec",
    "NnkitError": "nnkit.errors",
    "OperatorFormula": "nnkit.hookspecs",
    "Preset": "nnkit.architecture",
    "TensorSpec": "nnkit.architecture",
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
