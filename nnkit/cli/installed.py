"""The plugins, as commands use them: their failures and what they print go to stderr."""

from nnkit.cli.settings import Settings
from nnkit.host.plugin_manager import PluginManager
from nnkit.host.plugins import Failure
from nnkit.verbs.core_handlers import plugin_manager


def installed_plugins(settings: Settings) -> PluginManager:
    """Return the plugins, and report on stderr those that failed, and those that fail later on."""

    def report_failure(failure: Failure) -> None:
        settings.note(f"warning: {failure.line}")
        if failure.traceback and not settings.quiet:
            settings.explain(failure.traceback)

    manager = plugin_manager()
    manager.report_failures_to(report_failure)
    manager.divert_prints()
    for deprecation in manager.deprecations:
        settings.note(f"warning: {deprecation}")
    return manager
