"""`nnkit summary ARCH`, and `nnkit summary FILE` for what is in a file of anybody's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nnkit import api
from nnkit.cli.completers import complete_columns, complete_device
from nnkit.cli.options import FILE, LARGEST, ArchitectureCommand, architecture_options
from nnkit.cli.output import print_report, print_text, report_format
from nnkit.cli.settings import Settings, settings_options
from nnkit.contract.requests import OPTIMIZERS
from nnkit.contract.spec import ModelSpec
from nnkit.errors import UsageProblem
from nnkit.models import metadata

if TYPE_CHECKING:
    from nnkit.verbs.summary.file_report import FileReport
    from nnkit.verbs.summary.report import SummaryReport


class SummaryCommand(ArchitectureCommand):
    """Takes a model file as well: one of nnkit's is a reference, of any other the contents are told."""

    def take_reference(self, ctx: click.Context, text: str, args: Sequence[str]) -> None:
        """Look up a reference, or keep the path of a file whose contents are to be told."""
        path = Path(text)
        if not path.suffix or not _is_model_file(path):  # a name, as most are
            super().take_reference(ctx, text, args)
            return
        if not {"--contents", "--stats"}.isdisjoint(args):
            ctx.meta[FILE] = path
            return
        try:
            super().take_reference(ctx, text, args)
        except UsageProblem:  # not of nnkit, or of a model that no plugin here declares
            ctx.meta[FILE] = path


def _is_model_file(path: Path) -> bool:
    from nnkit.verbs.summary.file_report import is_model_file

    return is_model_file(path)


@dataclass(frozen=True)
class Shown:
    """What of a report is shown, and how."""

    format: str
    columns: tuple[str, ...] | None
    depth: int | None
    only: str | None
    functional: bool
    unfold: bool


@click.command("summary", cls=SummaryCommand)
@architecture_options(find_largest=True)
@report_format("text", "json", "csv", "markdown", "latex", "html")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Show rows so deep at most.")
@click.option("--only", metavar="PATTERN", help="Show rows whose path or type is like 'layer1*' or Conv2d.")
@click.option("--functional/--no-functional", default=True, help="Show the functions in forward, or not.")
@click.option("--unfold", is_flag=True, help="Show each repetition of a block or a step.")
@click.option(
    "--columns",
    metavar="A,B,…",
    shell_complete=complete_columns,
    help="Choose them; a wrong name lists all, `all` shows all.",
)
@click.option(
    "--optimizer",
    type=click.Choice(OPTIMIZERS),
    help="Tell the memory of a training step with it, and of an inference.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="DEVICE",
    shell_complete=complete_device,
    help="Of that memory.",
)
@click.option("--memory", metavar="SIZE", help="With --batch max: the largest batch that trains in 16GB.")
@click.option(
    "--fsdp",
    type=click.IntRange(min=1, max=2**31 - 1),
    metavar="N",
    help="Tell what each of N ranks needs that have the model sharded between them.",
)
@click.option("--contents", is_flag=True, help="Of a file that nnkit wrote: tell what is in it.")
@click.option("--stats", is_flag=True, help="Of a file: read the values of its tensors too.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    spec: ModelSpec | None,
    format: str,
    columns: str | None,
    depth: int | None,
    only: str | None,
    functional: bool,
    unfold: bool,
    optimizer: str | None,
    device: str,
    memory: str | None,
    fsdp: int | None,
    contents: bool,
    stats: bool,
) -> None:
    """Show what is in a model, step by step, and what it costs.

    \b
    nnkit summary resnet18 --num-classes 1000 --batch 8
    nnkit summary gcn --preset cora --json
    nnkit summary resnet18 --batch max --memory 16GB --optimizer adamw
    nnkit summary vgg11 --fsdp 64
    nnkit summary file.py:Net --input "x: float32[batch, 3, 32, 32]" --width 64
    nnkit summary weights.safetensors --stats
    """
    settings = ctx.ensure_object(Settings)
    if spec is None:
        show_file(settings, api.inspect_file(ctx.meta[FILE], stats=stats), format)
        return
    if contents or stats:
        raise UsageProblem("--contents and --stats are for model files", "name one: model.safetensors")
    from nnkit.render import stamp
    from nnkit.render.summary import TRAINING, check_columns
    from nnkit.render.table import paragraph
    from nnkit.verbs.summary.report import ForwardFailed

    chosen = check_columns(columns.split(",")) if columns else None
    if not {*TRAINING}.isdisjoint(chosen or ()):
        optimizer = optimizer or "adam"
    shown = Shown(format, chosen, depth, only, functional, unfold)
    try:
        report = _report(ctx, spec, optimizer, device, memory, fsdp)
    except ForwardFailed as failed:
        show(settings, failed.report, shown)
        raise
    show(settings, report, shown)
    if format == "text" and metadata.is_model_file(ctx.params["reference"]):
        told = metadata.read(Path(ctx.params["reference"]))
        for label, text in stamp.lines(told):
            print_text(paragraph(label, text, settings.on_terminal))


def _report(
    ctx: click.Context,
    spec: ModelSpec,
    optimizer: str | None,
    device: str,
    memory: str | None,
    fsdp: int | None,
) -> "SummaryReport":
    dim = ctx.meta.get(LARGEST)
    if fsdp and (dim or memory):
        raise UsageProblem("--fsdp tells of one size, not of the largest", "give a size in the place of max")
    if dim and memory:
        return api.fit(spec, memory, dim=dim, optimizer=optimizer or "adam", device=device)
    if dim:
        raise UsageProblem(f"--{dim} max needs to know of how much memory", "say it: --memory 16GB")
    if memory:
        raise UsageProblem("--memory needs to know of what size to find the largest", "say it: --batch max")
    return api.summarize(spec, optimizer=optimizer, device=device, fsdp=fsdp)


def show(settings: Settings, report: "SummaryReport", shown: Shown) -> None:
    """Print a report."""
    from nnkit.render import summary as render

    report = report.select(shown.depth, shown.only, shown.functional)
    columns = shown.columns or render.STANDARD
    forms = {
        "text": lambda: render.as_text(
            report, columns, shown.unfold, settings.on_terminal, settings.use_color
        ),
        "csv": lambda: render.as_csv(report, shown.columns),
        "markdown": lambda: render.as_markdown(report, columns, shown.unfold),
        "latex": lambda: render.as_latex(report, columns, shown.unfold),
        "html": lambda: render.as_html(report, columns, shown.unfold),
    }
    print_report(settings, report, shown.format, forms)


def show_file(settings: Settings, report: "FileReport", format: str) -> None:
    """Print what is in a file."""
    from nnkit.render import file as render

    forms = {
        "text": lambda: render.as_text(report, settings.on_terminal, settings.use_color),
        "csv": lambda: render.as_csv(report),
        "markdown": lambda: render.as_markdown(report),
        "latex": lambda: render.as_latex(report),
        "html": lambda: render.as_html(report),
    }
    print_report(settings, report, format, forms)
