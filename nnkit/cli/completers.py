"""What completion offers for the values of options. Torch-free, so that Tab answers at once."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from nnkit.host.plugin_manager import PluginManager

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")


def complete_device(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the kinds of devices, available or not: only torch knows which are."""
    return beginning(incomplete, DEVICES)


def complete_architecture(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the architectures, by short name where that is unique, and those of a zoo; or else files."""
    from nnkit.verbs.core_handlers import plugin_manager

    manager = plugin_manager(checked=False)
    names = manager.architectures()
    short_names = [full_name.partition("/")[2] for full_name in names]
    unique = [name for name in short_names if short_names.count(name) == 1]
    offered = beginning(incomplete, [*unique, *names, *_in_zoos(manager, incomplete)])
    return offered or complete_file(ctx, parameter, incomplete)


def _in_zoos(manager: "PluginManager", incomplete: str) -> list[str]:
    """Return the names of the zoo whose prefix is typed, even in part; the prefixes where that isn't clear.

    A shell writes a space behind the only word that it is offered. So a prefix that nothing else begins like
    is not offered itself, but its names.
    """
    prefixes = [f"{prefix}/" for prefix in manager.namespaces()]
    meant = [prefix for prefix in prefixes if prefix.startswith(incomplete) or incomplete.startswith(prefix)]
    if len(meant) != 1:
        return meant
    return [f"{meant[0]}{name}" for name in manager.known_members(meant[0].removesuffix("/"))]


def complete_file(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def complete_format(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the export formats of core and of plugins."""
    from nnkit.contract.contributions import CORE_FORMATS
    from nnkit.verbs.core_handlers import plugin_manager

    exporters = plugin_manager(checked=False).exporters()
    return beginning(incomplete, [*CORE_FORMATS, *(exporter.name for exporter in exporters)])


def complete_picture(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the formats of pictures, of core and of plugins."""
    from nnkit.contract.contributions import CORE_PICTURES
    from nnkit.verbs.core_handlers import plugin_manager

    pictures = plugin_manager(checked=False).pictures()
    return beginning(incomplete, [*CORE_PICTURES, *(picture.name for picture in pictures)])


def complete_check(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the smoke checks of core and of plugins."""
    from nnkit.contract.contributions import CORE_CHECKS
    from nnkit.verbs.core_handlers import plugin_manager

    checks = plugin_manager(checked=False).checks()
    return beginning(incomplete, [*CORE_CHECKS, *(check.name for check in checks)])


def complete_executor(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the executors of a sweep, of core and of plugins."""
    from nnkit.contract.contributions import CORE_EXECUTOR
    from nnkit.verbs.core_handlers import plugin_manager

    executors = plugin_manager(checked=False).executors()
    return beginning(incomplete, [CORE_EXECUTOR, *(executor.name for executor in executors)])


def complete_columns(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the columns of a summary; after a comma, those not chosen yet."""
    from nnkit.render.summary_columns import COLUMNS

    before, comma, last = incomplete.rpartition(",")
    chosen = before.split(",")
    offered = ["all", *COLUMNS] if not comma else [name for name in COLUMNS if name not in chosen]
    return beginning(incomplete, [before + comma + name for name in offered if name.startswith(last)])


def beginning(incomplete: str, words: Iterable[str]) -> list[CompletionItem]:
    """Return the words that begin with what was typed."""
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]
