"""`nnkit compare ARCH ARCH …`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from nnkit import api
from nnkit.cli.completers import complete_architecture, complete_device
from nnkit.cli.options import installed_plugins
from nnkit.cli.output import print_report, report_format
from nnkit.cli.settings import Settings, settings_options
from nnkit.config import options_of
from nnkit.errors import UsageProblem
from nnkit.hookspecs import OPTIMIZERS
from nnkit.plugin_manager import PluginManager
from nnkit.references import Reference, look_up
from nnkit.spec import ModelSpec

if TYPE_CHECKING:
    from nnkit.summary.comparison import CompareReport

SIDES = ("left", "right")


@dataclass
class Words:
    """What was typed: the references, and the options of all and of one side, by name."""

    references: list[str] = field(default_factory=list)
    common: dict[str, Any] = field(default_factory=dict)
    own: dict[str, dict[str, Any]] = field(default_factory=lambda: {side: {} for side in SIDES})


@click.command("compare", context_settings={"ignore_unknown_options": True})
@click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="ARCH ARCH …", shell_complete=complete_architecture
)
@report_format("text", "json", "csv", "markdown")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when they are not equal.")
@click.option(
    "--input", "inputs", multiple=True, metavar="DECLARATION", help="An input of modules of your own."
)
@click.option(
    "--optimizer", type=click.Choice(OPTIMIZERS), help="Compare the memory that training needs too."
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    shell_complete=complete_device,
    help="Of that memory.",
)
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    format: str,
    exit_code: bool,
    inputs: tuple[str, ...],
    optimizer: str | None,
    device: str,
) -> None:
    """Show models side by side; of two, what differs layer by layer.

    \b
    nnkit compare resnet18 resnet34 vgg16
    nnkit compare a.yaml b.yaml --exit-code
    nnkit compare resnet18 resnet18 --right.num-classes 100

    An option stands for all that have it, or with --left. or --right. for one of two.
    """
    settings = ctx.ensure_object(Settings)
    manager = installed_plugins(settings)
    typed = _sort(words, _flags(manager))
    if len(typed.references) < 2:
        raise UsageProblem("compare takes two models or more", "nnkit compare resnet18 resnet34")
    references = [look_up(text, manager, inputs) for text in typed.references]
    report = api.compare(*_specs(references, typed), optimizer=optimizer, device=device)
    _show(settings, report, format)
    if exit_code and not report.equal:
        ctx.exit(1)


def _sort(words: Sequence[str], flags: frozenset[str]) -> Words:
    """Sort what was typed; an option in `flags` has no value of its own."""
    typed = Words()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            typed.references.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        side, dot, own = name.partition(".")
        if dot and side not in SIDES:
            raise UsageProblem(f"no such option {word}", "one side's options begin with --left. or --right.")
        options, name = (typed.own[side], own) if dot else (typed.common, name)
        if equals:
            options[_field(name)] = value
        elif name in flags:
            options[_field(name.removeprefix("no-"))] = str(not name.startswith("no-")).lower()
        elif rest:
            options[_field(name)] = rest.pop(0)
        else:
            raise UsageProblem(f"option {word} needs a value", f"write it so: {word} VALUE")
    return typed


def _field(name: str) -> str:
    return name.replace("-", "_")


def _flags(manager: PluginManager) -> frozenset[str]:
    """Return the options of any architecture that are a plain yes or no, as they are typed."""
    names = {
        option.flag.removeprefix("--")
        for architecture in manager.architectures().values()
        for option in options_of(architecture.config)
        if option.is_flag
    }
    return frozenset(names | {f"no-{name}" for name in names})


def _specs(references: Sequence[Reference], typed: Words) -> list[ModelSpec]:
    own = [typed.own[side] for side in SIDES]
    if len(references) != 2 and any(own):
        raise UsageProblem("--left. and --right. are for two models", "name two, or leave them out")
    sides = own if len(references) == 2 else [{} for _ in references]
    for name in typed.common:
        if not any(_has(reference, name) for reference in references):
            references[0].resolve(None, {name: typed.common[name]})  # which says what is wrong with it
    specs = []
    for reference, side in zip(references, sides, strict=True):
        common = {name: value for name, value in typed.common.items() if _has(reference, name)}
        options = {**common, **side}
        preset = options.pop("preset", None)
        if "seed" in options:
            options["seed"] = int(options["seed"])
        specs.append(reference.resolve(preset, options))
    return specs


def _has(reference: Reference, name: str) -> bool:
    architecture = reference.architecture
    fields = {option.name for option in options_of(architecture.config)}
    return name in {*fields, *architecture.dims, "seed", "dtype", "weights", "preset"}


def _show(settings: Settings, report: "CompareReport", format: str) -> None:
    from nnkit.render import compare as render

    forms = {
        "text": lambda: render.as_text(report, settings.on_terminal, settings.use_color),
        "csv": lambda: render.as_csv(report),
        "markdown": lambda: render.as_markdown(report),
    }
    print_report(settings, report, format, forms)
