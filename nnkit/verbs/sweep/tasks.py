"""What a sweep runs: the models that patterns name, a shard of them, and a task for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from typing import Any

from nnkit import __version__
from nnkit.contract.loading import missing
from nnkit.contract.spec import ModelSpec
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.host.plugin_manager import PluginManager
from nnkit.models.references import names_a_file


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, how it is smoke-run, and within which limits.

    versions: of nnkit, of torch and of what declares the architecture, by distribution.
    time_limit: in seconds. memory_limit: in bytes, None for none.
    """

    spec: ModelSpec
    device: str
    checks: tuple[str, ...] | None
    full: bool
    compiled: bool
    versions: Mapping[str, str]
    time_limit: float
    memory_limit: int | None

    @property
    def name(self) -> str:
        """The qualified name of the architecture."""
        return self.spec.name

    @property
    def command(self) -> str:
        """The command that smoke-runs the model alone."""
        words = []
        if self.device != "cpu":
            words += ["--device", self.device]
        for check in self.checks or ():
            words += ["--check", check]
        words += [flag for flag, given in (("--full", self.full), ("--compile", self.compiled)) if given]
        return self.spec.command("smoke-run", *words)

    def to_dict(self) -> dict[str, Any]:
        """Return the task as plain data, as the process gets it that runs it."""
        return {
            "spec": self.spec.to_dict(),
            "device": self.device,
            "checks": None if self.checks is None else list(self.checks),
            "full": self.full,
            "compiled": self.compiled,
            "versions": dict(self.versions),
            "time_limit": self.time_limit,
            "memory_limit": self.memory_limit,
        }


def is_pattern(word: str) -> bool:
    """Whether a word stands for the architectures that match it: `res*`, `vision/*`."""
    return not {"*", "?", "["}.isdisjoint(word) and ":" not in word and not names_a_file(word)


def select(patterns: Sequence[str], manager: PluginManager) -> list[str]:
    """Return the qualified names of the architectures that patterns and names stand for; of all for none.

    A pattern with a slash is held against `plugin/name`, any other against the name alone.
    Raises UsageProblem for one that nothing matches.
    """
    everything = manager.architectures()
    found: set[str] = set()
    for pattern in patterns or ("*",):
        found.update(_matches(pattern, list(everything), manager))
    return [name for name in everything if name in found]


def _matches(pattern: str, names: Sequence[str], manager: PluginManager) -> list[str]:
    if ":" in pattern or names_a_file(pattern):
        raise UsageProblem(
            f"several models are named by architecture or pattern, not so: {pattern}",
            f"smoke-run it alone: nnkit smoke-run {pattern}",
        )
    if not is_pattern(pattern):
        plugin, architecture = manager.find(pattern)
        return [f"{plugin}/{architecture.name}"]
    found = [name for name in names if fnmatchcase(name if "/" in pattern else _short(name), pattern)]
    if not found:
        plain = "".join(letter for letter in pattern if letter not in "*?[]")
        near = did_you_mean(plain, {*names, *map(_short, names)})
        raise UsageProblem(f"no architecture matches {pattern!r}", near or "see what there is: nnkit list")
    return found


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def shard_of(names: Sequence[str], shard: tuple[int, int]) -> list[str]:
    """Return part i of n, for (i, n) with i from 1: every n-th name, so that families are spread."""
    part, parts = shard
    return list(names[part - 1 :: parts])


def reason_to_skip(spec: ModelSpec) -> str:
    """Say why a model can't be smoke-run here, or return an empty string."""
    architecture = spec.architecture
    if reason := architecture.unsupported.get("smoke-run"):
        return reason
    if lacking := missing(architecture.requires):
        return f"it needs the package {lacking}: {architecture.requires[lacking]}"
    return ""


def versions_for(spec: ModelSpec, manager: PluginManager) -> dict[str, str]:
    """Return the versions that a result depends on."""
    plugin = manager.plugins[spec.plugin]
    return {"nnkit": __version__, "torch": version("torch"), plugin.distribution: plugin.version}
