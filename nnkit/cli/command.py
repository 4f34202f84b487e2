"""What all commands share: the layout of their help text, and options that are declared as a list."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import click

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
Sections: TypeAlias = Mapping[str, Sequence[str]]  # a heading, and the names of the parameters below it

GLOBAL_SECTION: Sections = {"Global options": ("verbose", "quiet", "color", "help")}


def add_options(function: Callable[..., Any], options: Sequence[Decorator]) -> Callable[..., Any]:
    """Decorate a function with options; the help lists them in the order given."""
    for decorate in reversed(options):  # the decorator applied last comes first in the help
        function = decorate(function)
    return function


class Command(click.Command):
    """A command whose help text shows examples first, then its options under headings.

    sections: the options to list under a heading of their own. All others come under `Options`.
    """

    def __init__(self, *args: Any, sections: Sections | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.sections = sections or {}

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_description(self.help or "", formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(ctx, self.get_params(ctx), self.sections, formatter)


def write_description(text: str, formatter: click.HelpFormatter) -> None:
    r"""Write the description of a command, then its examples: the paragraphs that open with `\b`."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    examples = [paragraph for paragraph in paragraphs if paragraph.startswith("\b")]
    for paragraph in paragraphs:
        if paragraph not in examples:
            formatter.write_paragraph()
            formatter.write_text(paragraph)
    for paragraph in examples:
        with formatter.section("Examples"):
            formatter.write_text(paragraph)


def write_options(
    ctx: click.Context,
    parameters: Sequence[click.Parameter],
    sections: Sections,
    formatter: click.HelpFormatter,
) -> None:
    """Write options under their headings: first those without one, last the global ones."""
    sections = {**sections, **GLOBAL_SECTION}
    heading_of = {name: heading for heading, names in sections.items() for name in names}
    lines: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ("Options", *sections)}
    for parameter in parameters:
        if isinstance(parameter, click.Option) and (line := parameter.get_help_record(ctx)):
            name = "help" if "--help" in parameter.opts else str(parameter.name)
            lines[heading_of.get(name, "Options")].append(line)
    for heading, section in lines.items():
        if section:
            with formatter.section(heading):
                formatter.write_dl(section)
