"""The help text of a command, as the conformance suite reads it. Importing it imports no click."""

from nnkit.models.references import Reference


def summary_help(reference: Reference) -> str:
    """Return what `nnkit summary ARCH --help` prints."""
    import click

    from nnkit.cli.state import state_of
    from nnkit.cli.summary import command

    # click keeps the help option of a command, so it must be the one that the command line has.
    ctx = click.Context(command, info_name="nnkit summary", help_option_names=["-h", "--help"])
    state_of(ctx).reference = reference
    return command.get_help(ctx)
