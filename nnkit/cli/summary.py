"""`nnkit summary ARCH`, and `nnkit summary FILE` for the contents of any model file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nnkit.cli.command import Sections
from nnkit.cli.completers import complete_columns
from nnkit.cli.options import ArchitectureCommand, architecture_options, device_option
from nnkit.cli.output import print_json_pieces, print_report, print_text, report_format
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.state import CommandState, state_of
from nnkit.contract.requests import OPTIMIZERS
from nnkit.contract.spec import ModelSpec
from nnkit.errors import UsageProblem
from nnkit.models import metadata
from nnkit.models.references import GGUF

if TYPE_CHECKING:
    from nnkit.verbs.summary.file_report import FileReport
    from nnkit.verbs.summary.report import SummaryReport


class SummaryCommand(ArchitectureCommand):
    """Also takes a model file: one that nnkit wrote is a reference; of any other the contents are shown.

    `--contents` and `--model` choose.
    """

    def take_reference(self, ctx: click.Context, text: str, args: Sequence[str]) -> None:
        """Look up a reference, or keep the path of a file whose contents are shown."""
        path = Path(text)
        if not path.suffix or not _is_model_file(path):  # a name, as most are
            super().take_reference(ctx, text, args)
            return
        if not {"--contents", "--stats"}.isdisjoint(args):
            state_of(ctx).model_file = path
            return
        if "--model" in args:
            super().take_reference(ctx, text, args)
            return
        if path.suffix == GGUF:  # whose header says all but the shapes of layers, and needs no other package
            state_of(ctx).model_file = path
            return
        try:
            super().take_reference(ctx, text, args)
        except UsageProblem:  # not written by nnkit, or its model is declared by no plugin here
            state_of(ctx).model_file = path


def _is_model_file(path: Path) -> bool:
    from nnkit.verbs.summary.file_report import is_model_file

    return is_model_file(path)


@dataclass(frozen=True)
class Shown:
    """Which part of a report to show, and how."""

    format: str
    columns: tuple[str, ...] | None = None
    depth: int | None = None
    only: str | None = None
    functional: bool = True
    unfold: bool = False


SECTIONS: Sections = {
    "Table options": ("depth", "only", "functional", "unfold", "columns"),
    "Memory options": ("optimizer", "device", "memory", "fsdp"),
    "Options for model files": ("contents", "stats"),
}


@click.command("summary", cls=SummaryCommand, sections=SECTIONS)
@architecture_options(find_largest=True)
@report_format("text", "json", "csv", "markdown", "latex", "html")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Show at most N levels.")
@click.option(
    "--only",
    metavar="PATTERN",
    help="Show only rows whose path or type matches PATTERN, such as 'layer1*' or Conv2d.",
)
@click.option(
    "--functional/--no-functional",
    default=True,
    show_default=True,
    help="Show the functions that forward calls.",
)
@click.option("--unfold", is_flag=True, help="Show each repeated block and loop step.")
@click.option(
    "--columns",
    metavar="A,B,…",
    shell_complete=complete_columns,
    help="Columns to show, comma-separated, or `all`; an unknown name lists them.",
)
@click.option(
    "--optimizer",
    type=click.Choice(OPTIMIZERS),
    help="Estimate memory for training with this optimizer, and for inference.",
)
@device_option("Device to estimate memory for.")
@click.option("--memory", metavar="SIZE", help="Memory to fit into with --batch max, such as 16GB.")
@click.option(
    "--fsdp",
    type=click.IntRange(min=1, max=2**31 - 1),
    metavar="N",
    help="Estimate memory per rank when the model is sharded over N ranks.",
)
@click.option(
    "--contents/--model",
    default=None,
    help="Show the file itself, or the model in it. [default: the model if nnkit wrote the file]",
)
@click.option(
    "--stats", is_flag=True, help="Also read tensor values: min, max, mean, standard deviation, NaNs."
)
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
    contents: bool | None,
    stats: bool,
) -> None:
    """Show the layers, shapes, parameters, multiply-adds and memory of a model.

    \b
    nnkit summary resnet18 --num-classes 1000 --batch 8
    nnkit summary gcn --preset cora --json
    nnkit summary resnet18 --batch max --memory 16GB --optimizer adamw
    nnkit summary vgg11 --fsdp 64
    nnkit summary file.py:Net --input "x: float32[batch, 3, 32, 32]" --width 64
    nnkit summary weights.safetensors --stats
    """
    from nnkit import api

    settings, state = ctx.ensure_object(Settings), state_of(ctx)
    if state.model_file is not None:
        show_file(settings, api.inspect_file(state.model_file, stats=stats), format)
        return
    if contents or stats:
        raise UsageProblem("--contents and --stats are for model files", "name one: model.safetensors")
    assert spec is not None  # there is one unless a file is shown
    from nnkit.render import stamp
    from nnkit.render.summary import TRAINING, check_columns
    from nnkit.render.table import paragraph
    from nnkit.verbs.summary.report import ForwardFailed

    chosen = check_columns(columns.split(",")) if columns else None
    if not {*TRAINING}.isdisjoint(chosen or ()):
        optimizer = optimizer or "adam"
    shown = Shown(format, chosen, depth, only, functional, unfold)
    try:
        report = _summarize(state, spec, optimizer, device, memory, fsdp)
    except ForwardFailed as failed:
        show(settings, failed.report, shown)
        raise
    show(settings, report, shown)
    if format == "text" and metadata.is_model_file(ctx.params["reference"]):
        file_metadata = metadata.read(Path(ctx.params["reference"]))
        for label, text in stamp.lines(file_metadata):
            print_text(paragraph(label, text, settings.on_terminal))


def _summarize(
    state: CommandState,
    spec: ModelSpec,
    optimizer: str | None,
    device: str,
    memory: str | None,
    fsdp: int | None,
) -> "SummaryReport":
    from nnkit import api

    dim = state.largest
    if fsdp and (dim or memory):
        raise UsageProblem("--fsdp estimates one size, not the largest", "give a size instead of max")
    if dim and memory:
        return api.fit(spec, memory, dim=dim, optimizer=optimizer or "adam", device=device)
    if dim:
        raise UsageProblem(f"--{dim} max needs --memory SIZE", "for example: --memory 16GB")
    if memory:
        raise UsageProblem("--memory needs a size to maximize", "add --batch max")
    return api.summarize(spec, optimizer=optimizer, device=device, fsdp=fsdp)


def show(settings: Settings, report: "SummaryReport", shown: Shown) -> None:
    """Print a report."""
    from nnkit.render import summary as render

    report = report.select(shown.depth, shown.only, shown.functional)
    if shown.format == "json":
        print_json_pieces(partial(render.as_json, report))
        return
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
    """Print the contents of a file."""
    from nnkit.render import file as render

    forms = {
        "text": lambda: render.as_text(report, settings.on_terminal, settings.use_color),
        "csv": lambda: render.as_csv(report),
        "markdown": lambda: render.as_markdown(report),
        "latex": lambda: render.as_latex(report),
        "html": lambda: render.as_html(report),
    }
    print_report(settings, report, format, forms)
