"""The names of a new plugin, and the names that are not allowed. Torch-free."""

import importlib.util
import keyword
from dataclasses import dataclass

from nnkit.contract.architecture import NAME
from nnkit.errors import UsageProblem
from nnkit.host.installing.distributions import NNKIT, find_distribution, normalized
from nnkit.host.plugin_manager import PluginManager

TAKEN = ("Architecture", "Block", "Dim", "Meta", "Tensor", "TensorSpec")
"""Classes that the templates use; the class of a network gets a different name."""


@dataclass(frozen=True)
class Names:
    """The names of a new plugin: `nnkit-mine` contains the package `nnkit_mine` with the plugin `mine`.

    architecture: such as `my-net`. network: the class of its module, `MyNet`.
    """

    distribution: str
    package: str
    plugin: str
    architecture: str
    network: str


def choose_names(name: str, architecture: str, manager: PluginManager) -> Names:
    """Return the names for a plugin that the user calls `mine`, `nnkit-mine` or `nnkit_mine`.

    Raises UsageProblem for a name that is not allowed or already taken.
    """
    plugin = normalized(name).removeprefix(NNKIT).removeprefix("-")
    _refuse(name, plugin, "a plugin")
    _refuse(architecture, architecture, "an architecture")
    names = Names(
        distribution=f"{NNKIT}-{plugin}",
        package=f"{NNKIT}_{plugin.replace('-', '_')}",
        plugin=plugin,
        architecture=architecture,
        network=_class_name(architecture),
    )
    if find_distribution(names.distribution) or importlib.util.find_spec(names.package):
        raise UsageProblem(
            f"{names.distribution} is already installed", "choose a different name for the plugin"
        )
    if plugin in manager.plugins:
        owner = manager.plugins[plugin].distribution
        raise UsageProblem(
            f"{owner} already has a plugin {plugin!r}", "choose a different name for the plugin"
        )
    owners = [full for full in manager.architectures() if full.endswith(f"/{architecture}")]
    if owners:
        raise UsageProblem(
            f"architecture {architecture!r} already exists: {owners[0]}",
            f"choose a different name, for example: --architecture my-{architecture}",
        )
    return names


def _refuse(typed: str, name: str, what: str) -> None:
    """Raise UsageProblem unless `name` is a valid name for nnkit and for Python."""
    if keyword.iskeyword(name):
        raise UsageProblem(f"{typed!r} is a Python keyword, so it can't name {what}", "for example: my-net")
    if not NAME.fullmatch(name) or name[0].isdecimal():
        raise UsageProblem(
            f"{typed!r} is not a valid name for {what}",
            "use lowercase words joined by hyphens, starting with a letter, such as my-net",
        )


def _class_name(architecture: str) -> str:
    name = "".join(word.capitalize() for word in architecture.split("-"))
    return f"{name}Net" if keyword.iskeyword(name) or name in TAKEN else name
