"""What a sweep runs: the models that match the patterns, a shard of them, and a task for each."""

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
from nnkit.models.references import is_path_of_folder, names_a_file


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, how it is smoke-run, and within which limits.

    Attributes:
        spec: the model.
        device, checks, full, compiled: as for a single smoke-run.
        versions: of nnkit, torch, the plugin and its zoo, by distribution.
        time_limit: in seconds.
        memory_limit: in bytes; None for no limit.
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
        """The command that smoke-runs only this model."""
        options = []
        if self.device != "cpu":
            options += ["--device", self.device]
        for check in self.checks or ():
            options += ["--check", check]
        if self.full:
            options.append("--full")
        if self.compiled:
            options.append("--compile")
        return self.spec.command("smoke-run", *options)

    def to_dict(self) -> dict[str, Any]:
        """Return the task as plain data, the form in which it is sent to another process."""
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
    """Whether a word is a pattern of architectures, such as `res*` or `vision/*`."""
    has_wildcard = any(character in word for character in "*?[")
    return has_wildcard and ":" not in word and not names_a_file(word)


def select(patterns: Sequence[str], manager: PluginManager) -> list[str]:
    """Return the qualified names of the architectures that match; all but those of zoos for no patterns.

    A pattern with a slash is matched against `plugin/name`, any other against the name without the plugin.
    One that begins with the prefix of a zoo is matched against the names of that.
    Raises UsageProblem for a pattern that matches nothing.
    """
    manager.check_all()
    every_name = list(manager.architectures())
    selected: set[str] = set()
    in_zoos: dict[str, None] = {}
    for pattern in patterns or ("*",):
        if manager.is_member(pattern):
            in_zoos |= dict.fromkeys(_match_members(pattern, manager))
        else:
            selected.update(_match(pattern, every_name, manager))
    return [*(name for name in every_name if name in selected), *in_zoos]


def _match_members(pattern: str, manager: PluginManager) -> list[str]:
    """Return the names of a zoo that match a pattern, or the one that is named."""
    if not is_pattern(pattern):
        manager.find(pattern)
        return [pattern]
    prefix, _, _ = pattern.partition("/")
    names = [f"{prefix}/{member}" for member in manager.require_members(prefix, pattern)]
    matches = [name for name in names if fnmatchcase(name, pattern)]
    if not matches:
        near = did_you_mean(_literal(pattern), names)
        raise UsageProblem(
            f"no architecture matches {pattern!r}", near or f"list the architectures: nnkit list {prefix}/"
        )
    return matches


def _literal(pattern: str) -> str:
    return "".join(character for character in pattern if character not in "*?[]")


def _match(pattern: str, names: Sequence[str], manager: PluginManager) -> list[str]:
    if ":" in pattern or names_a_file(pattern) or is_path_of_folder(pattern):
        raise UsageProblem(
            f"a run of several models takes architectures and patterns, not {pattern}",
            f"run it on its own: nnkit smoke-run {pattern}",
        )
    if not is_pattern(pattern):
        plugin, architecture = manager.find(pattern)
        return [f"{plugin}/{architecture.name}"]
    matches = [
        name for name in names if fnmatchcase(name if "/" in pattern else _without_plugin(name), pattern)
    ]
    if not matches:
        suggestion = did_you_mean(_literal(pattern), {*names, *map(_without_plugin, names)})
        raise UsageProblem(
            f"no architecture matches {pattern!r}", suggestion or "list the architectures: nnkit list"
        )
    return matches


def _without_plugin(name: str) -> str:
    _, _, short = name.rpartition("/")
    return short


def shard_of(names: Sequence[str], shard: tuple[int, int]) -> list[str]:
    """Return part i of n, for (i, n) with i from 1: every n-th name, which spreads each family."""
    part, parts = shard
    return list(names[part - 1 :: parts])


def reason_to_skip(spec: ModelSpec) -> str:
    """Return why a model can't be smoke-run here, or an empty string."""
    architecture = spec.architecture
    if reason := architecture.unsupported.get("smoke-run"):
        return reason
    if package := missing(architecture.requires):
        return f"it needs the package {package}: {architecture.requires[package]}"
    return ""


def versions_for(spec: ModelSpec, manager: PluginManager) -> dict[str, str]:
    """Return the versions that a result depends on."""
    plugin = manager.plugins[spec.plugin]
    own = {"nnkit": __version__, "torch": version("torch"), plugin.distribution: plugin.version}
    return {**own, **spec.architecture.versions}
