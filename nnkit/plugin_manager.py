"""Discovery of plugins, each in its own isolation: import, API check, registration, hook call.

Whatever a plugin does wrong is recorded as a Failure, with its stage and distribution, and everything
else goes on working. Torch-free.
"""

import functools
import os
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pluggy

from nnkit import hookspecs
from nnkit.architecture import NAME, VERBS, Architecture
from nnkit.config import RESERVED, options_of
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, did_you_mean
from nnkit.spec import ModelSpec

GROUP = "nnkit"
COMMANDS_GROUP = "nnkit.commands"
COLLECTING = ("nnkit_architectures", "nnkit_checks", "nnkit_formulas", "nnkit_exporters")


@dataclass(frozen=True)
class Failure:
    """What went wrong with a plugin: at which stage, in one line, and in full."""

    plugin: str
    distribution: str
    stage: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"plugin {self.plugin} ({self.distribution}) failed at {self.stage}: {self.message}"


@dataclass(frozen=True)
class Deprecation:
    """Something that a plugin uses and that will be gone with the next major version of the API."""

    plugin: str
    distribution: str
    message: str

    def __str__(self) -> str:
        return f"plugin {self.plugin} ({self.distribution}): {self.message}"


@dataclass
class Plugin:
    """An installed plugin and what became of it."""

    name: str
    distribution: str
    version: str
    module: str
    enabled: bool = True
    architectures: dict[str, Architecture] = field(default_factory=dict)
    checks: list[hookspecs.Check] = field(default_factory=list)
    formulas: list[hookspecs.OperatorFormula] = field(default_factory=list)
    exporters: list[hookspecs.Exporter] = field(default_factory=list)


