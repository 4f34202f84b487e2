"""What holds for the help of every command, those of groups too."""

import inspect
import re
from collections.abc import Iterator

import click
import pytest

from nnkit.cli.main import cli


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = {" ".join(("nnkit", *path)): command for path, command in commands(cli)}


def test_every_command_is_looked_at():
    assert {"nnkit summary", "nnkit plugins", "nnkit completion"} <= set(ALL)


@pytest.mark.parametrize("path", ALL)
def test_help_opens_with_a_line_and_examples(path):
    line, examples, *_ = (
        part.removeprefix("\b\n") for part in inspect.cleandoc(ALL[path].help).split("\n\n")
    )
    assert line.endswith(".")
    for example in examples.splitlines():
        assert example.startswith((path, "pip ")), example


@pytest.mark.parametrize("path", ["nnkit", *ALL])
def test_help_fits_a_terminal_of_80_columns(path):
    command = ALL.get(path, cli)
    names = cli.context_settings["help_option_names"]  # click keeps the option of the first context
    text = command.get_help(
        click.Context(command, info_name=path, terminal_width=78, help_option_names=names)
    )
    assert "Examples:" in text
    assert max(map(len, text.splitlines())) <= 80


def test_every_option_of_a_section_exists():
    for path, command in ALL.items():
        names = {parameter.name for parameter in command.params}
        for heading, section in getattr(command, "sections", {}).items():
            assert set(section) <= names, f"{path}: {heading}"


def test_commands_are_described_by_a_verb():
    for group in (cli, ALL["nnkit plugins"]):
        for name, line in group.lines.items():
            assert re.fullmatch(r"[A-Z][a-z]+,? .*[^.]", line), name


@pytest.mark.parametrize("path", ALL)
def test_every_option_says_what_it_is_for(path):
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert re.match(r"[A-Z]|safetensors: ", parameter.help), parameter.name
            assert parameter.help.endswith((".", "]")), parameter.name


@pytest.mark.parametrize("path", ALL)
def test_every_device_is_completed(path):
    for parameter in ALL[path].params:
        if parameter.name == "device":
            offered = parameter.shell_complete(click.Context(ALL[path]), "cu")
            assert [each.value for each in offered] == ["cuda"]
