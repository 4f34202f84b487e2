"""The `nnkit` command: finds the subcommand, loads it alone, and turns every failure into two lines.

Nothing is imported here but click, so that `--help`, `--version` and completion answer at once.
"""

import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from nnkit import __version__
from nnkit.cli.lazy import LazyGroup
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.signals import Terminated, end_by, raise_when_terminated
from nnkit.cli.streams import make_readable
from nnkit.errors import NnkitError, PluginProblem, did_you_mean

COMMANDS = {
    "bench": "latency, throughput, peak memory; of two models, which is faster",
    "build": "build it, print its module tree; or write its spec as YAML",
    "compare": "models side by side, or layer by layer",
    "completion": "print the script that completes nnkit in your shell",
    "config": "each setting, and where it came from",
    "doctor": "versions and devices, in one block to paste",
    "export": "write ONNX, safetensors or more, and prove the file",
    "info": "what it is, its paper, options, dims, handlers",
    "list": "the architectures that are installed",
    "plugins": "what is installed, from where, what failed and why",
    "smoke-run": "does it run, train and behave on this device?",
    "summary": "layers, shapes, parameters, multiply-adds",
    "verify": "prove again that a file is the model",
}


class Interrupted(NnkitError):
    """Ctrl-C."""

    def __init__(self) -> None:
        super().__init__("interrupted", "what was there before is unchanged")


PLUGIN_COMMANDS = "nnkit.commands"  # the entry-point group


class TopGroup(LazyGroup):
    """Core's commands, and where core has none of a name, those of plugins."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:  # click would print an empty line of its own
            raise Interrupted from interrupt

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _plugin_command(cmd_name)


def _plugin_command(name: str) -> click.Command | None:
    from importlib.metadata import entry_points

    points = list(entry_points(group=PLUGIN_COMMANDS, name=name))
    if not points:
        return None
    owners = [point.dist.name if point.dist else "an unknown distribution" for point in points]
    if len(points) > 1:
        message = f"the command {name} is added by more than one distribution: {', '.join(owners)}"
        raise PluginProblem(message, f"remove all but one: pip uninstall {owners[-1]}")
    try:
        found = points[0].load()
    except (Exception, SystemExit) as error:
        raise PluginProblem(
            f"the command {name} of {owners[0]} can't be loaded: {type(error).__name__}: {error}",
            f"reinstall or remove {owners[0]}",
        ) from error
    if not isinstance(found, click.Command):
        message = f"the command {name} of {owners[0]} is of type {type(found).__name__}, not a click.Command"
        raise PluginProblem(message, f"upgrade or remove {owners[0]}")
    return found


@click.group(
    cls=TopGroup,
    commands=COMMANDS,
    package="nnkit.cli",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Plugins may add commands: nnkit plugins lists them.",
)
@click.version_option(__version__, message="nnkit %(version)s")
@settings_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Build, summarise, export and smoke-run neural networks.

    \b
    nnkit summary resnet18                    parameters, layer shapes, MACs
    nnkit export gcn --onnx                   gcn.onnx, checked in ONNX Runtime at several sizes
    nnkit smoke-run resnet18 --device cuda    does it really run, train and behave here?
    nnkit info gcn                            its equation, paper, options and dims
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code that the design gives each outcome."""
    make_readable(sys.stdout, sys.stderr)
    raise_when_terminated()
    settings = Settings()
    try:
        result = cli.main(
            args=None if args is None else list(args), prog_name="nnkit", standalone_mode=False, obj=settings
        )
        sys.stdout.flush()
        code = result if isinstance(result, int) else 0
    except NnkitError as error:
        if isinstance(error.__context__, KeyboardInterrupt) and sys.stderr.isatty():
            click.echo(err=True)  # the terminal has written ^C on this line
        code = _fail(settings, error.message, error.hint, error.exit_code)
    except click.exceptions.NoSuchOption as error:
        words = did_you_mean(error.option_name, error.possibilities or ())
        code = _fail(settings, f"no such option {error.option_name}", words or _help_hint(error.ctx), 2)
    except click.UsageError as error:
        message, _, hint = error.format_message().partition("\n")
        hint = hint or _nearest_choice(error) or _help_hint(error.ctx)
        code = _fail(settings, message, hint, error.exit_code)
    except click.ClickException as error:
        code = _fail(settings, error.format_message(), "", error.exit_code)
    except Terminated as terminated:
        end_by(terminated.number)
    except (click.Abort, KeyboardInterrupt):
        code = _fail(settings, Interrupted().message, Interrupted().hint, 1)
    except BrokenPipeError:
        # The reader has gone (`nnkit list | head`); nothing more can be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        code = _fail(settings, message, "this is a fault in nnkit: repeat with -v and report it", 1)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit; a rank at once, since threads of torch's that still run may abort a process that ends well."""
    world = sys.modules.get("nnkit.parallel.world")
    if world is not None and world.joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _nearest_choice(error: click.UsageError) -> str:
    """Return `did you mean a?` where a value is none of an option's choices, else an empty string."""
    if not isinstance(error, click.BadParameter) or not error.param:
        return ""
    typed = re.match(r"'(.*)' is not one of", error.message)  # click keeps the value nowhere else
    choices = getattr(error.param.type, "choices", ())
    return did_you_mean(typed[1], map(str, choices)) if typed else ""


def _help_hint(ctx: click.Context | None) -> str:
    return f"see: {ctx.command_path if ctx else 'nnkit'} --help"


def _fail(settings: Settings, message: str, hint: str, code: int) -> int:
    if settings.verbose:
        import traceback

        click.echo(traceback.format_exc().rstrip(), err=True)
    click.echo(f"Error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return code
