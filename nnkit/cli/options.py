"""Commands that take an architecture: its config fields, dims and presets become their options."""

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from nnkit.cli.completers import Completer, beginning, complete_architecture
from nnkit.cli.settings import Settings
from nnkit.contract.architecture import Architecture
from nnkit.contract.config import Option, as_text, options_of
from nnkit.contract.spec import DTYPES, ModelSpec
from nnkit.errors import NnkitError, UsageProblem
from nnkit.host.plugin_manager import PluginManager
from nnkit.host.plugins import Failure
from nnkit.models.references import Reference, look_up, names_a_file
from nnkit.verbs.core_handlers import plugin_manager

REFERENCE = "nnkit.reference"
OPTIONS = "nnkit.options"
FILE = "nnkit.file"
LARGEST = "nnkit.largest"


def installed_plugins(settings: Settings) -> PluginManager:
    """Return the plugins, after saying on stderr which of them failed; those that yet fail are told then."""

    def tell(failure: Failure) -> None:
        settings.note(f"warning: {failure.line}")
        if failure.traceback and not settings.quiet:
            settings.explain(failure.traceback)

    manager = plugin_manager()
    manager.tell_failures(tell)
    manager.divert_prints()
    for deprecation in manager.deprecations:
        settings.note(f"warning: {deprecation}")
    return manager


