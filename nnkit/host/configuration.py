"""What a user and a project have settled: which plugins load, which of two has a name, colours. Torch-free.

Each setting is taken from the first that has it: a flag, a variable of the environment, the project's
file, the user's file, nnkit's own default. The project's file is `nnkit.toml` in the working folder or
above it, or else the table `[tool.nnkit]` of the nearest `pyproject.toml`.
"""

import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nnkit.errors import UsageProblem, did_you_mean

COLORS = ("auto", "always", "never")
WAY_OUT = "correct it; see the settings in effect: nnkit config"

Kind = Literal["flag", "environment", "project", "user", "default"]


@dataclass(frozen=True)
class Source:
    """Where a value came from: the kind of place, and the flag, variable or file (`""` for a default)."""

    kind: Kind
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The settings; in a file each has the name of its field, with hyphens.

    plugins: the only ones to load, by name or distribution; None: all. disable_plugins: those to leave
    out. prefer: of plugins that declare one name, the first in this list has it. color: of stdout.
    sources: where those came from that aren't defaults. files: those that were read. problems: of files
    that can't be, of which nothing counts.
    """

    plugins: tuple[str, ...] | None = None
    disable_plugins: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    color: str = "auto"
    sources: Mapping[str, Source] = field(default_factory=dict)
    files: tuple[Source, ...] = ()
    problems: tuple[UsageProblem, ...] = ()

    def loads(self, *names: str) -> bool:
        """Whether a plugin that goes by any of `names` is to be loaded."""
        allowed = self.plugins is None or not set(names).isdisjoint(self.plugins)
        return allowed and set(names).isdisjoint(self.disable_plugins)

    def source(self, name: str) -> Source:
        """Return where the value of a field came from."""
        return self.sources.get(name, Source("default"))

    def checked(self) -> "Configuration":
        """Return the configuration; raises the UsageProblem of a file that can't be read."""
        for problem in self.problems:
            raise problem
        return self

    def with_flag(self, name: str, value: str | None, flag: str) -> "Configuration":
        """Return the configuration under a flag of the command line; None: it wasn't given."""
        if value is None:
            return self
        changed: dict[str, Any] = {name: value, "sources": {**self.sources, name: Source("flag", flag)}}
        return replace(self, **changed)


VARIABLES = {
    "plugins": "NNKIT_PLUGINS",
    "disable_plugins": "NNKIT_DISABLE_PLUGINS",
    "prefer": "NNKIT_PREFER",
    "color": "NO_COLOR",
}
SETTINGS = tuple(VARIABLES)


@dataclass(frozen=True)
class Layer:
    """The settings that one place makes."""

    source: Source
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: UsageProblem | None = None


def configuration() -> Configuration:
    """Return the settings that hold in this process; a file that is broken is among its problems."""
    return configure(os.environ, _installed_files())


def configure(environment: Mapping[str, str], files: Sequence[Layer] = ()) -> Configuration:
    """Return the settings of the environment and of files, the strongest first."""
    layers = [*_variables(environment), *files]
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for layer in layers:
        for name in layer.values.keys() - values.keys():
            values[name], sources[name] = layer.values[name], layer.source
    return Configuration(
        **values,
        sources=sources,
        files=tuple(layer.source for layer in files),
        problems=tuple(layer.problem for layer in files if layer.problem),
    )


def _variables(environment: Mapping[str, str]) -> Iterator[Layer]:
    for name, variable in VARIABLES.items():
        source = Source("environment", variable)
        if name == "color":
            if environment.get(variable):
                yield Layer(source, {name: "never"})
        elif variable in environment:
            yield Layer(source, {name: tuple(environment[variable].replace(",", " ").split())})


@functools.cache
def _installed_files() -> tuple[Layer, ...]:
    try:
        folder = Path.cwd()
    except FileNotFoundError:  # somebody has removed it
        return tuple(read_files(None, user_file()))
    return tuple(read_files(folder, user_file()))


def read_files(folder: Path | None, user: Path) -> Iterator[Layer]:
    """Yield what the project's file, sought from `folder` upwards, and the user's file settle."""
    project = project_file(folder) if folder else None
    if project is not None:
        yield read_file(project, "project")
    if _is_there(user):
        yield read_file(user, "user")


def user_file() -> Path:
    """Return where the user's own file is sought: `~/.config/nnkit/config.toml`, or its like here."""
    from click import get_app_dir

    return Path(get_app_dir("nnkit"), "config.toml")


def project_file(folder: Path) -> Path | None:
    """Return the project's file, sought up to the root of the repository or the user's home."""
    folders = list(_upwards(folder))
    for each in folders:
        if _is_there(each / "nnkit.toml"):
            return each / "nnkit.toml"
    nearest = next((each for each in folders if _is_there(each / "pyproject.toml")), None)
    return nearest / "pyproject.toml" if nearest and _has_table(nearest / "pyproject.toml") else None


def _has_table(path: Path) -> bool:
    """Whether a project settles anything: if not, it needs no parser, and its faults are not ours."""
    try:
        return re.search(rb"""tool\s*\.\s*["']?nnkit""", path.read_bytes()) is not None
    except OSError:
        return False


def _upwards(folder: Path) -> Iterator[Path]:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - which raises where nobody has one
    for each in (folder, *folder.parents):
        yield each
        if _is_there(each / ".git") or each == home:
            return


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path's own raises in a folder that can't be looked into


def read_file(path: Path, kind: Kind) -> Layer:
    """Return what a file settles; one that is broken settles nothing and has a problem."""
    source = Source(kind, str(path))
    try:
        text = path.read_text(encoding="utf-8")
        table = _toml(text)
        if path.name == "pyproject.toml":
            table = _table(_table(table, "tool"), "nnkit")
        return Layer(source, {_field(name): _value(name, given) for name, given in table.items()})
    except _Wrong as wrong:
        problem = UsageProblem(f"{path}{_line(text, wrong.key)}: {wrong}", wrong.hint or WAY_OUT)
    except ValueError as error:  # neither TOML nor, it may be, text
        problem = UsageProblem(f"{path} is not readable TOML: {error}", WAY_OUT)
    except OSError as error:
        problem = UsageProblem(f"{path} can't be read: {error.strerror}", WAY_OUT)
    return Layer(source, problem=problem)


class _Wrong(Exception):
    """A setting that can't be."""

    def __init__(self, key: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.hint = hint


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    table: dict[str, Any] = tomllib.loads(text)
    return table


def _table(parent: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = parent.get(key, {})
    if not isinstance(found, dict):
        raise _Wrong(key, f"{key} takes a table, got {found!r}")
    return found


def _field(name: str) -> str:
    names = [each.replace("_", "-") for each in SETTINGS]
    if name not in names:
        raise _Wrong(
            name,
            f"unknown setting {name!r}",
            did_you_mean(name, names) or f"the settings are: {', '.join(names)}",
        )
    return name.replace("-", "_")


def _value(name: str, given: Any) -> Any:
    if name == "color":
        if given not in COLORS:
            raise _Wrong(name, f"{name} takes one of {', '.join(COLORS)}, got {given!r}")
        return given
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        hint = f'for example: {name} = ["vision"]'
        raise _Wrong(name, f"{name} takes a list of plugins, got {given!r}", hint)
    return tuple(given)


def _line(text: str, key: str) -> str:
    """Return where a key stands, as `:3`, for what TOML's own reader doesn't tell."""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(rf"""\s*(tool\.)?(nnkit\.)?["']?{re.escape(key)}["']?\s*=""", line):
            return f":{number}"
    return ""
