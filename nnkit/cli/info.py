"""`nnkit info ARCH`."""

import click

from nnkit import __version__
from nnkit.cli.architecture_help import option_lines, preset_lines, size_lines
from nnkit.cli.declared import (
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
    handlers = installed_plugins(Settings(quiet=True)).handlers(spec)
    if as_json:
        print_json(_as_data(spec, handlers))
    else:
        print_text(_as_text(spec, handlers))


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


def _as_text(spec: ModelSpec, handlers: dict[str, str]) -> str:
    architecture = spec.architecture
    parts = [f"{spec.name}: {architecture.summary}"]
    if architecture.paper:
        parts.append(_section("paper", architecture.paper.splitlines()))
    if architecture.equation:
        parts.append(_section("equation", split_equations(architecture.equation)))
    parts.append(_section("inputs", _align(input_lines(spec))))
    parts.append(_section("constants", constant_lines(spec)))
    parts.append(_section("containers", _align(container_lines(architecture))))
    parts.append(_section("outputs", _align(output_lines(spec))))
    parts.append(_section("options", _align(option_lines(architecture))))
    parts.append(_section("sizes", _align(size_lines(architecture))))
    parts.append(_section("constraints", list(architecture.constraints)))
    parts.append(_section("behavior", _align(behavior_lines(architecture))))
    parts.append(_section("presets", _align(preset_lines(architecture))))
    parts.append(_section("notes", list(architecture.notes)))
    served = [(verb, handlers[verb]) for verb in VERBS]
    refused = [(name, f"not supported: {reason}") for name, reason in architecture.unsupported.items()]
    parts.append(_section("handlers", _align([*served, *refused])))
    return "\n\n".join(part for part in parts if part)


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)]) if lines else ""


def _align(pairs: list[tuple[str, str]]) -> list[str]:
    """Return lines in two columns; what is on the right of a long text begins on a line of its own."""
    width = max((len(left) for left, _ in pairs if len(left) <= WIDEST), default=0)
    lines = []
    for left, right in pairs:
        if len(left) > width:
            lines += [left, f"{'':{width}}  {right}".rstrip()] if right else [left]
        else:
            lines.append(f"{left:{width}}  {right}".rstrip())
    return lines
