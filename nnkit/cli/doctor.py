"""`nnkit doctor`."""

import click

from nnkit.cli.output import print_json
from nnkit.cli.settings import settings_options


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@settings_options
def command(as_json: bool) -> None:
    """Print versions and devices, in one block to paste into an issue."""
    from nnkit.diagnosis import diagnose

    facts = diagnose()
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(f"{name:{width}}  {shown}")
