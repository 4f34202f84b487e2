"""The settings of a user and a project: plugins to load, plugins to prefer, colors. Torch-free.

Each setting is taken from the first place that has it: a flag, a variable of the environment, the project's
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
CACHES = ("auto", "off")
WAY_OUT = "correct it; see the settings in effect: nnkit config"

Kind = Literal["flag", "environment", "project", "user", "default"]


@dataclass(frozen=True)
class Source:
    """Where a value came from: the kind of place, and the flag, variable or file (`""` for a default)."""

    kind: Kind
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The settings. In a file, each has the name of its field, with hyphens.

    Attributes:
        plugins: The only plugins to load, by name or distribution. None: all.
        disable_plugins: Plugins to leave out.
        prefer: If several plugins declare a name, the first of them in this list has it.
        color: Whether stdout is colored: `auto`, `always` or `never`.
        cache: The folder for what can be made again. `auto`: this system's own; `off`: none is used.
        sources: Where each setting came from, except defaults.
        files: The files that were read.
        problems: The errors of invalid files, which are ignored as a whole.
    """

    plugins: tuple[str, ...] | None = None
    disable_plugins: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    color: str = "auto"
    cache: str = "auto"
    sources: Mapping[str, Source] = field(default_factory=dict)
    files: tuple[Source, ...] = ()
    problems: tuple[UsageProblem, ...] = ()

    def loads(self, *names: str) -> bool:
        """Whether a plugin with any of these names is to be loaded."""
        allowed = self.plugins is None or not set(names).isdisjoint(self.plugins)
        return allowed and set(names).isdisjoint(self.disable_plugins)

    def source(self, name: str) -> Source:
        """Return where the value of a field came from."""
        return self.sources.get(name, Source("default"))

    def checked(self) -> "Configuration":
        """Return the configuration; raises the UsageProblem of an invalid file."""
        for problem in self.problems:
            raise problem
        return self

    def with_flag(self, name: str, value: str | None, flag: str) -> "Configuration":
        """Return the configuration with a flag of the command line; None: the flag wasn't given."""
        if value is None:
            return self
        changed: dict[str, Any] = {name: value, "sources": {**self.sources, name: Source("flag", flag)}}
        return replace(self, **changed)


VARIABLES = {
    "plugins": "NNKIT_PLUGINS",
    "disable_plugins": "NNKIT_DISABLE_PLUGINS",
    "prefer": "NNKIT_PREFER",
    "color": "NO_COLOR",
    "cache": "NNKIT_CACHE",
}
SETTINGS = tuple(VARIABLES)


@dataclass(frozen=True)
class Layer:
    """The settings from one place."""

    source: Source
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: UsageProblem | None = None


def configuration() -> Configuration:
    """Return the settings of this process; its problems include an invalid file."""
    return configure(os.environ, _installed_files())


def configure(environment: Mapping[str, str], files: Sequence[Layer] = ()) -> Configuration:
    """Return the settings of the environment and of `files`, the strongest first."""
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
        elif name == "cache":
            if environment.get(variable):
                yield Layer(source, {name: environment[variable]})
        elif variable in environment:
            yield Layer(source, {name: tuple(environment[variable].replace(",", " ").split())})


@functools.cache
def _installed_files() -> tuple[Layer, ...]:
    try:
        folder = Path.cwd()
    except FileNotFoundError:  # it was removed
        return tuple(read_files(None, user_file()))
    return tuple(read_files(folder, user_file()))


def read_files(folder: Path | None, user: Path) -> Iterator[Layer]:
    """Yield the settings of the project's file, searched from `folder` upwards, and of the user's file."""
    project = project_file(folder) if folder else None
    if project is not None:
        yield read_file(project, "project")
    if _exists(user):
        yield read_file(user, "user")


def user_file() -> Path:
    """Return the path of the user's file: `~/.config/nnkit/config.toml`, or this system's equivalent."""
    from click import get_app_dir

    return Path(get_app_dir("nnkit"), "config.toml")


def project_file(folder: Path) -> Path | None:
    """Return the project's file, searched up to the root of the repository or the user's home."""
    folders = list(_upwards(folder))
    for ancestor in folders:
        if _exists(ancestor / "nnkit.toml"):
            return ancestor / "nnkit.toml"
    for ancestor in folders:
        project = ancestor / "pyproject.toml"
        if _exists(project):
            return project if _has_table(project) else None
    return None


def _has_table(path: Path) -> bool:
    """Whether a project has settings. If not, it isn't parsed, and its errors aren't reported."""
    try:
        return re.search(rb"""tool\s*\.\s*["']?nnkit""", path.read_bytes()) is not None
    except OSError:
        return False


def _upwards(folder: Path) -> Iterator[Path]:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home raises if there is none
    for ancestor in (folder, *folder.parents):
        yield ancestor
        if _exists(ancestor / ".git") or ancestor == home:
            return


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises in an unreadable folder


def read_file(path: Path, kind: Kind) -> Layer:
    """Return the settings of a file; an invalid one has none, but a problem."""
    source = Source(kind, str(path))
    try:
        text = path.read_text(encoding="utf-8")
        table = _toml(text)
        if path.name == "pyproject.toml":
            table = _table(_table(table, "tool"), "nnkit")
        return Layer(source, {_field(name): _value(name, given) for name, given in table.items()})
    except _InvalidSetting as invalid:
        problem = UsageProblem(f"{path}{_line(text, invalid.key)}: {invalid}", invalid.hint or WAY_OUT)
    except ValueError as error:  # invalid TOML, or not even text
        problem = UsageProblem(f"{path} is not readable TOML: {error}", WAY_OUT)
    except OSError as error:
        problem = UsageProblem(f"{path} can't be read: {error.strerror}", WAY_OUT)
    return Layer(source, problem=problem)


class _InvalidSetting(Exception):
    """A setting with an unknown name or an invalid value."""

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
    table = parent.get(key, {})
    if not isinstance(table, dict):
        raise _InvalidSetting(key, f"{key} takes a table, got {table!r}")
    return table


def _field(name: str) -> str:
    names = [setting.replace("_", "-") for setting in SETTINGS]
    if name not in names:
        raise _InvalidSetting(
            name,
            f"unknown setting {name!r}",
            did_you_mean(name, names) or f"the settings are: {', '.join(names)}",
        )
    return name.replace("-", "_")


def _value(name: str, given: Any) -> Any:
    if name == "color":
        if given not in COLORS:
            raise _InvalidSetting(name, f"{name} takes one of {', '.join(COLORS)}, got {given!r}")
        return given
    if name == "cache":
        if not isinstance(given, str) or not (given in CACHES or _is_full_path(given)):
            raise _InvalidSetting(
                name,
                f"{name} takes auto, off or the full path of a folder, got {given!r}",
                'for example: cache = "off"',
            )
        return given
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        hint = f'for example: {name} = ["vision"]'
        raise _InvalidSetting(name, f"{name} takes a list of plugins, got {given!r}", hint)
    return tuple(given)


def _is_full_path(text: str) -> bool:
    return text.startswith("~") or Path(text).is_absolute()


def _line(text: str, key: str) -> str:
    """Return the line of a key, such as `:3`, because the TOML parser doesn't report it."""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(rf"""\s*(tool\.)?(nnkit\.)?["']?{re.escape(key)}["']?\s*=""", line):
            return f":{number}"
    return ""
