"""The first and the last handler of each verb, and the plugin manager that has both.

Torch-free until one of them is called.
"""

import functools
from typing import TYPE_CHECKING, Any

from nnkit.contract.architecture import Verb
from nnkit.contract.hooks import hookimpl
from nnkit.contract.loading import load
from nnkit.errors import NnkitError, PluginProblem
from nnkit.host.configuration import Configuration, configuration
from nnkit.host.plugin_manager import PluginManager

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

    from torch import nn

    from nnkit.contract.requests import BuildRequest, ExportRequest, SmokeRequest, SummaryRequest
    from nnkit.contract.spec import ModelSpec
    from nnkit.verbs.exporting.report import ExportReport
    from nnkit.verbs.smoke.report import SmokeReport
    from nnkit.verbs.summary.report import SummaryReport


class OwnHandlers:
    """Calls the handler that the architecture itself names."""

    @hookimpl(tryfirst=True)
    def nnkit_build(self, request: "BuildRequest") -> Any:
        return _call_own_handler("build", request.spec, request)

    @hookimpl(tryfirst=True)
    def nnkit_summarize(self, request: "SummaryRequest") -> Any:
        return _call_own_handler("summary", request.spec, request)

    @hookimpl(tryfirst=True)
    def nnkit_export(self, request: "ExportRequest") -> Any:
        return _call_own_handler("export", request.spec, request)

    @hookimpl(tryfirst=True)
    def nnkit_smoke_run(self, request: "SmokeRequest") -> Any:
        return _call_own_handler("smoke-run", request.spec, request)


def _call_own_handler(verb: Verb, spec: "ModelSpec", request: object) -> Any:
    reference = spec.architecture.handlers.get(verb)
    if not reference:
        return None
    try:
        return load(reference)(request)
    except NnkitError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginProblem(
            f"{reference}, which serves {verb} for {spec.name}, failed: {type(error).__name__}: {error}",
            "see the full error with -v, and report it to the author",
        ) from error


class CoreHandlers:
    """Serves every verb that no handler before it served."""

    @hookimpl(trylast=True)
    def nnkit_build(self, request: "BuildRequest") -> "nn.Module":
        from nnkit.models.building import build_default

        return build_default(request)

    @hookimpl(trylast=True)
    def nnkit_summarize(self, request: "SummaryRequest") -> "SummaryReport":
        from nnkit.verbs.summary.handler import summarize

        return summarize(request)

    @hookimpl(trylast=True)
    def nnkit_export(self, request: "ExportRequest") -> "ExportReport":
        from nnkit.verbs.exporting.handler import export

        return export(request)

    @hookimpl(trylast=True)
    def nnkit_smoke_run(self, request: "SmokeRequest") -> "SmokeReport":
        if request.simulate is not None:
            from nnkit.verbs.smoke.simulation import simulate

            return simulate(request)
        if request.parallel is not None:
            from nnkit.verbs.parallel.handler import smoke_run as run_in_parallel

            return run_in_parallel(request)
        from nnkit.verbs.smoke.handler import smoke_run

        return smoke_run(request)


def make_manager(
    points: "Iterable[EntryPoint] | None" = None, configuration: Configuration | None = None
) -> PluginManager:
    """Return a manager of the plugins at `points`, by default the installed ones, with core's handlers."""
    # pluggy calls the last registered `tryfirst` implementation first.
    return PluginManager(points, configuration, core={"core": CoreHandlers(), "architecture": OwnHandlers()})


@functools.cache
def plugin_manager(checked: bool = True) -> PluginManager:
    """Return the manager of the installed plugins; they are looked up once in a process.

    Raises UsageProblem if a configuration file is broken. With `checked` False, for commands that diagnose
    problems, a broken file is ignored instead.
    """
    settled = configuration()
    if not checked and not settled.problems:
        return plugin_manager()  # the same, so it is not made twice
    return make_manager(configuration=settled.checked() if checked else settled)
