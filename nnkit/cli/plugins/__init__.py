"""`nnkit plugins`: the installed plugins. Its subcommands are the other modules of this package."""

from collections.abc import Mapping
from dataclasses import replace

import click

from nnkit import __version__
from nnkit.cli.lazy import LazyGroup
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.contract.loading import missing
from nnkit.contract.text import plural
from nnkit.host.configuration import configuration
from nnkit.host.plugin_manager import PluginManager, plugin_commands
from nnkit.host.plugins import Failure, Plugin
from nnkit.host.startup import SLOW, Start, measure
from nnkit.host.zoos import Zoo, zoos
from nnkit.verbs.core_handlers import make_manager, plugin_manager

COMMANDS = {
    "new": "Create a plugin, complete and tested",
    "check": "Check a plugin against the conformance suite",
    "install": "Install plugins and show what they add",
    "uninstall": "Remove a plugin, even a broken one",
    "freeze": "Print the installed plugins as requirements, or restore them",
}


@click.group("plugins", cls=LazyGroup, commands=COMMANDS, package=__name__, invoke_without_command=True)
@click.option(
    "--time", "timed", is_flag=True, help="Show the start-up time that each plugin costs, slowest first."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plugins as JSON.")
@settings_options
@click.pass_context
def command(ctx: click.Context, timed: bool, as_json: bool) -> None:
    """Show the installed plugins: where they come from, what they add, what failed and why.

    \b
    nnkit plugins
    nnkit plugins -v          with the tracebacks of failures
    nnkit plugins --time      the start-up time that each costs
    nnkit plugins new mine --architecture my-net
    """
    if ctx.invoked_subcommand is not None:
        return
    settings = ctx.ensure_object(Settings)
    configured = configuration()
    if timed:
        # Only discovered, not imported: a plugin that hangs must be reported too.
        manager = make_manager(configuration=replace(configured, plugins=()))
        settings.progress("importing each plugin in its own process")
        starts = measure(plugin for plugin in manager.plugins.values() if configured.loads(*plugin.names))
    else:
        manager, starts = plugin_manager(checked=False), None
        manager.check_all()
    problems = [f"{problem.message}; {problem.hint}" for problem in configured.problems]
    for line in (*problems, *manager.unknown_names()):
        settings.note(f"warning: {line}")
    if starts is not None:
        print_json(_starts_as_data(starts)) if as_json else print_text(_starts_as_text(starts))
    elif as_json:
        print_json(_as_data(manager))
    else:
        print_text(_as_text(manager, settings.verbose))


def _starts_as_data(starts: list[Start]) -> dict[str, object]:
    return {
        "schema": "nnkit.plugins-time/1",
        "nnkit": __version__,
        "plugins": [start.to_dict() for start in starts],
    }


def _starts_as_text(starts: list[Start]) -> str:
    from nnkit.render.table import Table, to_plain

    rows = [
        (
            start.plugin,
            start.distribution,
            "?" if start.seconds is None else f"{start.seconds * 1000:.0f}",
            str(start.modules),
            _remarks(start),
        )
        for start in starts
    ]
    return to_plain(
        Table(("plugin", "distribution", "ms", "modules", ""), rows, frozenset(["ms", "modules"]))
    )


def _remarks(start: Start) -> str:
    """Return what is wrong with a start."""
    remarks = [f"imports {', '.join(start.heavy)}"] if start.heavy else []
    remarks += ["slow"] if start.slow and start.seconds is not None else []
    remarks += [f"fails: {start.error}"] if start.error else []
    return "; ".join(remarks)


def _as_data(manager: PluginManager) -> dict[str, object]:
    namespaces = _zoos_by_plugin(manager)
    return {
        "schema": "nnkit.plugins/1",
        "nnkit": __version__,
        "plugins": [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "module": plugin.module,
                "enabled": plugin.enabled,
                "architectures": list(plugin.architectures),
                "formats": [exporter.name for exporter in plugin.exporters],
                "pictures": [picture.name for picture in plugin.pictures],
                "executors": [executor.name for executor in plugin.executors],
                "zoos": [zoo.to_dict() for zoo in namespaces[plugin.name]],
                "heavy": list(plugin.heavy),
                "failures": [
                    {
                        "stage": failure.stage,
                        "message": failure.message,
                        "hint": failure.hint,
                        "harmless": failure.harmless,
                    }
                    for failure in _failures(manager, plugin)
                ],
                "deprecations": [
                    deprecation.message
                    for deprecation in manager.deprecations
                    if deprecation.plugin == plugin.name
                ],
            }
            for plugin in manager.plugins.values()
        ],
        "commands": [{"name": name, "distribution": owner} for name, owner in plugin_commands()],
    }


def _as_text(manager: PluginManager, verbose: bool) -> str:
    from nnkit.render.table import Table, to_plain

    namespaces = _zoos_by_plugin(manager)
    rows = [
        (
            plugin.name,
            f"{plugin.distribution} {plugin.version}",
            plugin.module,
            _state(plugin, namespaces[plugin.name], _failures(manager, plugin)),
        )
        for plugin in manager.plugins.values()
    ]
    parts = [to_plain(Table(("plugin", "distribution", "module", "state"), rows))]
    for failure in manager.failures:
        parts.append(failure.line)
        if verbose and failure.traceback:
            parts.append(failure.traceback.rstrip())
    parts += [str(deprecation) for deprecation in manager.deprecations]
    parts += [f"command {name}, from {owner}{_note_if_hidden(name)}" for name, owner in plugin_commands()]
    return "\n".join(parts)


def _note_if_hidden(name: str) -> str:
    from nnkit.cli.main import COMMANDS as CORE

    return ": hidden by nnkit's own" if name in CORE else ""


def _failures(manager: PluginManager, plugin: Plugin) -> list[Failure]:
    return [failure for failure in manager.failures if failure.plugin == plugin.name]


def _zoos_by_plugin(manager: PluginManager) -> dict[str, list[Zoo]]:
    """Return the zoos of each plugin; they are asked first, because what fails then is shown too."""
    found: dict[str, list[Zoo]] = {name: [] for name in manager.plugins}
    for zoo in zoos(manager):
        found[zoo.plugin].append(zoo)
    return found


def _state(plugin: Plugin, own_zoos: list[Zoo], failures: list[Failure]) -> str:
    if not plugin.enabled:
        return "switched off"
    remarks = _contributions(plugin, own_zoos)
    remarks += [f"imports {name}" for name in plugin.heavy[:1]]
    remarks += ["slow to import"] if plugin.seconds >= SLOW else []
    remarks += [f"{failure.verb}: {failure.stage}" for failure in failures[:1]]
    return ", ".join(remarks)


def _contributions(plugin: Plugin, own_zoos: list[Zoo]) -> list[str]:
    """Return what a plugin adds: `2 architectures`, `format openvino`; the count also if it adds nothing."""
    count = len(plugin.architectures)
    others = [f"zoo {zoo.prefix}/ ({zoo.state})" for zoo in own_zoos]
    others += [f"format {exporter.name}" for exporter in plugin.exporters]
    others += [f"picture {picture.name}" for picture in plugin.pictures]
    others += [f"executor {executor.name}{_lacking(executor.requires)}" for executor in plugin.executors]
    if others and not count:
        return others
    return [plural(count, "architecture"), *others]


def _lacking(requires: Mapping[str, str]) -> str:
    package = missing(requires)
    return f" (not installed: {requires[package]})" if package else ""
