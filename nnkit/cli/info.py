"""`nnkit info ARCH`."""

import click

from nnkit import __version__
from nnkit.cli.architecture_help import option_lines, preset_lines, size_lines
from nnkit.cli.installed import installed_plugins
from nnkit.cli.options import ArchitectureCommand, architecture_options
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import Settings, settings_options
from nnkit.contract.architecture import VERBS, TensorSpec
from nnkit.contract.spec import ModelSpec


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
        "inputs": [_tensor_data(tensor) for tensor in spec.inputs],
        "outputs": [_tensor_data(tensor) for tensor in spec.outputs],
        "presets": {
            name: {"config": dict(preset.config), "sizes": dict(preset.sizes)}
            for name, preset in architecture.presets.items()
        },
        "handlers": handlers,
        "unsupported": dict(architecture.unsupported),
    }


def _tensor_data(tensor: TensorSpec) -> dict[str, object]:
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}


def _as_text(spec: ModelSpec, handlers: dict[str, str]) -> str:
    architecture = spec.architecture
    parts = [f"{spec.name}: {architecture.summary}"]
    if architecture.paper:
        parts.append(_section("paper", architecture.paper.splitlines()))
    if architecture.equation:
        parts.append(_section("equation", architecture.equation.strip("\n").splitlines()))
    parts.append(_section("inputs", _align([tensor_line(tensor) for tensor in spec.inputs])))
    parts.append(_section("outputs", _align([tensor_line(tensor) for tensor in spec.outputs])))
    parts.append(_section("options", _align(option_lines(architecture))))
    parts.append(_section("sizes", _align(size_lines(architecture))))
    parts.append(_section("presets", _align(preset_lines(architecture))))
    parts.append(_section("notes", list(architecture.notes)))
    served = [(verb, handlers[verb]) for verb in VERBS]
    refused = [(name, f"not supported: {reason}") for name, reason in architecture.unsupported.items()]
    parts.append(_section("handlers", _align([*served, *refused])))
    return "\n\n".join(part for part in parts if part)


def tensor_line(tensor: TensorSpec) -> tuple[str, str]:
    """Return a tensor as (`x: float[batch, 3]`, what it means)."""
    axes = ", ".join(map(str, tensor.shape))
    return f"{tensor.name}: {tensor.dtype}[{axes}]", tensor.description


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)]) if lines else ""


def _align(pairs: list[tuple[str, str]]) -> list[str]:
    width = max((len(left) for left, _ in pairs), default=0)
    return [f"{left:{width}}  {right}".rstrip() for left, right in pairs]
