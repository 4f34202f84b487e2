"""The installed plugins, loaded and ready to be asked. Torch-free."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from nnkit.host.configuration import Configuration
from nnkit.host.discovery import installed_points, with_distributions
from nnkit.host.loader import PluginLoader
from nnkit.host.registry import PluginRegistry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "nnkit"
COMMANDS_GROUP = "nnkit.commands"


class PluginManager(PluginRegistry):
    """A registry that loads its plugins when it is made.

    points: the entry points to load, by default those installed in the group `nnkit`.
    configuration: the settings.
    core: objects with nnkit's own hookimpls, by name, registered after the plugins.
    """

    def __init__(
        self,
        points: "Iterable[EntryPoint] | None" = None,
        configuration: Configuration | None = None,
        core: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(configuration or Configuration())
        installed, damaged = installed_points(GROUP) if points is None else with_distributions(points)
        PluginLoader(self).load(installed, damaged)
        for name, handlers in (core or {}).items():
            self.hook_manager.register(handlers, name)


def plugin_commands() -> list[tuple[str, str]]:
    """Return (name, distribution) of the commands that plugins add; none of them is loaded."""
    commands, _ = installed_points(COMMANDS_GROUP)
    return sorted((command.point.name, command.distribution) for command in commands)
