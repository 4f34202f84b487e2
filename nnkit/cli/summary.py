"""`nnkit summary ARCH`."""

import click

from nnkit import api
from nnkit.cli.options import ArchitectureCommand, architecture_options
from nnkit.cli.output import print_json, report_format
from nnkit.cli.settings import Settings, settings_options
from nnkit.spec import ModelSpec


@click.command("summary", cls=ArchitectureCommand)
@architecture_options
@report_format("text", "json", "csv", "markdown")
@settings_options
@click.pass_context
def command(ctx: click.Context, format: str, spec: ModelSpec) -> None:
    """Show what is in a model, step by step, and what it costs.

    \b
    nnkit summary resnet18 --num-classes 1000 --batch 8
    nnkit summary gcn --preset cora --json
    """
    from nnkit.render import summary as render

    settings = ctx.ensure_object(Settings)
    report = api.summarize(spec)
    match format:
        case "json":
            print_json(report.to_dict())
        case "csv":
            click.echo(render.as_csv(report))
        case "markdown":
            click.echo(render.as_markdown(report))
        case _:
            click.echo(
                render.as_text(report, settings.on_terminal, settings.use_color), color=settings.use_color
            )
