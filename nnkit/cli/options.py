"""Commands that take an architecture: its config fields, dims and presets become their options."""

import copy
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any

import click
from click.shell_completion import CompletionItem

from nnkit.cli.architecture_help import flag_of, write_architecture
from nnkit.cli.command import Command, Decorator, Sections, add_options, write_options
from nnkit.cli.completers import (
    Completer,
    beginning,
    complete_architecture,
    complete_device,
    complete_file,
)
from nnkit.cli.installed import installed_plugins
from nnkit.cli.settings import Settings
from nnkit.cli.state import CommandState, state_of
from nnkit.cli.user_code import typed_options, values_of, write_assumed
from nnkit.contract.architecture import Architecture
from nnkit.contract.config import RESERVED_SINCE, options_of
from nnkit.contract.settings import SETTINGS
from nnkit.contract.spec import DTYPES, ModelSpec, core_option, optional_inputs
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.hub_names import names_hub
from nnkit.models.references import look_up, names_a_file, names_a_folder, names_code
from nnkit.verbs.core_handlers import plugin_manager

EXISTING_DEVICE = "Device: cpu, cuda, cuda:1, mps, xpu, or auto (the best available)."
MODEL_SECTION: Sections = {
    "Model options": (
        "preset", "seed", "dtype", "weights", "key", "strip_prefix", "strict", "with_", "without", "inputs",
        "declarations",
    )
}  # fmt: skip
MAY_BE_A_PLUGINS = {
    flag_of(name) for since, names in RESERVED_SINCE.items() if since > (1, 0) for name in names.split()
}
"""Core options that an option of an earlier plugin may hide."""


