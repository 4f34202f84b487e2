"""`nnkit info ARCH`."""

from collections.abc import Iterator

import click

from nnkit import __version__
from nnkit.cli.architecture_help import option_lines, preset_lines, size_lines
from nnkit.cli.declared import (
    Line,
    behavior_data,
    behavior_lines,
    constant_lines,
    container_lines,
    container_name,
    input_data,
    input_lines,
    output_lines,
)
from nnkit.cli.installed import installed_plugins
from nnkit.cli.options import ArchitectureCommand, architecture_options
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.contract.architecture import VERBS, Dim, TensorSpec
from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import split_equations
from nnkit.render.table import beside, terminal_width, wrapped

WIDEST = 72  # characters of a left column


@click.command("info", cls=ArchitectureCommand)
@architecture_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@settings_options
@click.pass_context
def command(ctx: click.Context, as_json: bool, spec: ModelSpec) -> None:
    """Show an architecture's paper, equation, inputs, options, sizes, presets and handlers.

    \b
    nnkit info gcn
    nnkit info vision/resnet18 --json
    """
    settings = ctx.ensure_object(Settings)
    handlers = installed_plugins(Settings(quiet=True)).handlers(spec)
    if as_json:
        print_json(_as_data(spec, handlers))
    else:
        width = terminal_width() if settings.on_terminal else None
        print_text(_as_text(spec, handlers, width))


def _as_data(spec: ModelSpec, handlers: dict[str, str]) -> dict[str, object]:
    architecture = spec.architecture
    return {
        "schema": "nnkit.info/1",
        "nnkit": __version__,
        "spec": spec.to_dict(),
        "summary": architecture.summary,
        "family": architecture.family,
        "paper": architecture.paper,
        "equation": architecture.equation,
        "notes": list(architecture.notes),
        "inputs": [input_data(tensor, spec) for tensor in spec.declared_inputs],
        "outputs": [_output_data(tensor) for tensor in spec.outputs],
        "constants": {name: _plain(value) for name, value in spec.signature.constants.items()},
        "containers": {path: container_name(kind) for path, kind in architecture.containers.items()},
        "dims": {name: _dim_data(dim) for name, dim in architecture.dims.items()},
        "constraints": list(architecture.constraints),
        "behavior": behavior_data(architecture),
        "presets": {
            name: {"config": dict(preset.config), "sizes": dict(preset.sizes)}
            for name, preset in architecture.presets.items()
        },
        "handlers": handlers,
        "unsupported": dict(architecture.unsupported),
    }


def _output_data(tensor: TensorSpec) -> dict[str, object]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "description": tensor.description,
    }


def _dim_data(dim: Dim) -> dict[str, object]:
    """Return a dim as it is declared: a bound may be an expression."""
    return {key: getattr(dim, key) for key in ("default", "min", "max", "multiple_of", "description")}


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _as_text(spec: ModelSpec, handlers: dict[str, str], width: int | None = None) -> str:
    """Return the text; on a terminal of this width, wrapped between words."""
    architecture = spec.architecture
    served = [(verb, handlers[verb]) for verb in VERBS]
    refused = [(name, f"not supported: {reason}") for name, reason in architecture.unsupported.items()]
    sections: dict[str, list[str] | list[Line]] = {
        "paper": architecture.paper.splitlines(),
        "equation": split_equations(architecture.equation) if architecture.equation else [],
        "inputs": input_lines(spec),
        "constants": constant_lines(spec),
        "containers": container_lines(architecture),
        "outputs": output_lines(spec),
        "options": option_lines(architecture),
        "sizes": size_lines(architecture),
        "constraints": list(architecture.constraints),
        "behavior": behavior_lines(architecture),
        "presets": preset_lines(architecture),
        "notes": list(architecture.notes),
        "handlers": [*served, *refused],
    }
    parts = [wrapped(f"{spec.name}: {architecture.summary}", width, 2)]
    parts += [[title, *_section(lines, width)] for title, lines in sections.items() if lines]
    return "\n\n".join("\n".join(part) for part in parts)


def _section(lines: list[str] | list[Line], width: int | None) -> Iterator[str]:
    """Yield indented lines; those of two parts are in two columns."""
    pairs = [(line, "") if isinstance(line, str) else line for line in lines]
    widest = WIDEST if width is None else width // 2
    column = max((len(left) for left, right in pairs if len(left) <= widest), default=0)
    for left, right in pairs:
        if right:
            yield from beside(f"  {left}", right, column + 4, width)
        else:
            yield from wrapped(f"  {left}", width, 4)
