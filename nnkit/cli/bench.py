"""`nnkit bench ARCH [ARCH]`."""

import sys
from contextlib import redirect_stdout

import click

from nnkit.cli.command import Command
from nnkit.cli.completers import complete_architecture
from nnkit.cli.installed import installed_plugins
from nnkit.cli.options import EXISTING_DEVICE, declare_option, device_option, input_option
from nnkit.cli.output import print_report, report_format
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.several_models import sort_words, specs_of
from nnkit.contract.requests import OPTIMIZERS
from nnkit.errors import UsageProblem
from nnkit.verbs.benchmarking.report import BenchReport


@click.command("bench", cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="ARCH [ARCH]", shell_complete=complete_architecture
)
@report_format("text", "json", "csv", "html", "google-benchmark")
@device_option(EXISTING_DEVICE)
@click.option(
    "--training/--no-training",
    default=True,
    show_default=True,
    help="Also measure a training step: forward, backward, optimizer.",
)
@click.option(
    "--optimizer",
    type=click.Choice(OPTIMIZERS),
    default="adam",
    show_default=True,
    help="Optimizer of the training step.",
)
@click.option(
    "--time-limit",
    type=float,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit for each model in each mode.",
)
@click.option(
    "--rounds",
    type=int,
    metavar="N",
    help="Run N rounds instead (2 samples per model each; at least 10 when comparing).",
)
@click.option("--threads", type=int, metavar="N", help="CPU threads for torch. [default: torch's choice]")
@click.option("--compile", "compiled", is_flag=True, help="Compile the models with torch.compile.")
@input_option()
@declare_option("your own modules")
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    words: tuple[str, ...],
    format: str,
    device: str,
    training: bool,
    optimizer: str,
    time_limit: float,
    rounds: int | None,
    threads: int | None,
    compiled: bool,
    inputs: tuple[str, ...],
    declarations: tuple[str, ...],
) -> None:
    """Measure latency, throughput, peak memory and the share of the machine's peak speed.

    \b
    nnkit bench resnet18 --batch 8
    nnkit bench resnet18 resnet34 --device cuda
    nnkit bench lstm lstm --right.hidden-size 256

    Two models run in turns (A B B A), and the ratio of their times comes with a confidence interval. An
    architecture's option applies to both, or with the prefix --left. or --right. to one of them.
    """
    from nnkit import api

    settings = ctx.ensure_object(Settings)
    manager = installed_plugins(settings)
    models = sort_words(words, manager)
    if not 1 <= len(models.references) <= 2:
        raise UsageProblem("bench takes one or two models", "for example: nnkit bench resnet18 resnet34")
    specs = specs_of(models, manager, inputs, declarations, settings)
    with settings.still_progress(), redirect_stdout(sys.stderr):  # what a model prints
        report = api.bench(
            *specs,
            device=device,
            training=training,
            optimizer=optimizer,
            rounds=rounds,
            time_limit=time_limit,
            threads=threads,
            compiled=compiled,
            progress=settings.progress,
        )
    _show(settings, report, format)


def _show(settings: Settings, report: BenchReport, format: str) -> None:
    from nnkit.render.bench import as_html, as_text
    from nnkit.render.google_benchmark import as_google_benchmark
    from nnkit.render.timm import as_timm_csv

    forms = {
        "text": lambda: as_text(report, settings.on_terminal, settings.use_color),
        "csv": lambda: as_timm_csv(report),
        "html": lambda: as_html(report),
        "google-benchmark": lambda: as_google_benchmark(report),
    }
    print_report(settings, report, format, forms)
