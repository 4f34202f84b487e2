"""What an installed distribution gives nnkit, as a fresh process finds it. Torch-free."""

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
    if not plugins and not commands:
        problem = f"{name} {distribution.version} is installed, and is no plugin of nnkit"
        return Brought(name, (), problem, f"where it isn't needed: {Place.here().uninstall(name)}")
    failures = [
        f"plugin {each['name']} of {name} fails at {failure['stage']}: {failure['message']}"
        for each in plugins
        for failure in each["failures"]
    ]
    lines = [
        f"{each['name']}: {_gives(each) or 'hooks alone'}"
        for each in plugins
        if _gives(each) or not each["failures"]
    ]
    lines += [f"command {each['name']}" for each in commands]
    hint = f"see it in full: nnkit plugins -v; remove it: nnkit plugins uninstall {name}"
    return Brought(name, tuple(lines), "; ".join(failures), hint)


def _gives(plugin: Mapping[str, Any]) -> str:
    if not plugin["enabled"]:
        return "switched off, see NNKIT_PLUGINS and NNKIT_DISABLE_PLUGINS"
    count = len(plugin["architectures"])
    parts = [plural(count, "architecture")] if count else []
    for kind in ("format", "executor"):
        parts += [f"{kind} {name}" for name in plugin[f"{kind}s"]]
    return ", ".join(parts)


def _seen_by_a_fresh_process() -> dict[str, Any]:
    command = [sys.executable, "-m", "nnkit", "plugins", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NnkitError(
            f"nnkit itself doesn't start any more: {last_words(done.stderr)}", "see: nnkit plugins -v"
        ) from Said(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
