"""What completion offers for the values of options. Torch-free, so that Tab answers at once."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")


def complete_device(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the kinds of devices, available or not: only torch knows which are."""
    return beginning(incomplete, DEVICES)


def complete_architecture(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the architectures, by short name where that is unique; if none matches, files."""
    from nnkit.verbs.core_handlers import plugin_manager

    names = plugin_manager(checked=False).architectures()
    short_names = [full_name.partition("/")[2] for full_name in names]
    unique = [name for name in short_names if short_names.count(name) == 1]
    return beginning(incomplete, [*unique, *names]) or complete_file(ctx, parameter, incomplete)


def complete_file(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def complete_format(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the export formats of core and of plugins."""
    from nnkit.contract.requests import CORE_FORMATS
    from nnkit.verbs.core_handlers import plugin_manager

    exporters = plugin_manager(checked=False).exporters()
    return beginning(incomplete, [*CORE_FORMATS, *(exporter.name for exporter in exporters)])


def complete_check(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the smoke checks of core and of plugins."""
    from nnkit.contract.requests import CORE_CHECKS
    from nnkit.verbs.core_handlers import plugin_manager

    checks = plugin_manager(checked=False).checks()
    return beginning(incomplete, [*CORE_CHECKS, *(check.name for check in checks)])


def complete_executor(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the executors of a sweep, of core and of plugins."""
    from nnkit.contract.requests import CORE_EXECUTOR
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
