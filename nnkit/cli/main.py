"""The `nnkit` command: finds the subcommand, imports only that, and turns every failure into two lines.

Nothing is imported here but click, so that `--help`, `--version` and completion answer at once.
"""

import contextlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from nnkit import __version__
from nnkit.cli.lazy import LazyGroup
from nnkit.cli.settings import Settings, settings_options
from nnkit.cli.signals import Terminated, end_by, raising_signals
from nnkit.cli.streams import claim_stdout, make_readable, open_missing, release_stdout, silence
from nnkit.contract.visible import message_line, visible_lines
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, did_you_mean, first_line

COMMANDS = {
    "list": "List the installed architectures",
    "info": "Show an architecture's paper, equation, options and sizes",
    "build": "Build a model and print its module tree, or write its spec",
    "summary": "Show layers, shapes, parameters, multiply-adds and memory",
    "graph": "Draw a model as a tree, HTML, SVG, PNG, Mermaid or DOT",
    "compare": "Compare models side by side, or layer by layer",
    "bench": "Measure latency, throughput and peak memory of one or two models",
    "smoke-run": "Check that a model runs, trains and behaves on a device",
    "export": "Write ONNX, safetensors or other formats, and prove the file",
    "verify": "Check a model file against its model",
    "plugins": "Show, create, check and install plugins",
    "config": "Show each setting and where it comes from",
    "doctor": "Print versions and devices for a bug report",
    "completion": "Print the completion script for your shell",
}


class Interrupted(NnkitError):
    """Ctrl-C."""

    def __init__(self) -> None:
        super().__init__("interrupted", "what was there before is unchanged")


PLUGIN_COMMANDS = "nnkit.commands"  # the entry-point group


class TopGroup(LazyGroup):
    """Core's commands, and those of plugins for names that core doesn't have."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:  # click would print an empty line of its own
            raise Interrupted from interrupt
        except SystemExit as ending:
            raise ended_from_within(ending) from ending

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _plugin_command(cmd_name)


def _plugin_command(name: str) -> click.Command | None:
    from nnkit.host.discovery import installed_points

    installed, _ = installed_points(PLUGIN_COMMANDS, name)
    if not installed:
        return None
    owners = [command.distribution for command in installed]
    if len(installed) > 1:
        message = f"several distributions add the command {name}: {', '.join(owners)}"
        raise PluginProblem(message, f"keep only one: pip uninstall {owners[-1]}")
    try:
        command = installed[0].point.load()
    except (Exception, SystemExit) as error:
        raise PluginProblem(
            f"the command {name} of {owners[0]} can't be loaded: {type(error).__name__}: {error}",
            f"reinstall or remove {owners[0]}",
        ) from error
    if not isinstance(command, click.Command):
        message = (
            f"the command {name} of {owners[0]} is of type {type(command).__name__}, not a click.Command"
        )
        raise PluginProblem(message, f"upgrade or remove {owners[0]}")
    return command


@click.group(
    cls=TopGroup,
    commands=COMMANDS,
    package="nnkit.cli",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Plugins may add commands; nnkit plugins lists them.",
)
@click.version_option(__version__, message="nnkit %(version)s")
@settings_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Build, summarize, export and smoke-test neural networks.

    \b
    nnkit summary resnet18                    layers, shapes, parameters, MACs
    nnkit export gcn --onnx                   gcn.onnx, proven in ONNX Runtime
    nnkit smoke-run resnet18 --device cuda    does it run and train there?
    nnkit info gcn                            equation, paper, options, sizes
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    else:
        settings = ctx.ensure_object(Settings)
        ctx.with_resource(settings.show_progress())
        settings.progress(ctx.invoked_subcommand)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code of its outcome (docs/exit-codes.md)."""
    open_missing()
    results = claim_stdout()
    make_readable(sys.stdout, sys.stderr)
    try:
        with raising_signals():
            code = _run(None if args is None else list(args))
    finally:
        release_stdout(results)
    _leave(code)