class PluginManager:
    """Knows the installed plugins, their architectures and hooks.

    points: the entry points to look at, by default those installed in the group `nnkit`.
    core: objects with nnkit's own hookimpls, by name, registered after the plugins.
    environment: where the allow-list `NNKIT_PLUGINS` and the deny-list `NNKIT_DISABLE_PLUGINS` stand.
    """

    def __init__(
        self,
        points: Iterable[EntryPoint] | None = None,
        environment: Mapping[str, str] = os.environ,
        core: Mapping[str, object] | None = None,
    ) -> None:
        self.plugins: dict[str, Plugin] = {}
        self.failures: list[Failure] = []
        self.deprecations: list[Deprecation] = []
        self._environment = environment
        self._hooks = pluggy.PluginManager("nnkit")
        self._hooks.add_hookspecs(hookspecs)
        self._load_all(entry_points(group=GROUP) if points is None else points)
        for name, handlers in (core or {}).items():
            self._hooks.register(handlers, name)

    @property
    def hook(self) -> pluggy.HookRelay:
        """The run-time hooks, in their order: the architecture's own, plugins', core's."""
        return self._hooks.hook

    def architectures(self) -> dict[str, Architecture]:
        """Return every architecture by its qualified name, in the order of plugins and declarations."""
        return {
            f"{plugin.name}/{name}": architecture
            for plugin in self.plugins.values()
            for name, architecture in plugin.architectures.items()
        }

    def checks(self) -> list[hookspecs.Check]:
        """Return the smoke checks that plugins add."""
        return [check for plugin in self.plugins.values() for check in plugin.checks]

    def formulas(self) -> list[hookspecs.OperatorFormula]:
        """Return how plugins count operators of their own."""
        return [formula for plugin in self.plugins.values() for formula in plugin.formulas]

    def exporters(self) -> list[hookspecs.Exporter]:
        """Return the formats that plugins add."""
        return [exporter for plugin in self.plugins.values() for exporter in plugin.exporters]

    def find(self, name: str) -> tuple[str, Architecture]:
        """Return (plugin name, architecture) for `resnet18` or `vision/resnet18`.

        Raises UsageProblem for a name that nobody or more than one plugin declares, PluginProblem
        when the plugin that it names is broken or switched off.
        """
        everything = self.architectures()
        short = name.rpartition("/")[2]
        matches = [
            full for full in everything if full == name or ("/" not in name and full.endswith(f"/{short}"))
        ]
        if len(matches) == 1:
            return matches[0].rpartition("/")[0], everything[matches[0]]
        if matches:
            raise UsageProblem(
                f"{name!r} is declared by more than one plugin", f"say which: {' or '.join(sorted(matches))}"
            )
        raise self._not_found(name, everything)

    def _not_found(self, name: str, everything: Mapping[str, Architecture]) -> NnkitError:
        plugin = name.partition("/")[0] if "/" in name else ""
        for failure in self.failures:
            if plugin in (failure.plugin, failure.distribution):
                return PluginProblem(str(failure), "see the traceback: nnkit plugins -v")
        if plugin in self.plugins and not self.plugins[plugin].enabled:
            return PluginProblem(
                f"plugin {plugin} is switched off", "look at NNKIT_PLUGINS and NNKIT_DISABLE_PLUGINS"
            )
        short_names = {full.rpartition("/")[2] for full in everything}
        hint = did_you_mean(name, {*short_names, *everything}) or "see what there is: nnkit list"
        if self.failures:
            hint += f" ({len(self.failures)} plugin failure(s): nnkit plugins)"
        return UsageProblem(f"unknown architecture {name!r}", hint)

    def handlers(self, spec: ModelSpec) -> dict[str, str]:
        """Return, for each verb, who is first in line to serve `spec`, with the wrappers around it."""
        found: dict[str, str] = {}
        for verb in VERBS:
            impls = getattr(self.hook, hookspecs.HOOK_OF_VERB[verb]).get_hookimpls()
            own = spec.architecture.handlers.get(verb)
            plugins = [each.plugin_name for each in reversed(impls) if not _is_wrapper(each)]
            serving = [name for name in plugins if name != "architecture"]
            words = own or ", else ".join(serving)
            wrappers = [each.plugin_name for each in reversed(impls) if _is_wrapper(each)]
            found[verb] = words + (f" (wrapped by {', '.join(wrappers)})" if wrappers else "")
        return found

    # Loading, plugin by plugin

    def _load_all(self, points: Iterable[EntryPoint]) -> None:
        ordered = sorted(points, key=lambda point: (_distribution(point)[0], point.name))
        counts: dict[str, int] = {}
        for point in ordered:
            counts[point.name] = counts.get(point.name, 0) + 1
        for point in ordered:
            distribution, version = _distribution(point)
            # Two distributions may use one name: then neither takes it, both are called by distribution.
            name = point.name if counts[point.name] == 1 else f"{distribution}:{point.name}"
            plugin = Plugin(name, distribution, version, point.value)
            if name in self.plugins:
                self._fail(plugin, "discovery", f"entry point {point.name!r} appears twice")
                continue
            self.plugins[name] = plugin
            plugin.enabled = self._is_enabled(point.name, distribution)
            if plugin.enabled:
                self._load(plugin, point)

    def _is_enabled(self, name: str, distribution: str) -> bool:
        def listed(variable: str) -> bool:
            words = self._environment[variable].replace(",", " ").split()
            return name in words or distribution in words

        if "NNKIT_PLUGINS" in self._environment and not listed("NNKIT_PLUGINS"):
            return False
        return not ("NNKIT_DISABLE_PLUGINS" in self._environment and listed("NNKIT_DISABLE_PLUGINS"))

    def _load(self, plugin: Plugin, point: EntryPoint) -> None:
        module = self._attempt(plugin, "import", point.load)
        if module is None:
            return
        if problem := _api_problem(getattr(module, "NNKIT_PLUGIN_API", None)):
            self._fail(plugin, "API check", problem)
            return
        for name in self._unknown_hooks(module):
            hint = did_you_mean(name, [*hookspecs.HOOK_OF_VERB.values(), *COLLECTING])
            self._fail(plugin, "registration", f"there is no hook {name}; {hint or 'it is never called'}")
        guarded = self._guarded(plugin, module)
        registered = self._attempt(plugin, "registration", lambda: self._register(plugin, guarded))
        if registered is None:
            return
        for architecture in self._collect(plugin, guarded, "nnkit_architectures", Architecture):
            self._adopt(plugin, architecture)
        plugin.checks = self._collect(plugin, guarded, "nnkit_checks", hookspecs.Check)
        plugin.formulas = self._collect(plugin, guarded, "nnkit_formulas", hookspecs.OperatorFormula)
        for exporter in self._collect(plugin, guarded, "nnkit_exporters", hookspecs.Exporter):
            self._adopt_exporter(plugin, exporter)

    def _register(self, plugin: Plugin, guarded: ModuleType) -> str | None:
        """Register hookimpls; what pluggy warns of them, by `warn_on_impl` of a hookspec, is kept."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            registered = self._hooks.register(guarded, plugin.name)
        self.deprecations += [
            Deprecation(plugin.name, plugin.distribution, str(each.message)) for each in caught
        ]
        return registered

    def _unknown_hooks(self, module: ModuleType) -> list[str]:
        return [
            name
            for name, value in vars(module).items()
            if callable(value) and hasattr(value, "nnkit_impl") and not hasattr(hookspecs, name)
        ]

    def _guarded(self, plugin: Plugin, module: ModuleType) -> ModuleType:
        """Return the plugin's hookimpls, each kept from harming another plugin's architectures."""
        guarded = ModuleType(plugin.name)
        for name, impl in vars(module).items():
            if hasattr(impl, "nnkit_impl"):
                serves = name in hookspecs.HOOK_OF_VERB.values() and not impl.nnkit_impl["wrapper"]
                setattr(guarded, name, self._guard(plugin, name, impl) if serves else impl)
        return guarded

    def _guard(self, plugin: Plugin, hook: str, impl: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(impl)
        def guarded(request: Any) -> Any:
            try:
                return impl(request)
            except NnkitError:
                raise
            except Exception as error:
                self._fail(plugin, hook, f"{type(error).__name__}: {error}", traceback.format_exc())
                if request.spec.plugin == plugin.name:
                    raise PluginProblem(
                        str(self.failures[-1]), "see the traceback: repeat with -v"
                    ) from error
                return None

        guarded.nnkit_impl = impl.nnkit_impl  # type: ignore[attr-defined]
        return guarded

    def _collect(self, plugin: Plugin, module: Any, hook: str, kind: type) -> list[Any]:
        if not hasattr(module, hook):
            return []
        found = self._attempt(plugin, hook, lambda: list(getattr(module, hook)()))
        wrong = [each for each in found or [] if not isinstance(each, kind)]
        for each in wrong:
            self._fail(plugin, hook, f"returned {each!r}, which is no {kind.__name__}")
        return [each for each in found or [] if isinstance(each, kind)]

    def _adopt(self, plugin: Plugin, architecture: Architecture) -> None:
        problem = _declaration_problem(architecture)
        if architecture.name in plugin.architectures:
            problem = "it is declared twice"
        if problem:
            self._fail(plugin, "registration", f"architecture {architecture.name!r}: {problem}")
        else:
            plugin.architectures[architecture.name] = architecture

    def _adopt_exporter(self, plugin: Plugin, exporter: hookspecs.Exporter) -> None:
        taken = {*hookspecs.CORE_FORMATS, *(each.name for each in self.exporters())}
        if not NAME.fullmatch(exporter.name) or not exporter.suffix.startswith("."):
            problem = "a name is lower-case words joined by hyphens, and a suffix starts with a dot"
            self._fail(plugin, "registration", f"format {exporter.name!r}: {problem}")
        elif exporter.name in taken:
            self._fail(plugin, "registration", f"there is a format {exporter.name!r} already")
        else:
            plugin.exporters.append(exporter)

    def _attempt(self, plugin: Plugin, stage: str, action: Callable[[], Any]) -> Any:
        """Return what `action` returns; where it raises, record the failure and return None."""
        try:
            return action()
        except (Exception, SystemExit) as error:
            message = f"{type(error).__name__}: {error}".splitlines()[0]
            self._fail(plugin, stage, message, traceback.format_exc())
            return None

    def _fail(self, plugin: Plugin, stage: str, message: str, trace: str = "") -> None:
        self.failures.append(Failure(plugin.name, plugin.distribution, stage, message, trace))


def _is_wrapper(impl: pluggy.HookImpl) -> bool:
    return impl.wrapper or impl.hookwrapper


def plugin_commands() -> list[tuple[str, str]]:
    """Return (name, distribution) of the commands that plugins add; none of them is loaded."""
    points = entry_points(group=COMMANDS_GROUP)
    return sorted((point.name, _distribution(point)[0]) for point in points)


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "")


def _api_problem(version: object) -> str:
    """Say why a plugin written for API `version` can't be used, or return an empty string."""
    core = tuple(int(part) for part in hookspecs.PLUGIN_API.split("."))
    if version is None:
        return f'it states no API version; add NNKIT_PLUGIN_API = "{hookspecs.PLUGIN_API}" to its module'
    try:
        major, minor = (int(part) for part in str(version).split("."))
    except ValueError:
        return f"NNKIT_PLUGIN_API is {version!r}, not a version like {hookspecs.PLUGIN_API!r}"
    if (major, minor) > core:
        return f"it needs plugin API {version}, this nnkit has {hookspecs.PLUGIN_API}; upgrade nnkit"
    if major < core[0]:
        return f"it is for plugin API {version}, this nnkit has {hookspecs.PLUGIN_API}; upgrade the plugin"
    return ""


def _declaration_problem(architecture: Architecture) -> str:
    """Say what is wrong with a declaration, or return an empty string."""
    if not NAME.fullmatch(architecture.name):
        return "a name is lower-case words joined by hyphens"
    try:
        names = [option.name for option in options_of(architecture.config)]
    except Exception as error:
        return f"{error}"
    for name in [*names, *architecture.dims]:
        if name in RESERVED:
            return f"option {name!r} would hide the core option --{name.replace('_', '-')}; rename it"
    if both := set(names) & set(architecture.dims):
        return f"{both.pop()!r} is both a config field and a dim"
    if strange := set(architecture.handlers) - set(VERBS):
        return f"{strange.pop()!r} is no verb; the verbs are {', '.join(VERBS)}"
    return ""