class ArchitectureCommand(click.Command):
    """A command whose first argument is a reference, in any place among the options.

    The reference is found before the options are parsed, so that those of the architecture are known
    to the parser, to the help text and to completion.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[OPTIONS] = {}
        settings = ctx.ensure_object(Settings)
        settings.verbose |= not {"-v", "--verbose"}.isdisjoint(args)  # the look-up may fail before parsing
        settings.quiet |= not {"-q", "--quiet"}.isdisjoint(args)
        text = self.find_reference(ctx, args)
        if text is not None:
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
            ctx.meta[REFERENCE] = look_up(text, plugin_manager(), values_of("--input", args))

    def find_reference(self, ctx: click.Context, args: Sequence[str]) -> str | None:
        """Return the word that names the architecture."""
        sure, doubtful = self.words(args)
        known = [word for word in (*sure, *doubtful) if _is_reference(word)]
        return next(iter([*known, *sure]), None)

    def words(self, args: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the words that are neither an option nor its value, and those that may be a value."""
        takes_value = {
            flag for parameter in self.params if isinstance(parameter, click.Option) and not parameter.is_flag
            for flag in parameter.opts
        }  # fmt: skip
        flags = {flag for parameter in self.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        sure: list[str] = []
        doubtful: list[str] = []
        for before, word in zip(["", *args], args, strict=False):
            if (word.startswith("-") and word != "-") or before in takes_value:
                continue
            # After an option that only the architecture knows, a word may be that option's value.
            unknown = before.startswith("--") and before not in {"--", *flags} and "=" not in before
            (doubtful if unknown else sure).append(word)
        return sure, doubtful

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        reference = ctx.meta.get(REFERENCE)
        return [*own, *_typed_options(reference.architecture)] if reference else own

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        reference = ctx.meta.get(REFERENCE)
        own = [
            parameter.get_help_record(ctx)
            for parameter in super().get_params(ctx)
            if isinstance(parameter, click.Option)
        ]
        if reference:
            _format_architecture(reference.architecture, ctx, formatter)
        with formatter.section("Options"):
            formatter.write_dl([record for record in own if record])
        if not reference:
            formatter.write_paragraph()
            formatter.write_text(f"The options of an architecture: {ctx.command_path} ARCH --help")


def architecture_options(
    function: Callable[..., Any] | None = None,
    *,
    find_largest: bool = False,
    argument: str = "ARCH",
    complete: Completer = complete_architecture,
) -> Callable[..., Any]:
    """Add the reference and what every verb takes; the function gets the resolved spec in their place.

    find_largest: a size may be `max`; the spec then has its default, and `ctx.meta[LARGEST]` the dim.
    argument: what the help calls the reference. complete: what completion offers for it.
    What a command takes in the place of a reference (`ctx.meta[FILE]`) leaves it without a spec.
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
        weights: Path | None,
        strict: bool | None,
        inputs: tuple[str, ...],
        **own: Any,
    ) -> Any:
        if FILE in click.get_current_context().meta:
            return function(spec=None, **own)
        whole = {"seed": seed, "dtype": dtype, "weights": weights and str(weights), "strict": strict}
        given = {name: value for name, value in whole.items() if value is not None}
        return function(spec=_resolve(preset, given, find_largest), **own)

    for decorate in (
        click.option("--input", "inputs", multiple=True, metavar="DECLARATION",
                     help='An input of your own module: "x: float32[batch, 3, 224, 224]".'),
        click.option("--strict/--no-strict", default=None,
                     help="Whether they must be all of the model's and no others. [default: strict]"),
        click.option("--weights", type=click.Path(path_type=Path), metavar="FILE",
                     help="Take them from safetensors (or its index), or from .pt by weights_only."),
        click.option("--dtype", type=click.Choice(DTYPES), help="Dtype of the weights. [default: as built]"),
        click.option("--seed", type=int, help="Of weights and random inputs. [default: 0]"),
        click.option("--preset", metavar="NAME", help="Named values for options and sizes.",
                     shell_complete=_complete_preset),
        click.argument("reference", metavar=argument, shell_complete=complete),
    ):  # fmt: skip
        with_spec = decorate(with_spec)
    return with_spec


def _resolve(preset: str | None, whole: dict[str, Any], find_largest: bool) -> ModelSpec:
    """Return the spec that the command line stands for."""
    ctx = click.get_current_context()
    if REFERENCE not in ctx.meta:  # a word that begins like an option, behind `--`
        raise UsageProblem(
            f"unknown architecture {ctx.params['reference']!r}", "see what there is: nnkit list"
        )
    reference: Reference = ctx.meta[REFERENCE]
    installed_plugins(ctx.ensure_object(Settings))
    options = dict(ctx.meta[OPTIONS])
    if find_largest:
        sought = [name for name, value in options.items() if value == "max" and _is_size(reference, name)]
        if len(sought) > 1:
            raise UsageProblem(f"--{sought[0]} and --{sought[1]} can't both be max", "give a size for one")
        for name in sought:
            ctx.meta[LARGEST] = name
            del options[name]
    return reference.resolve(preset, {**options, **whole})


def _is_size(reference: Reference, name: str) -> bool:
    return name in reference.architecture.dims


def _is_reference(word: str) -> bool:
    if ":" in word or names_a_file(word):
        return True
    try:
        plugin_manager().find(word)
    except NnkitError:
        return False
    return True


def values_of(flag: str, args: Sequence[str]) -> list[str]:
    """Return the values that are typed after a flag."""
    after = [word for before, word in pairwise(args) if before == flag]
    return after + [word.partition("=")[2] for word in args if word.startswith(f"{flag}=")]


def _typed_options(architecture: Architecture) -> list[click.Parameter]:
    """Return the config fields and dims of an architecture as options; config.py checks their values."""

    fields = [
        click.Option(
            [f"{option.flag}/--no-{option.flag[2:]}" if option.is_flag else option.flag],
            default=None,
            type=click.Choice(option.choices) if option.choices else None,
            expose_value=False,
            callback=_remember(option.name),
        )
        for option in options_of(architecture.config)
    ]
    return [*fields, *size_options(architecture.dims)]


def size_options(dims: Iterable[str], kind: type | None = None) -> list[click.Parameter]:
    """Return an option for each dim; its value is kept in the context."""
    return [
        click.Option([_flag(name)], type=kind, default=None, expose_value=False, callback=_remember(name))
        for name in dims
    ]


def _remember(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.meta[OPTIONS][name] = value

    return callback


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _format_architecture(
    architecture: Architecture, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the architecture's options, sizes and presets under headings of their own."""
    sections = {
        f"Options of {architecture.name}": option_lines(architecture),
        f"Sizes of {architecture.name}": size_lines(architecture),
        f"Presets of {architecture.name}": preset_lines(architecture),
    }
    for title, lines in sections.items():
        if lines:
            with formatter.section(title):
                formatter.write_dl(lines)


def option_lines(architecture: Architecture) -> list[tuple[str, str]]:
    """Return each config field as (how it is typed, what it means)."""
    return [_option_line(option) for option in options_of(architecture.config)]


def _option_line(option: Option) -> tuple[str, str]:
    if option.is_flag:
        typed = f"{option.flag} / --no-{option.flag[2:]}"
        default = "yes" if option.default else "no"
    else:
        typed, default = f"{option.flag} {option.kind}", as_text(option.default)
    return typed, f"{option.description}  [default: {default}]".lstrip()


def size_lines(architecture: Architecture) -> list[tuple[str, str]]:
    """Return each dim as (how it is typed, what it may be)."""
    lines = []
    for name, dim in architecture.dims.items():
        bounds = [f">= {dim.least}"]
        if dim.max is not None:
            bounds.append(f"<= {dim.max}")
        if dim.multiple_of > 1:
            bounds.append(f"a multiple of {dim.multiple_of}")
        kind = f"integer {' and '.join(bounds)}"
        lines.append((f"{_flag(name)} {kind}", f"{dim.description}  [default: {dim.default}]".lstrip()))
    return lines


def preset_lines(architecture: Architecture) -> list[tuple[str, str]]:
    """Return each preset as (how it is typed, the values it stands for)."""
    lines = []
    for name, preset in architecture.presets.items():
        given = {**preset.config, **preset.sizes}
        values = [f"{_flag(key)} {as_text(value)}" for key, value in given.items()]
        about = f"{preset.description}: " if preset.description else ""
        lines.append((f"--preset {name}", about + " ".join(values)))
    return lines


def _complete_preset(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    reference = ctx.meta.get(REFERENCE)
    presets = reference.architecture.presets if reference else {}
    return beginning(incomplete, presets)
