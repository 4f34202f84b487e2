"""Plugins -> report cards. Torch-free until a check needs it."""

import shlex
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence

from nnkit.authoring.conformance.candidate import ArchitectureCandidate, Candidate, HelpOf
from nnkit.authoring.conformance.report import ReportCard
from nnkit.authoring.conformance.suite import (
    ARCHITECTURE_CHECKS,
    PLUGIN_CHECKS,
    Doubtful,
    NotApplicable,
    SuiteCheck,
    Unmet,
    meet,
)
from nnkit.errors import PluginProblem, UsageProblem, did_you_mean
from nnkit.host.plugin_manager import PluginManager
from nnkit.host.plugins import Plugin
from nnkit.verbs.smoke.report import CheckResult

CORE = "nnkit"  # the distribution that ships with core

Say = Callable[[str], None]


def _silent(text: str) -> None:
    """Say it to nobody."""


def candidates(
    host: PluginManager, help_of: HelpOf, name: str | None = None, architectures: Collection[str] = ()
) -> list[Candidate]:
    """Return what a name stands for: each plugin, followed by its architectures.

    help_of: returns the help text of `nnkit summary` for an architecture.
    name: a plugin, a distribution, or an architecture; None for all plugins that don't come with nnkit.
    architectures: those to keep, by short name; all where it is empty.
    Raises UsageProblem for a name that nobody has, PluginProblem for a plugin that is switched off.
    """
    plugins, only = _named(host, name)
    wanted = set(architectures) | only
    declared = {each for plugin in plugins for each in plugin.architectures}
    for each in sorted(wanted - declared):
        raise UsageProblem(
            f"{name or 'no plugin of others'} declares no architecture {each!r}",
            did_you_mean(each, declared) or f"there are: {', '.join(sorted(declared)) or 'none'}",
        )
    found: list[Candidate] = []
    for plugin in plugins:
        found.append(Candidate(host, plugin))
        found += [
            ArchitectureCandidate(host, plugin, architecture, help_of)
            for short, architecture in plugin.architectures.items()
            if not wanted or short in wanted
        ]
    return found


def _named(host: PluginManager, name: str | None) -> tuple[list[Plugin], set[str]]:
    """Return the plugins that a name stands for, and the one architecture if it is the name of one."""
    everything = host.plugins.values()
    if name is None:
        others = [plugin for plugin in everything if plugin.distribution != CORE and plugin.enabled]
        if not others:
            raise UsageProblem(
                "there is no plugin but those that come with nnkit", "say which: nnkit plugins check vision"
            )
        return others, set()
    found = [plugin for plugin in everything if name in (plugin.name, plugin.distribution)]
    if found:
        if on := [plugin for plugin in found if plugin.enabled]:
            return on, set()
        raise PluginProblem(f"{name} is switched off", "look at NNKIT_PLUGINS and NNKIT_DISABLE_PLUGINS")
    try:
        plugin, architecture = host.find(name)
    except UsageProblem as error:
        names = {each for plugin in everything for each in (plugin.name, plugin.distribution)}
        near = did_you_mean(name, {*names, *(full.rpartition("/")[2] for full in host.architectures())})
        raise UsageProblem(
            f"there is no plugin, distribution or architecture {name!r}", near or "see them: nnkit plugins"
        ) from error
    return [host.plugins[plugin]], {architecture.name}


def choose_checks(names: Sequence[str]) -> tuple[SuiteCheck, ...]:
    """Return the checks of those names, all where there are none. Raises UsageProblem for others."""
    offered = {check.name: check for check in (*PLUGIN_CHECKS, *ARCHITECTURE_CHECKS)}
    for name in names:
        if name not in offered:
            raise UsageProblem(
                f"there is no check {name!r}", did_you_mean(name, offered) or f"one of: {', '.join(offered)}"
            )
    return tuple(check for check in offered.values() if not names or check.name in names)


def checked(
    chosen: Sequence[Candidate], checks: Sequence[SuiteCheck], progress: Say = _silent, explain: Say = _silent
) -> Iterator[ReportCard]:
    """Yield the card of each candidate that the checks concern, as soon as it is complete.

    progress: called with what is being checked. explain: called with the traceback of what fails.
    """
    for candidate in chosen:
        kind = ARCHITECTURE_CHECKS if isinstance(candidate, ArchitectureCandidate) else PLUGIN_CHECKS
        results = []
        for check in checks:
            if check in kind:
                progress(f"{candidate.name}: {check.name}")
                results.append(_result(check, candidate, explain))
        if results:
            plugin = candidate.plugin
            yield ReportCard(candidate.name, plugin.distribution, plugin.version, tuple(results))


def _result(check: SuiteCheck, candidate: Candidate, explain: Say) -> CheckResult:
    repeat = shlex.join(["nnkit", "plugins", "check", candidate.name, "--check", check.name])
    try:
        return CheckResult(check.name, "passed", meet(check, candidate), repeat)
    except Unmet as fault:
        explain(traceback.format_exc())
        return CheckResult(check.name, "failed", str(fault), repeat)
    except Doubtful as doubt:
        return CheckResult(check.name, "warned", str(doubt), repeat)
    except NotApplicable as reason:
        return CheckResult(check.name, "skipped", str(reason), repeat)
