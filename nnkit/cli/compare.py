"""`nnkit compare ARCH ARCH …`."""

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import click

from nnkit.cli.command import Command
from nnkit.cli.completers import complete_architecture
from nnkit.cli.installed import installed_plugins
from nnkit.cli.options import declare_option, device_option, input_option
from nnkit.cli.output import print_report, report_format
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.several_models import sort_words, specs_of
from nnkit.contract.requests import OPTIMIZERS
from nnkit.errors import UsageProblem

if TYPE_CHECKING:
    from nnkit.verbs.summary.comparison import CompareReport


@click.command("compare", cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="ARCH ARCH …", shell_complete=complete_architecture
)
@report_format("text", "json", "csv", "markdown")
@click.option("--exit-code", is_flag=True, help="Exit with code 1 if the models differ.")
@input_option()
@declare_option("your own modules")
@click.option(
    "--optimizer",
    type=click.Choice(OPTIMIZERS),
    help="Also compare the memory for training with this optimizer.",
)
@device_option("Device to estimate memory for.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    format: str,
    exit_code: bool,
    inputs: tuple[str, ...],
    declarations: tuple[str, ...],
    optimizer: str | None,
    device: str,
) -> None:
    """Compare models side by side; two models layer by layer.

    \b
    nnkit compare resnet18 resnet34 vgg16
    nnkit compare a.yaml b.yaml --exit-code
    nnkit compare resnet18 resnet18 --right.num-classes 100

    An option applies to every model that has it. With two models, the prefix --left. or --right. applies it
    to one of them.
    """
    from nnkit import api

    settings = ctx.ensure_object(Settings)
    manager = installed_plugins(settings)
    models = sort_words(words, manager)
    if len(models.references) < 2:
        raise UsageProblem("compare takes two or more models", "for example: nnkit compare resnet18 resnet34")
    specs = specs_of(models, manager, inputs, declarations, settings)
    with redirect_stdout(sys.stderr):  # what a model prints
        report = api.compare(*specs, optimizer=optimizer, device=device)
    _show(settings, report, format)
    if exit_code and not report.equal:
        ctx.exit(1)


def _show(settings: Settings, report: "CompareReport", format: str) -> None:
    from nnkit.render import compare as render

    forms = {
        "text": lambda: render.as_text(report, settings.on_terminal, settings.use_color),
        "csv": lambda: render.as_csv(report),
        "markdown": lambda: render.as_markdown(report),
    }
    print_report(settings, report, format, forms)
