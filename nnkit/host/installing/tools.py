"""Chooses the command that changes nnkit's environment: that of the tool that created it. Torch-free.

If that tool would replace the environment while nnkit runs, or isn't available, nothing runs: the user gets
the exact command.
"""

import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nnkit.errors import NnkitError
from nnkit.host.installing.distributions import NAME, NNKIT, normalized, plugin_distributions

Kind = Literal["name", "editable", "file"]
"""What to install: a requirement or path, a folder in editable mode, a file of requirements."""


@dataclass(frozen=True)
class Step:
    """A command that changes the environment.

    Attributes:
        command: Its words.
        reason: Why the user has to run it; empty if nnkit can.
    """

    command: tuple[str, ...]
    reason: str = ""

    def __str__(self) -> str:
        return shlex.join(self.command)

    def run(self, hint: str = "") -> None:
        """Run it; raises NnkitError with the last line of its output, and all of the output as the cause.

        hint: what the user can do, if it isn't to look at that output.
        """
        if self.reason:
            raise NnkitError(self.reason, f"run: {self}")
        done = subprocess.run(
            self.command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        importlib.invalidate_caches()
        if done.returncode:
            output = done.stdout + done.stderr
            message = f"{_called(self.command)} failed: {last_words(output)}"
            raise NnkitError(message, hint or "see its full output: repeat with -v") from Said(output)


class Said(Exception):
    """All that a tool printed, for a traceback to show."""


@dataclass(frozen=True)
class Place:
    """The environment that nnkit runs in, as an installer sees it.

    Attributes:
        prefix: Its folder.
        managed: Whether the system manages it (PEP 668).
        has_pip: Whether it has pip.
        which: Finds a program on the path, as shutil.which does.
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
            named = NAME.match(what[0]) if kind == "name" and len(what) == 1 else None
            return self._uv_tool(_each(option, what), without=named[0] if named else "")
        if self._is_of_pipx:
            flag = {"name": (), "editable": ("--editable",), "file": ("-r",)}[kind]
            return self._pipx("inject", [*flag, *what])
        flag = {"name": (), "editable": ("-e",), "file": ("-r",)}[kind]
        return self._pip("install", [word for requirement in what for word in (*flag, requirement)])

    def uninstall(self, name: str) -> Step:
        """Return the command that removes a distribution."""
        if self._is_of_uv_tool:
            return self._uv_tool([], without=name)
        if self._is_of_pipx:
            return self._pipx("uninject", [name])
        return self._pip("uninstall", [name])

    @property
    def _is_of_uv_tool(self) -> bool:
        return (self.prefix / "uv-receipt.toml").is_file()

    @property
    def _is_of_pipx(self) -> bool:
        return (self.prefix / "pipx_metadata.json").is_file()

    def _uv_tool(self, options: Sequence[str], without: str = "") -> Step:
        """Return the command that recreates the environment; it repeats every option, or uv drops it."""
        own, kept = [NNKIT], []
        for requirement in _receipt(self.prefix / "uv-receipt.toml"):
            option, words = _asked_for(requirement)
            if normalized(requirement["name"]) == NNKIT:
                own = ["--editable", words] if option == "--with-editable" else [words]
            elif normalized(requirement["name"]) != normalized(without):
                kept += [option, words]
        reason = "uv tool created this environment and would replace it while nnkit runs"
        return Step(("uv", "tool", "install", *own, *kept, *options), reason)

    def _pipx(self, verb: str, words: Sequence[str]) -> Step:
        command = ("pipx", verb, self.prefix.name, *words)
        return Step(
            command, "" if self.which("pipx") else "pipx created this environment, but isn't on the path"
        )

    def _pip(self, verb: str, words: Sequence[str]) -> Step:
        yes = ("--yes",) if verb == "uninstall" else ()
        quiet = ("--no-input", "--disable-pip-version-check")
        pip = (sys.executable, "-m", "pip", verb)
        if self.managed:
            reason = "this Python is managed by the system; better install nnkit in its own environment"
            return Step((*pip, "--break-system-packages", *words), reason)
        if self.has_pip:
            return Step((*pip, *quiet, *yes, *words))
        command = ("uv", "pip", verb, "--python", sys.executable, *words)
        return Step(
            command, "" if self.which("uv") else "this environment has no pip, and uv isn't on the path"
        )


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _receipt(file: Path) -> list[dict[str, Any]]:
    """Return the requirements that `uv tool` installed the environment from."""
    if sys.version_info >= (3, 11):
        import tomllib

        return list(tomllib.loads(file.read_text()).get("tool", {}).get("requirements", []))
    return [{"name": name} for name in plugin_distributions()]  # without tomllib, the plugins are known


def _asked_for(requirement: Mapping[str, Any]) -> tuple[str, str]:
    """Return the option and its value that ask `uv tool` for a requirement of its receipt again."""
    if "editable" in requirement:
        return "--with-editable", requirement["editable"]
    for location in ("directory", "path", "url"):
        if location in requirement:
            return "--with", requirement[location]
    name = requirement["name"]
    if "git" in requirement:
        return "--with", f"{name} @ git+{requirement['git']}"
    extras = f"[{','.join(requirement['extras'])}]" if requirement.get("extras") else ""
    return "--with", f"{name}{extras}{requirement.get('specifier', '')}"


def _called(command: tuple[str, ...]) -> str:
    return "pip" if command[1:3] == ("-m", "pip") else command[0]


ERROR = re.compile(r"(error: |fatal: )(?=.* )|(\w+\.)*\w+(Error|Exception): ", re.IGNORECASE)


def last_words(output: str) -> str:
    """Return the line with the reason: the last one marked as an error, or else the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    return re.sub(r"^(error|fatal): ", "", (errors or lines or ["no output"])[-1], flags=re.IGNORECASE)
