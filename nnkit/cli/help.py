"""The help text of a command, as the conformance suite reads it. Importing it imports no click."""

from nnkit.models.references import Reference


def summary_help(reference: Reference) -> str:
    """Return what `nnkit summary ARCH --help` prints."""
    import click

    from nnkit.cli.state import state_of
    from nnkit.cli.summary import command

    ctx = click.Context(command, info_name="nnkit summary")
    state_of(ctx).reference = reference
    return command.get_help(ctx)