class ArchitectureCommand(Command):
    """A command whose first argument is a reference, anywhere among the options.

    Which options it takes depends on the architecture, and so does which words are values of options. The
    reference is therefore found before click parses anything, by this grammar:

    - A word that begins with `-` is an option; `-` itself is not.
    - A word after one of the command's own options that takes a value is that value.
    - A word after an option that only the architecture can know (`--width 64`, `--bias net.py:Net`) is
      doubtful: whether the option is a flag or takes the word as its value is not known yet. So it is after
      an option that an earlier plugin may have too.
    - Any other word is positional.

    The reference is the first word, positional ones before doubtful ones, that names an architecture, a file
    or code. If none does, it is the first positional word, whose look-up then fails with a suggestion.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        settings = ctx.ensure_object(Settings)
        settings.verbose |= not {"-v", "--verbose"}.isdisjoint(args)  # the look-up may fail before parsing
        settings.quiet |= not {"-q", "--quiet"}.isdisjoint(args)
        settings.show_log()
        text = self.find_reference(ctx, args)
        settings.progress(" ".join(filter(None, (ctx.info_name, text))))
        # Tab must answer at once.
        if text is not None and not (ctx.resilient_parsing and _is_slow(text)):
            try:
                self.take_reference(ctx, text, args)
            except NnkitError:
                if not ctx.resilient_parsing:
                    installed_plugins(settings)
                    raise
        return super().parse_args(ctx, args)

    def take_reference(self, ctx: click.Context, text: str, args: Sequence[str]) -> None:
        """Look up what `text` refers to and keep it for the parser and the command."""
        with redirect_stdout(sys.stderr):  # a file of the user's own may print while it is imported
            declarations = values_of("--declare", args) if names_code(text) else ()
            reference = look_up(text, plugin_manager(), values_of("--input", args), declarations)
            if names_code(text) and not ctx.resilient_parsing and not _asks_for_help(ctx, args):
                reference = reference.complete(typed_options(reference.architecture.config, args))
                write_assumed(ctx.ensure_object(Settings), reference.architecture, text)
        state_of(ctx).reference = reference

    def find_reference(self, ctx: click.Context, args: Sequence[str]) -> str | None:
        """Return the word that names the architecture."""
        positional, doubtful = self.split_words(args)
        for word in (*positional, *doubtful):
            if _is_reference(word):
                return word
        return next(iter(positional), None)

    def split_words(self, args: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the positional words and the doubtful ones, as the grammar of this class has them."""
        flags: set[str] = set()
        flags_with_value: set[str] = set()
        for parameter in self.params:
            flags.update(parameter.opts, parameter.secondary_opts)
            if isinstance(parameter, click.Option) and not parameter.is_flag:
                flags_with_value.update(set(parameter.opts) - MAY_BE_A_PLUGINS)
        positional: list[str] = []
        doubtful: list[str] = []
        for previous, word in zip(["", *args], args, strict=False):
            if (word.startswith("-") and word != "-") or previous in flags_with_value:
                continue
            if previous in MAY_BE_A_PLUGINS and "=" in word:  # --declare KEY=VALUE
                continue
            is_unknown_option = previous.startswith("--") and previous != "--" and "=" not in previous
            if is_unknown_option and previous not in flags - MAY_BE_A_PLUGINS:
                doubtful.append(word)
            else:
                positional.append(word)
        return positional, doubtful

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*self.core_params(ctx), *self.own_params(ctx)]

    def core_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return nnkit's own arguments and options; where the architecture has one of that name, renamed."""
        taken = {flag for own in self.own_params(ctx) for flag in (*own.opts, *own.secondary_opts)}
        return [_make_way(parameter, taken) for parameter in super().get_params(ctx)]

    def own_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options of the architecture that is named."""
        reference = state_of(ctx).reference
        return _options_for(reference.architecture) if reference else []

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        reference = state_of(ctx).reference
        if reference:
            write_architecture(reference.architecture, formatter)
        write_options(ctx, self.core_params(ctx), {**self.sections, **MODEL_SECTION}, formatter)
        if not reference:
            formatter.write_paragraph()
            formatter.write_text(f"To see an architecture's own options: {ctx.command_path} ARCH --help")


def _complete_preset(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    reference = state_of(ctx).reference
    presets = reference.architecture.presets if reference else {}
    return beginning(incomplete, presets)


def _complete_optional(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    reference = state_of(ctx).reference
    try:
        return beginning(incomplete, optional_inputs(reference.architecture) if reference else ())
    except Exception:  # the author's own functions may raise
        return []


def _make_way(parameter: click.Parameter, taken: set[str]) -> click.Parameter:
    """Return a core option as `--core-NAME` where a plugin of an earlier API has one of that name."""
    if taken.isdisjoint((*parameter.opts, *parameter.secondary_opts)):
        return parameter
    renamed = copy.copy(parameter)
    for kind in ("opts", "secondary_opts"):
        flags = [f"--core-{flag[2:]}" if flag in taken else flag for flag in getattr(parameter, kind)]
        setattr(renamed, kind, flags)
    return renamed


def declare_option(owner: str) -> Decorator:
    """Return the option --declare. owner: whose module it is about."""
    return click.option(
        "--declare",
        "declarations",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Declare how {owner} behaves, as in causal=time or padding=mask (repeatable).",
    )


MODEL_OPTIONS: Sequence[Decorator] = (
    click.option(
        "--preset",
        metavar="NAME",
        shell_complete=_complete_preset,
        help="Set options and sizes from a preset.",
    ),
    click.option("--seed", type=int, help="Seed for weights and random inputs. [default: 0]"),
    click.option(
        "--dtype", type=click.Choice(DTYPES), help="Data type for weights and inputs. [default: as built]"
    ),
    click.option(
        "--weights",
        metavar="FILE",
        shell_complete=complete_file,
        help="Load weights from FILE (.safetensors, its index, or .pt), from hub:org/name, or those cached "
        "on this machine: `cached`. [default: random]",
    ),
    click.option(
        "--key",
        metavar="KEY",
        help="With --weights, the key of the state dict in a checkpoint. [default: found]",
    ),
    click.option(
        "--strip-prefix",
        metavar="PREFIX",
        help="With --weights, load the tensors whose names begin with PREFIX, without it. [default: found]",
    ),
    click.option(
        "--strict/--no-strict",
        default=None,
        help="With --weights, require exactly the model's tensors. [default: strict]",
    ),
    click.option(
        "--with",
        "with_",
        multiple=True,
        metavar="NAME",
        shell_complete=_complete_optional,
        help="Give an optional input that is left out by default (repeatable).",
    ),
    click.option(
        "--without",
        multiple=True,
        metavar="NAME",
        shell_complete=_complete_optional,
        help="Leave out an optional input (repeatable).",
    ),
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="DECLARATION",
        help='Declare an input of your own module, as in "x: float32[batch, 3, 224, 224]", '
        '"ids: int64[batch, time] < 100", "mask: bool[batch, time] ?" or "train = false" (repeatable). '
        "[default: guessed]",
    ),
    declare_option("your own module"),
)


def architecture_options(
    function: Callable[..., Any] | None = None,
    *,
    find_largest: bool = False,
    argument: str = "ARCH",
    complete: Completer = complete_architecture,
) -> Callable[..., Any]:
    """Add the reference and the model options; the function gets the resolved spec in their place.

    find_largest: a size may be `max`; the spec then has its default, and `CommandState.largest` the dim.
    argument: what the help calls the reference. complete: what completion offers for it.
    The spec is None where the command line names a file to show, or several models.
    """
    if function is None:
        return functools.partial(
            architecture_options, find_largest=find_largest, argument=argument, complete=complete
        )

    @functools.wraps(function)
    def with_spec(
        reference: str,
        preset: str | None,
        seed: int | None,
        dtype: str | None,
        weights: str | None,
        key: str | None,
        strip_prefix: str | None,
        strict: bool | None,
        with_: tuple[str, ...],
        without: tuple[str, ...],
        inputs: tuple[str, ...],
        declarations: tuple[str, ...],
        **own: Any,
    ) -> Any:
        ctx = click.get_current_context()
        if not state_of(ctx).has_spec:
            return function(spec=None, **own)
        choices = {
            "seed": seed, "dtype": dtype, "weights": weights, "key": key,
            "strip_prefix": strip_prefix, "strict": strict,
        }  # fmt: skip
        typed: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
        typed |= {name: names for name, names in (("with_", with_), ("without", without)) if names}
        return function(spec=_resolve(ctx, preset, typed, find_largest), **own)

    reference = click.argument("reference", metavar=argument, shell_complete=complete)
    return add_options(with_spec, (reference, *MODEL_OPTIONS))


def device_option(description: str, default: str | None = "cpu") -> Decorator:
    """Return the option --device. default: None where the command has to know whether it was typed."""
    return click.option(
        "--device",
        default=default,
        show_default=default is not None,
        metavar="DEVICE",
        shell_complete=complete_device,
        help=description,
    )


def input_option() -> Decorator:
    """Return the option --input of a command that takes several models."""
    return click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="DECLARATION",
        help="Declare an input of your own modules (repeatable). [default: guessed]",
    )


def _resolve(
    ctx: click.Context, preset: str | None, choices: dict[str, Any], find_largest: bool
) -> ModelSpec:
    """Return the spec of the model that the command line describes."""
    state = state_of(ctx)
    reference = state.reference
    if reference is None:  # a word that begins like an option, behind `--`
        name = ctx.params["reference"]
        raise UsageProblem(f"unknown architecture {name!r}", "list the architectures: nnkit list")
    if ctx.params["declarations"] and reference.plugin:
        name = reference.architecture.name
        raise UsageProblem(
            f"--declare is for a module of your own, and {name} is none",
            f"see what it declares: nnkit info {name}",
        )
    installed_plugins(ctx.ensure_object(Settings))
    if find_largest:
        _take_largest(state, reference.architecture)
    core = {core_option(reference.architecture, name): value for name, value in choices.items()}
    return reference.resolve(preset, {**state.options, **core})


def _take_largest(state: CommandState, architecture: Architecture) -> None:
    """Keep the dim that was typed as `max`, and leave its default in the spec."""
    sought = [name for name, value in state.options.items() if value == "max" and name in architecture.dims]
    if len(sought) > 1:
        raise UsageProblem(f"--{sought[0]} and --{sought[1]} can't both be max", "give a size for one")
    for name in sought:
        state.largest = name
        del state.options[name]


def _asks_for_help(ctx: click.Context, args: Sequence[str]) -> bool:
    return not set(ctx.help_option_names).isdisjoint(args)


def _is_slow(text: str) -> bool:
    """Whether a look-up takes the import of a zoo, or asks the hub."""
    return plugin_manager().is_member(text) or names_hub(text) or names_a_folder(text)


def _is_reference(word: str) -> bool:
    if names_code(word) or names_a_file(word) or names_hub(word) or names_a_folder(word):
        return True
    return plugin_manager().declares(word)


def _options_for(architecture: Architecture) -> list[click.Parameter]:
    """Return the config fields and dims of an architecture as options; config.py checks their values."""
    fields = [
        click.Option(
            [
                _own_name(option.name),
                f"{option.flag}/--no-{option.flag[2:]}" if option.is_flag else option.flag,
            ],
            default=None,
            type=click.Choice(option.choices) if option.choices else None,
            multiple=option.name == SETTINGS,
            expose_value=False,
            callback=_keep_as(option.name),
        )
        for option in options_of(architecture.config)
    ]
    return [*fields, *size_options(architecture.dims)]


def size_options(dims: Iterable[str], kind: type | None = None) -> list[click.Parameter]:
    """Return an option for each dim; its value is kept in the state of the command line."""
    return [
        click.Option(
            [_own_name(name), flag_of(name)],
            type=kind,
            default=None,
            expose_value=False,
            callback=_keep_as(name),
        )
        for name in dims
    ]


def _own_name(name: str) -> str:
    """Return what click calls an architecture's option; a core option may have its name."""
    return f"own_{name}"


def _keep_as(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback that keeps the value of an option under a name."""

    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value not in (None, ()):
            state_of(ctx).options[name] = value

    return keep
