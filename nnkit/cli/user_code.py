"""Modules of the user's own on the command line: what is typed for them, and what nnkit assumes of them."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import click

from nnkit.cli.settings import Settings
from nnkit.contract.architecture import Architecture
from nnkit.contract.config import options_of
from nnkit.contract.visible import visible


def values_of(flag: str, args: Sequence[str]) -> list[str]:
    """Return the values that are typed after a flag."""
    after = [word for previous, word in pairwise(args) if previous == flag]
    return after + [word.partition("=")[2] for word in args if word.startswith(f"{flag}=")]


def typed_options(config: type, args: Sequence[str]) -> dict[str, Any]:
    """Return the values that are typed for the fields of a config, before click has parsed them."""
    options: dict[str, Any] = {}
    for option in options_of(config):
        if option.is_flag:
            for flag, value in ((option.flag, True), (f"--no-{option.flag[2:]}", False)):
                if flag in args:
                    options[option.name] = value
        elif values := values_of(option.flag, args):
            options[option.name] = values[-1]
    return options


def write_assumed(settings: Settings, architecture: Architecture, text: str) -> None:
    """Say on stderr what nnkit assumes of a module of the user's own, and how to overrule it."""
    if settings.quiet or not architecture.typed:
        return
    if text != architecture.typed[0]:
        click.echo(visible(f"assumed: {architecture.typed[0]}, the only module in {text}"), err=True)
    for line in architecture.assumed:
        head = re.match(r"[\w.]+( =|:)", line)  # `x:`, or `train =`
        click.echo(visible(f'assumed: {line} (overrule it: --input "{head[0] if head else ""} …")'), err=True)
