"""`nnkit graph ARCH [ARCH]`, and `nnkit graph FILE.onnx` for the nodes of a file."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nnkit.cli.command import Sections
from nnkit.cli.completers import complete_picture
from nnkit.cli.installed import installed_plugins
from nnkit.cli.options import ArchitectureCommand, architecture_options, device_option
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.several_models import INPUT_OPTIONS, MODEL_OPTIONS, sort_words, specs_of
from nnkit.cli.state import state_of
from nnkit.cli.streams import can_encode
from nnkit.contract.contributions import Picture
from nnkit.contract.requests import DIRECTIONS, HEATS, OPTIMIZERS, DrawRequest
from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import format_bytes
from nnkit.errors import UsageProblem
from nnkit.verbs.core_handlers import plugin_manager

if TYPE_CHECKING:
    from nnkit.verbs.graph.report import GraphReport

ONNX = ".onnx"


class GraphCommand(ArchitectureCommand):
    """Also takes two models, or an ONNX file; if nnkit didn't write the file, its nodes are drawn.

    `--contents` and `--model` choose. With two models, the words that click doesn't know are sorted as for
    `nnkit compare`.
    """

    def find_reference(self, ctx: click.Context, args: Sequence[str]) -> str | None:
        """Return the one reference; None for several models, which is kept in the state."""
        positional, _ = self.split_words(args)
        if len(positional) < 2:
            return super().find_reference(ctx, args)
        state_of(ctx).many_models = True
        ctx.ignore_unknown_options = True
        return None

    def take_reference(self, ctx: click.Context, text: str, args: Sequence[str]) -> None:
        """Look up a reference, or keep the path of a file whose nodes are drawn."""
        path = Path(text)
        if path.suffix == ONNX and "--contents" in args:
            state_of(ctx).model_file = path
            return
        try:
            super().take_reference(ctx, text, args)
        except UsageProblem:
            if path.suffix != ONNX or "--model" in args or not path.is_file():
                raise
            state_of(ctx).model_file = path  # its model is declared by no plugin here

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        parameters = super().get_params(ctx)
        if not state_of(ctx).many_models:
            return parameters
        words = click.Argument(["reference"], nargs=-1, type=click.UNPROCESSED, metavar="ARCH ARCH")
        return [words if parameter.name == words.name else parameter for parameter in parameters]


SECTIONS: Sections = {
    "Picture options": ("opened", "depth", "heat", "constants", "direction"),
    "Memory options": ("optimizer", "device"),
    "Options for ONNX files": ("contents",),
}


@click.command("graph", cls=GraphCommand, sections=SECTIONS)
@architecture_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw a picture; the suffix chooses .html, .svg, .png, .mmd (Mermaid), .dot, .json or a plugin's. "
    "[default: a tree on the terminal]",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    shell_complete=complete_picture,
    help="Print html, svg, mermaid, dot, json or a plugin's format instead of the tree.",
)
@click.option("--json", "format_name", flag_value="json", help="Same as --format json.")
@click.option(
    "--open",
    "opened",
    multiple=True,
    metavar="PATTERN",
    help="Open the groups whose path or type matches PATTERN, such as 'layer1*' or Sequential (repeatable).",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Draw at most N levels.")
@click.option(
    "--heat",
    type=click.Choice(HEATS),
    help="What colors show: multiply-adds, parameters, output bytes, bytes saved for backward, or time.",
)
@click.option("--constants", is_flag=True, help="Also draw what depends on no input.")
@click.option(
    "--direction",
    type=click.Choice(DIRECTIONS),
    default="down",
    show_default=True,
    help="Which way the graph runs.",
)
@click.option(
    "--optimizer",
    type=click.Choice(OPTIMIZERS),
    help="Also estimate memory for training with this optimizer. [default: none; adam in HTML]",
)
@device_option("Device to estimate memory for.")
@click.option(
    "--contents/--model",
    default=None,
    help="Draw the nodes of the file, or the model in it. [default: the model if nnkit wrote the file]",
)
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    spec: ModelSpec | None,
    output: Path | None,
    force: bool,
    format_name: str | None,
    opened: tuple[str, ...],
    depth: int | None,
    heat: str | None,
    constants: bool,
    direction: str,
    optimizer: str | None,
    device: str,
    contents: bool | None,
) -> None:
    """Draw the graph of a model: its calls, and the tensors that flow between them.

    \b
    nnkit graph resnet18
    nnkit graph resnet18 -o resnet18.html
    nnkit graph unet -o unet.svg --open 'down*' --heat macs
    nnkit graph resnet18 resnet34 -o difference.html
    nnkit graph model.onnx -o model.html
    """
    settings, state = ctx.ensure_object(Settings), state_of(ctx)
    if contents and state.model_file is None:
        raise UsageProblem("--contents is for ONNX files", "name one: model.onnx")
    picture = _find_picture(output, format_name, state.many_models)
    if (picture and picture.name == "html") or heat == "saved":
        optimizer = optimizer or "adam"  # a page shows what memory goes where
    targets: Sequence[Any] = [state.model_file or spec]
    if state.many_models:
        targets = _two_specs(ctx, settings)

    def request() -> DrawRequest:
        report, *others = (_graph(target, optimizer, device, heat == "time") for target in targets)
        return DrawRequest(
            report=report,
            other=others[0] if others else None,
            opened=opened,
            depth=depth,
            heat=heat,
            constants=constants,
            direction=direction,
            progress=settings.note,
        )

    if picture is None:
        _print_tree(settings, request)
    elif output is None:
        _print_picture(picture, request())
    else:
        _write(picture, request, output, force)


def _find_picture(output: Path | None, name: str | None, two: bool) -> Picture | None:
    """Return the format that is asked for, before anything slow is done; None for the tree."""
    from nnkit.render.graph import pictures

    others = plugin_manager().pictures()
    picture = None
    if name is not None:
        picture = pictures.find_name(name, others)
    elif output is not None:
        picture = pictures.find(output, others)
    if two and picture is None:
        raise UsageProblem(
            "two models can only be drawn to a file", "add -o FILE.html; as text: nnkit compare"
        )
    if two and picture:
        pictures.require_two(picture)
    return picture


def _graph(target: Any, optimizer: str | None, device: str, timed: bool) -> "GraphReport":
    from nnkit import api

    with redirect_stdout(sys.stderr):  # what a model prints
        return api.graph(target, optimizer=optimizer, device=device, seconds=timed)


def _two_specs(ctx: click.Context, settings: Settings) -> list[ModelSpec]:
    """Return the specs of the two models that are named, each with the options that it has."""
    manager = installed_plugins(settings)
    models = sort_words(ctx.params["reference"], manager)
    if len(models.references) != 2:
        raise UsageProblem("graph draws one model or two", "for example: nnkit graph resnet18 resnet34")
    typed = {name: ctx.params.get(_parameter_of(name)) for name in (*MODEL_OPTIONS, *INPUT_OPTIONS)}
    models.common |= {
        name: list(value) if name in INPUT_OPTIONS else str(value)
        for name, value in typed.items()
        if value not in (None, ())
    }
    return specs_of(models, manager, ctx.params["inputs"], ctx.params["declarations"], settings)


def _parameter_of(name: str) -> str:
    return "with_" if name == "with" else name


def _print_tree(settings: Settings, make_request: Callable[[], DrawRequest]) -> None:
    """Print the tree; of a model that fails, the rows up to the failure, as `nnkit summary` does."""
    from nnkit.cli.summary import Shown, show
    from nnkit.render.graph.pictures import check
    from nnkit.render.graph.terminal import ASCII, UNICODE, as_tree
    from nnkit.verbs.summary.report import ForwardFailed

    try:
        request = make_request()
    except ForwardFailed as failed:
        show(settings, failed.report, Shown("text"))
        raise
    check(request)
    tree = as_tree(
        request.report,
        request.heat,
        request.opened,
        request.depth,
        request.constants,
        settings.on_terminal,
        settings.use_color,
        UNICODE if can_encode(sys.stdout, UNICODE.all) else ASCII,
    )
    print_text(tree, settings.use_color)


def _print_picture(picture: Picture, request: DrawRequest) -> None:
    from nnkit.render.graph.pictures import check, draw

    if picture.name == "json":
        check(request)
        print_json(request.report.to_dict())
        return
    content = draw(picture, request)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageProblem(
            f"a picture in {picture.name} can't be printed as text",
            f"write it to a file: -o FILE{picture.suffix}",
        ) from error
    print_text(text.removesuffix("\n"))


def _write(picture: Picture, request: Callable[[], DrawRequest], output: Path, force: bool) -> None:
    """Write a picture, complete or not at all, and say what was written."""
    from nnkit.render.graph.pictures import draw
    from nnkit.verbs.exporting.files import staged

    with staged(output, force) as path:  # which fails before the model runs, if the file can't be there
        path.write_bytes(draw(picture, request()))
        size = path.stat().st_size
    print_text(f"{output}  {format_bytes(size)}, {picture.name}")
