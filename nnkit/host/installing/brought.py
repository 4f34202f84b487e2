"""What an installed distribution adds to nnkit, as a new process finds it. Torch-free."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnkit.contract.text import plural
from nnkit.errors import NnkitError, PluginProblem
from nnkit.host.installing.distributions import find_distribution, normalized
from nnkit.host.installing.tools import Place, Said, last_words


@dataclass(frozen=True)
class Brought:
    """What an installed distribution adds to nnkit.

    Attributes:
        distribution: Its name.
        lines: One line for each plugin and command.
        problem: Why it can't be used; empty if it can.
        hint: What the user can do about the problem.
    """

    distribution: str
    lines: tuple[str, ...] = ()
    problem: str = ""
    hint: str = ""


def check_installed(requirements: Sequence[str]) -> list[Brought]:
    """Return what the distributions of these requirements add to nnkit, as a new process finds it."""
    listing = _list_in_new_process()
    return [_describe(requirement, listing) for requirement in requirements]


def raise_problems(brought: Sequence[Brought]) -> None:
    """Raise PluginProblem if a distribution adds nothing or its plugin fails; all stay installed."""
    if unusable := [distribution for distribution in brought if distribution.problem]:
        raise PluginProblem("; ".join(distribution.problem for distribution in unusable), unusable[0].hint)


def _describe(requirement: str, listing: Mapping[str, Any]) -> Brought:
    distribution = find_distribution(requirement)
    if distribution is None:
        return Brought(requirement, (), f"{requirement} is not installed", "see: nnkit plugins")
    name = distribution.name

    def own(key: str) -> list[dict[str, Any]]:
        return [entry for entry in listing[key] if normalized(entry["distribution"]) == normalized(name)]

    plugins, commands = own("plugins"), own("commands")
    if not plugins and not commands:
        problem = f"{name} {distribution.version} is installed but is not an nnkit plugin"
        return Brought(name, (), problem, f"if you don't need it: {Place.here().uninstall(name)}")
    failures = [
        f"plugin {plugin['name']} of {name} fails at {failure['stage']}: {failure['message']}"
        for plugin in plugins
        for failure in plugin["failures"]
    ]
    lines = [
        f"{plugin['name']}: {_contents_of(plugin) or 'only hooks'}"
        for plugin in plugins
        if _contents_of(plugin) or not plugin["failures"]
    ]
    lines += [f"command {command['name']}" for command in commands]
    hint = f"see it in full: nnkit plugins -v; remove it: nnkit plugins uninstall {name}"
    return Brought(name, tuple(lines), "; ".join(failures), hint)


def _contents_of(plugin: Mapping[str, Any]) -> str:
    if not plugin["enabled"]:
        return "switched off, see NNKIT_PLUGINS and NNKIT_DISABLE_PLUGINS"
    count = len(plugin["architectures"])
    parts = [plural(count, "architecture")] if count else []
    parts += [f"zoo {zoo['prefix']}/" for zoo in plugin["zoos"]]
    for kind in ("format", "executor"):
        parts += [f"{kind} {name}" for name in plugin[f"{kind}s"]]
    return ", ".join(parts)


def _list_in_new_process() -> dict[str, Any]:
    command = [sys.executable, "-m", "nnkit", "plugins", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NnkitError(
            f"nnkit itself no longer starts: {last_words(done.stderr)}", "see: nnkit plugins -v"
        ) from Said(done.stderr)
    listing: dict[str, Any] = json.loads(done.stdout)
    return listing
