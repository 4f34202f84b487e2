"""`nnkit completion SHELL`."""

import click
from click.shell_completion import get_completion_class

from nnkit.cli.command import Command
from nnkit.cli.settings import settings_options

SHELLS = ("bash", "fish", "powershell", "zsh")


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
@settings_options
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for your shell, to be read when the shell starts.

    \b
    nnkit completion bash > ~/.nnkit.bash; echo '. ~/.nnkit.bash' >> ~/.bashrc
    nnkit completion fish > ~/.config/fish/completions/nnkit.fish
    nnkit completion powershell >> $PROFILE
    nnkit completion zsh > ~/.nnkit.zsh; echo '. ~/.nnkit.zsh' >> ~/.zshrc

    SHELL is bash (4.4 or later), fish, powershell (Windows PowerShell or pwsh) or zsh (after compinit).

    The script completes commands, architectures with their options, sizes and presets, formats, checks,
    devices and columns.
    """
    root = ctx.find_root().command
    completion_class = get_completion_class(shell)
    if completion_class is not None:  # the shells of SHELLS are all known to click
        click.echo(completion_class(root, {}, "nnkit", "_NNKIT_COMPLETE").source())
