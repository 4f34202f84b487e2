"""A command that a plugin adds."""

import click


@click.command()
def hello():
    """Say hello."""
    click.echo("hello from a plugin")
