"""Installs and removes plugins with the tool that made the environment which nnkit runs in. Torch-free.

Where that tool would replace the environment under the running nnkit, or isn't here, nothing is run:
the user gets the exact command.
"""

import importlib
import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nnkit.distributions import (
    NAME,
    NNKIT,
    find_distribution,
    normalized,
    plugin_distributions,
    requirement_of,
)
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, did_you_mean

Kind = Literal["name", "editable", "file"]
"""What is to be installed: a requirement or path, a folder that stays where it is, a file of requirements."""


@dataclass(frozen=True)
class Step:
    """A command that changes the environment. reason: why the user has to run it; empty where nnkit can."""

    command: tuple[str, ...]
    reason: str = ""

    def __str__(self) -> str:
        return shlex.join(self.command)

    def run(self, hint: str = "") -> None:
        """Run it; raises NnkitError with the last line of what it said, and the whole as the cause.

        hint: what else may be the way out.
        """
        if self.reason:
            raise NnkitError(self.reason, f"type: {self}")
        done = subprocess.run(
            self.command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        importlib.invalidate_caches()
        if done.returncode:
            said = done.stdout + done.stderr
            message = f"{_called(self.command)} failed: {_last_words(said)}"
            raise NnkitError(message, f"all that it said: repeat with -v; the command: {self}") from Said(
                said
            )


class Said(Exception):
    """The whole of what a tool printed, for a traceback to show."""


@dataclass(frozen=True)
class Place:
    """The environment that nnkit runs in, as far as installing goes.

    prefix: its folder. managed: whether it is the system's own, marked as externally managed.
    has_pip: whether pip is in it. which: finds a program on the path, as shutil.which.
    """

    prefix: Path
    managed: bool
    has_pip: bool
    which: Callable[[str], str | None] = shutil.which

    @classmethod
    def here(cls) -> "Place":
        """Return the environment of this process."""
        marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
        in_environment = sys.prefix != sys.base_prefix
        return cls(
            prefix=Path(sys.prefix),
            managed=marker.is_file() and not in_environment,
            has_pip=importlib.util.find_spec("pip") is not None,
        )

    def install(self, what: Sequence[str], kind: Kind = "name") -> Step:
        """Return the command that installs a requirement or path, `-e` a folder, `-r` a file."""
        if self._is_of_uv_tool:
            option = {"name": "--with", "editable": "--with-editable", "file": "--with-requirements"}[kind]
            return self._uv_tool([*self._brought_by_uv_tool(), *_each(option, what)])
        if self._is_of_pipx:
            flag = {"name": (), "editable": ("--editable",), "file": ("-r",)}[kind]
            return self._pipx("inject", [*flag, *what])
        flag = {"name": (), "editable": ("-e",), "file": ("-r",)}[kind]
        return self._pip("install", [word for each in what for word in (*flag, each)])

    def uninstall(self, name: str) -> Step:
        """Return the command that removes a distribution."""
        if self._is_of_uv_tool:
            return self._uv_tool(self._brought_by_uv_tool(without=name))
        if self._is_of_pipx:
            return self._pipx("uninject", [name])
        return self._pip("uninstall", [name])

    @property
    def _is_of_uv_tool(self) -> bool:
        return (self.prefix / "uv-receipt.toml").is_file()

    @property
    def _is_of_pipx(self) -> bool:
        return (self.prefix / "pipx_metadata.json").is_file()

    def _uv_tool(self, options: Sequence[str]) -> Step:
        reason = "uv tool made this environment, and would replace it under the running nnkit"
        return Step(("uv", "tool", "install", NNKIT, *options), reason)

    def _brought_by_uv_tool(self, without: str = "") -> list[str]:
        """Return the options that name what is there beside nnkit: uv forgets what it isn't told again."""
        names = [
            name for name in _receipt_names(self.prefix / "uv-receipt.toml") if name not in (NNKIT, without)
        ]
        plugins = {name: requirement_of(each) for name, each in plugin_distributions().items()}
        options = []
        for name in names:
            requirement = plugins.get(name, name)
            editable = requirement.startswith("-e ")
            options += ["--with-editable" if editable else "--with", requirement.removeprefix("-e ")]
        return options

    def _pipx(self, verb: str, words: Sequence[str]) -> Step:
        command = ("pipx", verb, self.prefix.name, *words)
        return Step(
            command, "" if self.which("pipx") else "pipx made this environment, and isn't on the path"
        )

    def _pip(self, verb: str, words: Sequence[str]) -> Step:
        yes = ("--yes",) if verb == "uninstall" else ()
        quiet = ("--no-input", "--disable-pip-version-check")
        pip = (sys.executable, "-m", "pip", verb)
        if self.managed:
            reason = "this Python is managed by the system; better, give nnkit an environment of its own"
            return Step((*pip, "--break-system-packages", *words), reason)
        if self.has_pip:
            return Step((*pip, *quiet, *yes, *words))
        command = ("uv", "pip", verb, "--python", sys.executable, *words)
        return Step(
            command, "" if self.which("uv") else "this environment has no pip, and uv isn't on the path"
        )


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _receipt_names(receipt: Path) -> list[str]:
    """Return the normalized names of what `uv tool` put in the environment."""
    if sys.version_info >= (3, 11):
        import tomllib

        requirements = tomllib.loads(receipt.read_text()).get("tool", {}).get("requirements", [])
        return [normalized(each["name"]) for each in requirements]
    return list(plugin_distributions())  # without tomllib, the plugins are what is known


def _called(command: Sequence[str]) -> str:
    return "pip" if "pip" in command[:3] else command[0]


def _last_words(said: str) -> str:
    """Return the line that says why: the last that is marked as an error, or the last of all."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error:", "fatal:"))]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR: ").removeprefix("error: ")


@dataclass(frozen=True)
class Brought:
    """What an installed distribution gives nnkit.

    lines: one for each plugin and command. problem: why it can't be used, and the way out; else empty.
    """

    distribution: str
    lines: tuple[str, ...] = ()
    problem: str = ""
    hint: str = ""


def check_installed(requirements: Sequence[str]) -> list[Brought]:
    """Return what the distributions of these requirements give nnkit, as a fresh process finds it."""
    found = _seen_by_a_fresh_process()
    return [_brought(requirement, found) for requirement in requirements]


def raise_problems(brought: Sequence[Brought]) -> None:
    """Raise PluginProblem where a distribution gives nothing or its plugin fails; all stay installed."""
    if problems := [each for each in brought if each.problem]:
        raise PluginProblem("; ".join(each.problem for each in problems), problems[0].hint)


def _brought(requirement: str, found: Mapping[str, Any]) -> Brought:
    distribution = find_distribution(requirement)
    if distribution is None:
        return Brought(requirement, (), f"{requirement} is not among what is installed", "see: nnkit plugins")
    name = distribution.name

    def own(key: str) -> list[dict[str, Any]]:
        return [each for each in found[key] if normalized(each["distribution"]) == normalized(name)]

    plugins, commands = own("plugins"), own("commands")
    lines = [f"{each['name']}: {_gives(each)}" for each in plugins]
    lines += [f"command {each['name']}" for each in commands]
    if not lines:
        problem = f"{name} {distribution.version} is installed, and is no plugin of nnkit"
        return Brought(name, (), problem, f"where it isn't needed: {Place.here().uninstall(name)}")
    failures = [
        f"plugin {each['name']} of {name} fails at {failure['stage']}: {failure['message']}"
        for each in plugins
        for failure in each["failures"]
    ]
    hint = f"see it in full: nnkit plugins -v; remove it: nnkit plugins uninstall {name}"
    return Brought(name, tuple(lines), "; ".join(failures), hint)


def _gives(plugin: Mapping[str, Any]) -> str:
    if not plugin["enabled"]:
        return "switched off, see NNKIT_PLUGINS and NNKIT_DISABLE_PLUGINS"
    count = len(plugin["architectures"])
    parts = [f"{count} architecture{'' if count == 1 else 's'}"] if count else []
    for kind in ("format", "executor"):
        parts += [f"{kind} {name}" for name in plugin[f"{kind}s"]]
    return ", ".join(parts) or "no architecture"


def _seen_by_a_fresh_process() -> dict[str, Any]:
    command = [sys.executable, "-m", "nnkit", "plugins", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NnkitError(
            f"nnkit itself doesn't start any more: {_last_words(done.stderr)}", "see: nnkit plugins -v"
        ) from Said(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def removable(name: str) -> str:
    """Return the distribution that `name`, of a distribution or of a plugin in it, stands for.

    Raises UsageProblem for nnkit itself, and for what is not there or is no plugin.
    """
    installed = plugin_distributions()
    wanted = normalized(name)
    if wanted == NNKIT:
        raise UsageProblem("nnkit doesn't remove itself", "with its own tool: pip uninstall nnkit")
    if wanted in installed:
        return installed[wanted].name
    offering = {
        each.name
        for each in installed.values()
        if name in {point.name for point in each.entry_points if point.group == "nnkit"}
    }
    if len(offering) == 1:
        return offering.pop()
    if offering:
        raise UsageProblem(
            f"plugin {name} is in more than one distribution", f"say which: {', '.join(sorted(offering))}"
        )
    if (distribution := find_distribution(name)) is not None:
        raise UsageProblem(f"{distribution.name} is no plugin of nnkit", "with its own tool: pip uninstall")
    hint = (
        did_you_mean(wanted, installed)
        or f"there are: {', '.join(installed) or 'none beside those of nnkit'}"
    )
    raise UsageProblem(f"no plugin {name} is installed", hint)


def requirements_in(file: Path) -> list[str]:
    """Return the requirements that a file written by `nnkit plugins freeze` asks for, without options."""
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(f"can't read {file}: {error}", "write it with: nnkit plugins freeze") from error
    return [line.removeprefix("-e ").strip() for line in lines if line and not line.startswith(("#", "--"))]


def want(what: Sequence[str], editable: bool) -> list[str]:
    """Return what the user named, as a tool takes it: a folder or file here by its full path.

    Raises UsageProblem for a path that isn't there, a folder that is no project, and nnkit itself.
    """
    return [_wanted(text, editable) for text in what]


def prefixed(what: Sequence[str]) -> str:
    """Return a hint where a name was typed without the prefix that plugins have, else an empty string."""
    bare = [text for text in what if NAME.fullmatch(text) and not normalized(text).startswith(f"{NNKIT}-")]
    return (
        f"a name is asked for as typed; did you mean {' '.join(f'{NNKIT}-{text}' for text in bare)}?"
        if bare
        else ""
    )


def _wanted(text: str, editable: bool) -> str:
    path = Path(text)
    looks_like_a_path = text.startswith((".", "~", "/")) or "\\" in text or text.endswith(".whl")
    if text.startswith("-"):
        raise UsageProblem(f"{text!r} is neither a name nor a path", "see: nnkit plugins install --help")
    if not looks_like_a_path and not (editable and path.is_dir()):
        if editable:
            raise UsageProblem(
                f"there is no folder {text}", "-e takes the folder of a plugin: -e ./nnkit-mine"
            )
        if normalized(_name_in(text)) == NNKIT:
            raise UsageProblem(
                "nnkit is installed already", "upgrade it with its own tool: pip install -U nnkit"
            )
        return text
    path = path.expanduser()
    if not path.exists():
        raise UsageProblem(f"there is no {text}", "check the path")
    if path.is_dir() and not any((path / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise UsageProblem(f"{text} holds no pyproject.toml", "name the folder of the plugin's project")
    return str(path.resolve())


def _name_in(requirement: str) -> str:
    found = NAME.match(requirement)
    return found[0] if found else requirement
