"""`nnkit export ARCH`."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from nnkit.cli.command import Decorator, Sections, add_options
from nnkit.cli.completers import complete_format
from nnkit.cli.options import ArchitectureCommand, architecture_options, device_option
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.contract.requests import ExportOptions
from nnkit.contract.spec import ModelSpec, make_spec
from nnkit.errors import UsageProblem
from nnkit.verbs.core_handlers import plugin_manager


def _split_names(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(","))


WRITING_OPTIONS: Sequence[Decorator] = (
    click.option("--static", is_flag=True, help="Fix every dim to its size."),
    click.option(
        "--input-names", callback=_split_names, metavar="A,B,…", help="Names for the inputs in the file."
    ),
    click.option(
        "--output-names", callback=_split_names, metavar="A,B,…", help="Names for the outputs in the file."
    ),
    click.option(
        "--opset",
        type=click.IntRange(min=1),
        metavar="N",
        help="ONNX: write exactly opset N, or fail.",
    ),
    click.option(
        "--float32-io", is_flag=True, help="ONNX: keep inputs and outputs in float32 with --dtype float16."
    ),
    click.option(
        "--optimize", is_flag=True, help="ONNX: fold and fuse with ONNX Runtime, and prove the result."
    ),
    click.option(
        "--external-data/--no-external-data",
        default=None,
        help="ONNX: write the weights to FILE.data. [default: above 1.5 GB]",
    ),
    click.option(
        "--max-shard-size",
        metavar="SIZE",
        help="safetensors: split into files of at most SIZE, such as 5GB.",
    ),
)


def export_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add how the file is written; the function gets it as ExportOptions."""

    @functools.wraps(function)
    def with_options(
        opset: int | None,
        static: bool,
        input_names: tuple[str, ...] | None,
        output_names: tuple[str, ...] | None,
        float32_io: bool,
        optimize: bool,
        external_data: bool | None,
        max_shard_size: str | None,
        **own: Any,
    ) -> Any:
        how = ExportOptions(
            opset=opset,
            static=static,
            input_names=input_names,
            output_names=output_names,
            float32_io=float32_io,
            optimize=optimize,
            external_data=external_data,
            max_shard_size=max_shard_size,
        )
        return function(how=how, **own)

    return add_options(with_options, WRITING_OPTIONS)


FORMAT_SECTIONS: Sections = {
    "Format options": (
        "fix",
        "static",
        "input_names",
        "output_names",
        "opset",
        "float32_io",
        "optimize",
        "external_data",
        "max_shard_size",
    )
}


@click.command("export", cls=ArchitectureCommand, sections=FORMAT_SECTIONS)
@architecture_options
@click.option(
    "--onnx", "format_name", flag_value="onnx", help="Write ONNX, each dim dynamic under its own name."
)
@click.option(
    "--safetensors", "format_name", flag_value="safetensors", help="Write the weights and the ModelSpec."
)
@click.option("--pt2", "format_name", flag_value="pt2", help="Write a torch.export program.")
@click.option(
    "--format",
    "format_name",
    metavar="NAME",
    shell_complete=complete_format,
    help="Write one of these formats, or a plugin's (see nnkit plugins).",
)
@click.option("--all-formats", is_flag=True, help="Write every available format; --output is then a folder.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write. [default: ARCH.onnx, ARCH.safetensors, … in this folder]",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Prove the file before it is put in place.",
)
@device_option("Device to trace the model on.")
@click.option("--fix", multiple=True, metavar="DIM=SIZE", help="Fix a dim to a size (repeatable).")
@export_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@settings_options
@click.pass_context
def command(
    ctx: click.Context,
    format_name: str | None,
    all_formats: bool,
    output: Path | None,
    force: bool,
    verify: bool,
    device: str,
    fix: tuple[str, ...],
    how: ExportOptions,
    as_json: bool,
    spec: ModelSpec,
) -> None:
    """Write a model to a file and prove that the file matches the model.

    \b
    nnkit export gcn --onnx
    nnkit export resnet18 --weights resnet18.pt --onnx --fix batch=1 --optimize
    nnkit export resnet18 --preset imagenet --safetensors -o weights.safetensors
    """
    from nnkit import api
    from nnkit.render import export as render

    settings = ctx.ensure_object(Settings)
    spec, how = _fix_sizes(spec, how, fix)
    if all_formats:
        reports = api.export_all(
            spec,
            output or Path(),
            force=force,
            verify=verify,
            device=device,
            how=how,
            progress=settings.progress,
        )
        _print(reports, render.all_as_text, as_json)
        for format, failure in reports.failures.items():
            raise type(failure)(f"{format} was not written: {failure.message}", failure.hint)
        return
    format_name = format_name or (api.format_of(output, plugin_manager()) if output else None)
    if not format_name:
        raise UsageProblem("no format was given", "add --onnx, --safetensors, --pt2 or --format NAME")
    target = output or Path(spec.architecture.name + api.suffix_of(format_name, plugin_manager()))
    report = api.export(
        spec,
        target,
        format=format_name,
        force=force,
        verify=verify,
        device=device,
        how=how,
        progress=settings.progress,
    )
    _print(report, render.as_text, as_json)


def _print(report: Any, as_text: Callable[[Any], str], as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
    else:
        print_text(as_text(report))


def _fix_sizes(spec: ModelSpec, how: ExportOptions, fix: tuple[str, ...]) -> tuple[ModelSpec, ExportOptions]:
    """Return the spec at the sizes of `--fix`, and the options with those dims."""
    sizes = {}
    for text in fix:
        name, equals, size = text.partition("=")
        if not equals or not name:
            raise UsageProblem(f"can't read --fix {text!r}", "for example: --fix batch=1")
        sizes[name.strip().replace("-", "_")] = size.strip()
    if not sizes:
        return spec, how
    sized = make_spec(spec.architecture, spec.plugin, base=spec.to_dict(), options=sizes)
    return sized, replace(how, fixed=frozenset(sizes))
