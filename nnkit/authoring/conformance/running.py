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

CORE = "nnkit"  # the distribution of nnkit itself

Report = Callable[[str], None]


def _ignore(text: str) -> None:
    """Report nothing."""


def candidates(
    host: PluginManager, help_of: HelpOf, name: str | None = None, architectures: Collection[str] = ()
) -> list[Candidate]:
    """Return the candidates that a name refers to: each plugin, followed by its architectures.

    help_of: returns the help text of `nnkit summary` for an architecture.
    name: a plugin, a distribution, or an architecture; None for all plugins that don't come with nnkit.
    architectures: those to keep, by short name; all where it is empty. Those of a zoo are only those that are
    named, as `timm/resnet18`.
    Raises UsageProblem for an unknown name, PluginProblem for a plugin that is switched off.
    """
    host.check_all()
    members = [each for each in dict.fromkeys((name or "", *architectures)) if host.is_member(each)]
    if members:
        return _member_candidates(host, help_of, members)
    plugins, named_architecture = _find_plugins(host, name)
    wanted = set(architectures) | named_architecture
    declared = {architecture for plugin in plugins for architecture in plugin.architectures}
    unknown = sorted(wanted - declared)
    if unknown:
        raise UsageProblem(
            f"{name or 'no third-party plugin'} declares no architecture {unknown[0]!r}",
            did_you_mean(unknown[0], declared) or f"available: {', '.join(sorted(declared)) or 'none'}",
        )
    selected: list[Candidate] = []
    for plugin in plugins:
        selected.append(Candidate(host, plugin))
        selected += [
            ArchitectureCandidate(host, plugin, architecture, help_of)
            for short, architecture in plugin.architectures.items()
            if not wanted or short in wanted
        ]
    return selected


def _member_candidates(host: PluginManager, help_of: HelpOf, names: Sequence[str]) -> list[Candidate]:
    """Return a candidate for each architecture of a zoo, the first of a plugin behind that plugin."""
    found: dict[str, list[Candidate]] = {}
    for name in names:
        plugin, architecture = host.find(name)
        owner = host.plugins[plugin]
        found.setdefault(plugin, [Candidate(host, owner)]).append(
            ArchitectureCandidate(host, owner, architecture, help_of)
        )
    return [candidate for candidates in found.values() for candidate in candidates]


def _find_plugins(host: PluginManager, name: str | None) -> tuple[list[Plugin], set[str]]:
    """Return the plugins that a name refers to, and the architecture if it is the name of one."""
    everything = host.plugins.values()
    if name is None:
        others = [plugin for plugin in everything if plugin.distribution != CORE and plugin.enabled]
        if not others:
            raise UsageProblem(
                "no plugins are installed besides nnkit's own", "name a plugin: nnkit plugins check vision"
            )
        return others, set()
    named = [plugin for plugin in everything if name in (plugin.name, plugin.distribution)]
    if named:
        if enabled := [plugin for plugin in named if plugin.enabled]:
            return enabled, set()
        raise PluginProblem(f"{name} is switched off", "check NNKIT_PLUGINS and NNKIT_DISABLE_PLUGINS")
    try:
        plugin, architecture = host.find(name)
    except UsageProblem as error:
        names = {label for plugin in everything for label in (plugin.name, plugin.distribution)}
        names |= {qualified.rpartition("/")[2] for qualified in host.architectures()}
        raise UsageProblem(
            f"unknown plugin, distribution or architecture {name!r}",
            did_you_mean(name, names) or "list the plugins: nnkit plugins",
        ) from error
    return [host.plugins[plugin]], {architecture.name}


def choose_checks(names: Sequence[str]) -> tuple[SuiteCheck, ...]:
    """Return the checks with these names, or all for none. Raises UsageProblem for an unknown name."""
    offered = {check.name: check for check in (*PLUGIN_CHECKS, *ARCHITECTURE_CHECKS)}
    for name in names:
        if name not in offered:
            raise UsageProblem(
                f"unknown check {name!r}",
                did_you_mean(name, offered) or f"choose from: {', '.join(offered)}",
            )
    return tuple(check for check in offered.values() if not names or check.name in names)


def checked(
    chosen: Sequence[Candidate],
    checks: Sequence[SuiteCheck],
    progress: Report = _ignore,
    explain: Report = _ignore,
) -> Iterator[ReportCard]:
    """Yield a report card for each candidate with at least one of the checks, as soon as it is complete.

    progress: called with what is being checked. explain: called with the traceback of each failure.
    """
    for candidate in chosen:
        applicable = ARCHITECTURE_CHECKS if isinstance(candidate, ArchitectureCandidate) else PLUGIN_CHECKS
        results = []
        for check in checks:
            if check in applicable:
                progress(f"{candidate.name}: {check.name}")
                results.append(_run_check(check, candidate, explain))
        if results:
            plugin = candidate.plugin
            yield ReportCard(candidate.name, plugin.distribution, plugin.version, tuple(results))


def _run_check(check: SuiteCheck, candidate: Candidate, explain: Report) -> CheckResult:
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