def _run(args: list[str] | None) -> int:
    """Run a command and return its exit code; report any failure as an error and a hint."""
    settings = Settings()
    try:
        if sys.stdout is None:
            raise NnkitError("stdout is closed, so nothing can be printed", "write to a file: > FILE")
        result = cli.main(args=args, prog_name="nnkit", standalone_mode=False, obj=settings)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:  # the reader has gone (`nnkit list | head`): end without a message
        silence(sys.stdout)
        return 1
    except Terminated as terminated:
        end_by(terminated.number)
    except SystemExit:  # click's own, after it completed a word for a shell
        raise
    except BaseException as error:
        problem = _problem_of(error)
        if isinstance(error.__context__, KeyboardInterrupt) and sys.stderr.isatty():
            click.echo(err=True)  # the terminal has written ^C on this line
        return _fail(settings, problem)


def _problem_of(error: BaseException) -> NnkitError:
    """Return the problem to report for an error that ended a command."""
    match error:
        case NnkitError():
            return error
        case click.exceptions.NoSuchOption():
            suggestion = did_you_mean(error.option_name, error.possibilities or ())
            return UsageProblem(f"no such option {error.option_name}", suggestion or _help_hint(error.ctx))
        case click.UsageError():
            message, _, hint = error.format_message().partition("\n")
            return UsageProblem(message, hint or _nearest_choice(error) or _help_hint(error.ctx))
        case click.ClickException():
            return NnkitError(error.format_message(), _help_hint(None))
        case click.Abort() | KeyboardInterrupt():
            return Interrupted()
        case OSError():
            path = f"{error.filename}: " if error.filename else ""
            hint = "check the path, its permissions and the free disk space"
            return NnkitError(f"{path}{error.strerror or error}", hint)
        case MemoryError():
            return NnkitError("not enough memory", "use a smaller model or smaller sizes")
        case Exception():
            hint = "this is a bug in nnkit: report it with the output of -v and of nnkit doctor"
            return NnkitError(f"{type(error).__name__}: {first_line(error)}", hint)
    return ended_from_within(error)


def ended_from_within(error: BaseException) -> NnkitError:
    """Return the problem that code of a model or a plugin ended the command, by `sys.exit` or the like."""
    from nnkit.models.user_lines import at_line

    kind = type(error).__name__
    message = f"code of a model or a plugin ended the command: {kind}: {error}{at_line(error)}"
    return NnkitError(message, "see the full error with -v")


def _leave(code: int) -> NoReturn:
    """Exit; a rank exits at once, since running threads of torch may abort a process that ended well."""
    world = sys.modules.get("nnkit.verbs.parallel.world")
    if world is not None and world.joined:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _nearest_choice(error: click.UsageError) -> str:
    """Return `did you mean a?` if a value is none of an option's choices, else an empty string."""
    if not isinstance(error, click.BadParameter) or not error.param:
        return ""
    typed = re.match(r"'(.*)' is not one of", error.message)  # click keeps the value nowhere else
    choices = getattr(error.param.type, "choices", ())
    return did_you_mean(typed[1], map(str, choices)) if typed else ""


def _help_hint(ctx: click.Context | None) -> str:
    return f"see: {ctx.command_path if ctx else 'nnkit'} --help"


def _fail(settings: Settings, problem: NnkitError) -> int:
    """Show a problem on stderr and return its exit code."""
    lines = [f"Error: {message_line(problem.message)}"]
    lines += [f"  {message_line(detail)}" for detail in problem.details]
    if problem.hint:
        lines.append(f"hint: {message_line(problem.hint)}")
    if settings.verbose:
        import traceback

        lines.insert(0, visible_lines(traceback.format_exc().rstrip()))
    with contextlib.suppress(OSError):  # stderr is closed or full: only the exit code is left
        click.echo("\n".join(lines), err=True)
    return problem.exit_code
