"""What completion offers for the values of options. Torch-free, as every Tab must be."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")


def complete_device(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the kinds of devices; which of them are here only torch knows."""
    return beginning(incomplete, DEVICES)


def complete_architecture(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the architectures, by short name where it is nobody else's; else files."""
    from nnkit.verbs.core_handlers import plugin_manager

    names = plugin_manager(checked=False).architectures()
    short = [full.partition("/")[2] for full in names]
    offered = [*(name for name in short if short.count(name) == 1), *names]
    return beginning(incomplete, offered) or complete_file(ctx, parameter, incomplete)


def complete_file(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave it to the shell, which knows the files."""
    return [CompletionItem(incomplete, type="file")]


def complete_format(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the formats to export to, core's and those of plugins."""
    from nnkit.contract.requests import CORE_FORMATS
    from nnkit.verbs.core_handlers import plugin_manager

    return beginning(
        incomplete, [*CORE_FORMATS, *(each.name for each in plugin_manager(checked=False).exporters())]
    )


def complete_check(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the smoke checks, core's and those of plugins."""
    from nnkit.contract.requests import CORE_CHECKS
    from nnkit.verbs.core_handlers import plugin_manager

    return beginning(
        incomplete, [*CORE_CHECKS, *(each.name for each in plugin_manager(checked=False).checks())]
    )


def complete_executor(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer where a sweep may run: here, and where plugins can take it."""
    from nnkit.contract.requests import CORE_EXECUTOR
    from nnkit.verbs.core_handlers import plugin_manager

    return beginning(
        incomplete, [CORE_EXECUTOR, *(each.name for each in plugin_manager(checked=False).executors())]
    )


def complete_columns(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the columns of a summary, after a comma those that aren't there yet."""
    from nnkit.render.summary import COLUMNS

    before, comma, last = incomplete.rpartition(",")
    chosen = before.split(",")
    offered = ["all", *COLUMNS] if not comma else [name for name in COLUMNS if name not in chosen]
    return beginning(incomplete, [before + comma + name for name in offered if name.startswith(last)])


def beginning(incomplete: str, words: Iterable[str]) -> list[CompletionItem]:
    """Return the words that begin with what is typed."""
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]
