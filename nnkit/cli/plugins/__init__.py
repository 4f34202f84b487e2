"""`nnkit plugins`: what is installed; its subcommands are the modules beside this one."""

import click

from nnkit import __version__
from nnkit.cli.lazy import LazyGroup
from nnkit.cli.output import print_json
from nnkit.cli.settings import Settings, settings_options
from nnkit.core_handlers import plugin_manager
from nnkit.plugin_manager import Failure, Plugin, PluginManager, plugin_commands

COMMANDS: dict[str, str] = {}


@click.group("plugins", cls=LazyGroup, commands=COMMANDS, package=__name__, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@settings_options
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show the installed plugins: from where, what each gives, what failed and why.

    \b
    nnkit plugins
    nnkit plugins -v          with the traceback of what failed
    nnkit plugins --json
    """
    if ctx.invoked_subcommand is not None:
        return
    manager = plugin_manager()
    if as_json:
        print_json(_data(manager))
    else:
        click.echo(_text(manager, ctx.ensure_object(Settings).verbose))


def _data(manager: PluginManager) -> dict[str, object]:
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
                "executors": [executor.name for executor in plugin.executors],
                "failures": [
                    {"stage": each.stage, "message": each.message} for each in _failures(manager, plugin)
                ],
            }
            for plugin in manager.plugins.values()
        ],
        "commands": [{"name": name, "distribution": owner} for name, owner in plugin_commands()],
    }


def _text(manager: PluginManager, verbose: bool) -> str:
    from nnkit.render.table import Table, to_plain

    rows = [
        (
            plugin.name, f"{plugin.distribution} {plugin.version}", plugin.module,
            _state(plugin, _failures(manager, plugin)),
        )
        for plugin in manager.plugins.values()
    ]  # fmt: skip
    parts = [to_plain(Table(("plugin", "distribution", "module", "state"), rows))]
    for failure in manager.failures:
        parts.append(str(failure))
        if verbose and failure.traceback:
            parts.append(failure.traceback.rstrip())
    parts += [f"command {name}, from {owner}" for name, owner in plugin_commands()]
    return "\n".join(parts)


def _failures(manager: PluginManager, plugin: Plugin) -> list[Failure]:
    return [failure for failure in manager.failures if failure.plugin == plugin.name]


def _state(plugin: Plugin, failures: list[Failure]) -> str:
    if not plugin.enabled:
        return "switched off"
    count = len(plugin.architectures)
    others = [f"format {exporter.name}" for exporter in plugin.exporters]
    others += [f"executor {executor.name}" for executor in plugin.executors]
    what = [f"{count} architecture{'' if count == 1 else 's'}", *others] if count or not others else others
    return ", ".join([*what, *(f"failed: {each.stage}" for each in failures[:1])])
