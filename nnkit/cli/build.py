"""`nnkit build ARCH`."""

import click

from nnkit.cli.options import ArchitectureCommand, architecture_options, device_option
from nnkit.cli.output import print_json, print_text
from nnkit.cli.settings import settings_options
from nnkit.contract.spec import ModelSpec


@click.command("build", cls=ArchitectureCommand)
@architecture_options
@device_option("Device: cpu, cuda, cuda:1, mps, xpu, auto; or meta, which allocates no weights.")
@click.option(
    "--spec", "as_yaml", is_flag=True, help="Print the resolved ModelSpec as YAML and build nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print the totals as JSON.")
@settings_options
@click.pass_context
def command(ctx: click.Context, device: str, as_yaml: bool, as_json: bool, spec: ModelSpec) -> None:
    """Build a model and print its module tree and totals.

    \b
    nnkit build resnet18 --num-classes 100 --device cuda
    nnkit build resnet18 --num-classes 100 --spec > r.yaml
    """
    from nnkit import api

    if as_yaml:
        print_text(spec.to_yaml().rstrip())
        return
    from nnkit.models.building import describe

    report = describe(api.build(spec, device=device), spec)
    if as_json:
        print_json(report.to_dict())
        return
    from nnkit.render.build import as_text

    print_text(as_text(report))
