"""Discovery of plugins, each in its own isolation: import, API check, registration, hook call.

Whatever a plugin does wrong is recorded as a Failure, with its stage, its distribution and a way out,
and everything else goes on working. Torch-free.
"""

import functools
import inspect
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, TextIO

import pluggy

from nnkit.contract import hooks, requests
from nnkit.contract.architecture import NAME, VERBS, Architecture, bounded
from nnkit.contract.declarations import api_problem, declaration_problem
from nnkit.contract.spec import ModelSpec
from nnkit.contract.visible import brief
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, did_you_mean, first_line
from nnkit.host.configuration import Configuration
from nnkit.host.discovery import Damaged, Installed, installed_points, with_distributions
from nnkit.host.isolation import (
    Guard,
    SharedMembers,
    guarded_hook,
    guarded_wrapper,
    heavy_modules,
    shared_members,
)

GROUP = "nnkit"
COMMANDS_GROUP = "nnkit.commands"
PLUGIN_NAME = re.compile(r"[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*")
COLLECTING = ("nnkit_architectures", "nnkit_checks", "nnkit_formulas", "nnkit_exporters", "nnkit_executors")


@dataclass(frozen=True)
class Failure:
    """What went wrong with a plugin: at which stage, in one line and in full, and the way out.

    harmless: the plugin works all the same.
    """

    plugin: str
    distribution: str
    stage: str
    message: str
    hint: str = ""
    traceback: str = ""
    harmless: bool = False

    def __str__(self) -> str:
        return f"plugin {self.plugin} ({self.distribution}) {self.verb} at {self.stage}: {self.message}"

    @property
    def verb(self) -> str:
        """The word for it: a plugin that failed, or that misbehaves and works."""
        return "misbehaves" if self.harmless else "failed"

    @property
    def line(self) -> str:
        """All that a user needs, in one line."""
        return f"{self}; {self.hint}" if self.hint else str(self)


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
    """An installed plugin and what became of it.

    seconds: what importing it took. heavy: the heavy modules that came with it.
    """

    name: str
    distribution: str
    version: str
    module: str
    enabled: bool = True
    seconds: float = 0.0
    heavy: tuple[str, ...] = ()
    architectures: dict[str, Architecture] = field(default_factory=dict)
    checks: list[requests.Check] = field(default_factory=list)
    formulas: list[requests.OperatorFormula] = field(default_factory=list)
    exporters: list[requests.Exporter] = field(default_factory=list)
    executors: list[requests.Executor] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """All that it goes by in settings: its name, its distribution, and its entry point's name."""
        return self.name, self.distribution, self.name.rpartition(":")[2]


class PluginManager:
    """Knows the installed plugins, their architectures and hooks.

    points: the entry points to look at, by default those installed in the group `nnkit`.
    configuration: which of them to load, and which of two has a name.
    core: objects with nnkit's own hookimpls, by name, registered after the plugins.
    """

    def __init__(
        self,
        points: Iterable[EntryPoint] | None = None,
        configuration: Configuration | None = None,
        core: Mapping[str, object] | None = None,
    ) -> None:
        self.plugins: dict[str, Plugin] = {}
        self.failures: list[Failure] = []
        self.deprecations: list[Deprecation] = []
        self.configuration = configuration or Configuration()
        self._tell: Callable[[Failure], None] = _tell_nobody
        self._diverted = False
        self._hooks = pluggy.PluginManager("nnkit")
        self._hooks.add_hookspecs(hooks)
        self._load_all(*(installed_points(GROUP) if points is None else with_distributions(points)))
        for name, handlers in (core or {}).items():
            self._hooks.register(handlers, name)

    @property
    def hook(self) -> pluggy.HookRelay:
        """The run-time hooks, in their order: the architecture's own, plugins', core's."""
        return self._hooks.hook

    def tell_failures(self, tell: Callable[[Failure], None]) -> None:
        """Call `tell` with each failure that there is, and then with each that comes."""
        for failure in self.failures:
            tell(failure)
        self._tell = tell

    def divert_prints(self) -> None:
        """From now on, let what is printed while a hook is called go to stderr: stdout is for reports."""
        if self._diverted:
            return
        self._diverted = True
        diversions: list[redirect_stdout[TextIO]] = []  # a hook may call another

        def before(*call: object) -> None:
            diversions.append(redirect_stdout(sys.stderr))
            diversions[-1].__enter__()

        def after(*call: object) -> None:
            diversions.pop().__exit__(None, None, None)

        self._hooks.add_hookcall_monitoring(before, after)

    def owner(self, plugin: str) -> str:
        """Return a plugin with its distribution, as it is told: `plugin vision (nnkit)`."""
        known = self.plugins.get(plugin)
        return f"plugin {plugin} ({known.distribution})" if known else f"plugin {plugin}"

    def architectures(self) -> dict[str, Architecture]:
        """Return every architecture by its qualified name, in the order of plugins and declarations."""
        return {
            f"{plugin.name}/{name}": architecture
            for plugin in self.plugins.values()
            for name, architecture in plugin.architectures.items()
        }

    def checks(self) -> list[requests.Check]:
        """Return the smoke checks that plugins add."""
        return [check for plugin in self.plugins.values() for check in plugin.checks]

    def formulas(self) -> list[requests.OperatorFormula]:
        """Return how plugins count operators of their own."""
        return [formula for plugin in self.plugins.values() for formula in plugin.formulas]

    def exporters(self) -> list[requests.Exporter]:
        """Return the formats that plugins add."""
        return [exporter for plugin in self.plugins.values() for exporter in plugin.exporters]

    def executors(self) -> list[requests.Executor]:
        """Return the executors that plugins add."""
        return [executor for plugin in self.plugins.values() for executor in plugin.executors]

    def find(self, name: str) -> tuple[str, Architecture]:
        """Return (plugin name, architecture) for `resnet18` or `vision/resnet18`.

        A short name that several plugins declare is that of the one which is preferred. Raises
        UsageProblem for a name that nobody declares, or several do and none is preferred; PluginProblem
        when the plugin that it names is broken or switched off.
        """
        everything = self.architectures()
        short = name.rpartition("/")[2]
        matches = [
            full for full in everything if full == name or ("/" not in name and full.endswith(f"/{short}"))
        ]
        if len(matches) > 1:
            matches = self._preferred(matches) or matches
        if len(matches) == 1:
            return matches[0].rpartition("/")[0], everything[matches[0]]
        if matches:
            example = f'prefer = ["{sorted(matches)[0].rpartition("/")[0]}"]'
            raise UsageProblem(
                f"{name!r} is declared by more than one plugin",
                f"say which: {' or '.join(sorted(matches))}; or prefer one in nnkit.toml: {example}",
            )
        raise self._not_found(name, everything)

    def _preferred(self, matches: list[str]) -> list[str]:
        """Return the one of several qualified names whose plugin is preferred, if any is."""
        for preferred in self.configuration.prefer:
            for match in matches:
                if preferred in self.plugins[match.rpartition("/")[0]].names:
                    return [match]
        return []

    def _not_found(self, name: str, everything: Mapping[str, Architecture]) -> NnkitError:
        plugin = name.partition("/")[0] if "/" in name else ""
        for failure in self.failures:
            if plugin in (failure.plugin, failure.distribution) and not failure.harmless:
                return PluginProblem(str(failure), f"{failure.hint}; its traceback: nnkit plugins -v")
        if plugin in self.plugins and not self.plugins[plugin].enabled:
            return PluginProblem(f"plugin {plugin} is switched off", self._why_off())
        short_names = {full.rpartition("/")[2] for full in everything}
        hint = did_you_mean(name, {*short_names, *everything}) or "see what there is: nnkit list"
        if self.failures:
            hint += f" ({len(self.failures)} plugin failure(s): nnkit plugins)"
        return UsageProblem(f"unknown architecture {name!r}", hint)

    def _why_off(self) -> str:
        places = [self.configuration.source(name).place for name in ("plugins", "disable_plugins")]
        return f"look at {' and '.join(filter(None, places))}; see: nnkit config"

    def unknown_names(self) -> list[str]:
        """Say which names in the settings no installed plugin has, a line each."""
        names = {name for plugin in self.plugins.values() for name in plugin.names}
        return [
            f"{self.configuration.source(setting).place}: no plugin {name!r} is installed; "
            f"{did_you_mean(name, names) or 'see the names: nnkit plugins'}"
            for setting in ("plugins", "disable_plugins", "prefer")
            for name in getattr(self.configuration, setting) or ()
            if name not in names
        ]

    def handlers(self, spec: ModelSpec) -> dict[str, str]:
        """Return, for each verb, who is first in line to serve `spec`, with the wrappers around it."""
        found: dict[str, str] = {}
        for verb in VERBS:
            impls = getattr(self.hook, hooks.HOOK_OF_VERB[verb]).get_hookimpls()
            own = spec.architecture.handlers.get(verb)
            plugins = [each.plugin_name for each in reversed(impls) if not _is_wrapper(each)]
            serving = [name for name in plugins if name != "architecture"]
            words = own or ", else ".join(serving)
            wrappers = [each.plugin_name for each in reversed(impls) if _is_wrapper(each)]
            found[verb] = words + (f" (wrapped by {', '.join(wrappers)})" if wrappers else "")
        return found

    # Loading, plugin by plugin

    def _load_all(self, found: Iterable[Installed], damaged: Iterable[Damaged]) -> None:
        for distribution in damaged:
            self._record_damaged(distribution)
        shared = shared_members()
        owners: dict[str, set[str]] = {}
        for each in found:
            owners.setdefault(each.point.name, set()).add(each.distribution)
        for each in sorted(found, key=lambda each: (each.distribution, each.point.name)):
            point = each.point
            # Two distributions may use one name: then neither takes it, both are called by distribution.
            name = point.name if len(owners[point.name]) == 1 else f"{each.distribution}:{point.name}"
            plugin = Plugin(name, each.distribution, each.version, point.value)
            plugin.enabled = self.configuration.loads(*plugin.names)
            first = self.plugins.setdefault(name, plugin)
            if not plugin.enabled:
                continue
            if first is not plugin:
                problem = f"{name!r} is {first.module} already, {point.value} is left out"
                self._fail(plugin, "discovery", problem)
            elif not PLUGIN_NAME.fullmatch(point.name):
                self._fail(plugin, "discovery", "a plugin's name has letters, digits, '-', '_', '.' alone")
            else:
                self._load_guarded(plugin, point, shared)

    def _record_damaged(self, damaged: Damaged) -> None:
        """Record a distribution that can't be read, unless the user has left its plugin out."""
        folder = damaged.folder.rpartition("/")[2]
        if damaged.plugin and not self.configuration.loads(damaged.plugin, folder):
            return
        message = f"its metadata is damaged: {damaged.message}"
        self._record(Failure(damaged.plugin or folder, folder, "discovery", message, damaged.hint))

    def _load_guarded(self, plugin: Plugin, point: EntryPoint, shared: SharedMembers) -> None:
        """Load a plugin; what it prints or replaces meanwhile is kept from others, and is a failure too."""
        guard = Guard(shared)
        with guard:
            # What is no module, or has a name that isn't text, may fail anywhere.
            self._attempt(plugin, "registration", functools.partial(self._load, plugin, point))
        if guard.printed.strip():
            problem = f"it prints to stdout, which is for results: {first_line(guard.printed)!r}"
            self._fail(plugin, "loading", problem, harmless=True)
        if guard.replaced:
            problem = f"it replaces {', '.join(guard.replaced)}, which was put back"
            self._fail(plugin, "loading", problem, harmless=True)

    def _load(self, plugin: Plugin, point: EntryPoint) -> None:
        before, start = heavy_modules(), time.perf_counter()
        module = self._attempt(plugin, "import", point.load)
        plugin.seconds = time.perf_counter() - start
        plugin.heavy = tuple(sorted(heavy_modules() - before))
        if module is None:
            return
        problem, behind = api_problem(getattr(module, "NNKIT_PLUGIN_API", None))
        if problem:
            self._fail(plugin, "API check", problem, _way_out(plugin, behind))
            return
        for name in self._unknown_hooks(module):
            hint = did_you_mean(name, [*hooks.HOOK_OF_VERB.values(), *COLLECTING])
            problem = f"there is no hook {name}; {hint or 'it is never called'}"
            self._fail(plugin, "registration", problem, harmless=True)
        guarded = self._guarded(plugin, module)
        registered = self._attempt(plugin, "registration", lambda: self._register(plugin, guarded))
        if registered is None:
            return
        for architecture in self._collect(plugin, guarded, "nnkit_architectures", Architecture):
            self._attempt(plugin, "registration", functools.partial(self._adopt, plugin, architecture))
        plugin.checks = self._collect(plugin, guarded, "nnkit_checks", requests.Check)
        plugin.formulas = self._collect(plugin, guarded, "nnkit_formulas", requests.OperatorFormula)
        for exporter in self._collect(plugin, guarded, "nnkit_exporters", requests.Exporter):
            self._adopt_exporter(plugin, exporter)
        for executor in self._collect(plugin, guarded, "nnkit_executors", requests.Executor):
            self._adopt_executor(plugin, executor)

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
            if callable(value) and hasattr(value, "nnkit_impl") and not hasattr(hooks, name)
        ]

    def _guarded(self, plugin: Plugin, module: ModuleType) -> ModuleType:
        """Return the plugin's hookimpls, each kept from harming another plugin's architectures."""
        guarded = ModuleType(plugin.name)
        for name, impl in vars(module).items():
            options = self._hooks.parse_hookimpl_opts(module, name)
            if options is None:
                continue
            if name not in hooks.HOOK_OF_VERB.values():
                setattr(guarded, name, impl)
            elif "request" in inspect.signature(impl).parameters:
                setattr(guarded, name, self._guarded_verb(plugin, name, impl, options))
            else:
                self._fail(plugin, "registration", f"{name} takes one argument, 'request'")
        return guarded

    def _guarded_verb(
        self, plugin: Plugin, name: str, impl: Callable[..., Any], options: pluggy.HookimplOpts
    ) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(impl) and options["wrapper"]:
            return guarded_wrapper(impl, functools.partial(self._wrapper_failed, plugin, name))
        if not options["wrapper"] and not options["hookwrapper"]:
            return guarded_hook(impl, functools.partial(self._hook_failed, plugin, name))
        return impl

    def _wrapper_failed(self, plugin: Plugin, hook: str, error: BaseException) -> None:
        self._record(self._failure(plugin, hook, error))

    def _hook_failed(self, plugin: Plugin, hook: str, request: Any, error: BaseException) -> None:
        """Record that a hook failed; raises where it was to serve an architecture of its own plugin."""
        failure = self._failure(plugin, hook, error)
        self.failures.append(failure)
        if request.spec.plugin == plugin.name:
            raise PluginProblem(str(failure), f"{failure.hint}; its traceback: repeat with -v") from error
        self._tell(failure)

    def _collect(self, plugin: Plugin, module: Any, hook: str, kind: type) -> list[Any]:
        if not hasattr(module, hook):
            return []
        found = self._attempt(plugin, hook, lambda: bounded(getattr(module, hook)(), hook))
        wrong = [each for each in found or [] if not isinstance(each, kind)]
        for each in wrong:
            self._fail(plugin, hook, f"returned {brief(each)}, which is no {kind.__name__}")
        return [each for each in found or [] if isinstance(each, kind)]

    def _adopt(self, plugin: Plugin, architecture: Architecture) -> None:
        problem = declaration_problem(architecture)
        if architecture.name in plugin.architectures:
            problem = "it is declared twice"
        if problem:
            self._fail(plugin, "registration", f"architecture {architecture.name!r}: {problem}")
        else:
            plugin.architectures[architecture.name] = architecture

    def _adopt_exporter(self, plugin: Plugin, exporter: requests.Exporter) -> None:
        taken = {*requests.CORE_FORMATS, *(each.name for each in self.exporters())}
        if not NAME.fullmatch(exporter.name) or not exporter.suffix.startswith("."):
            problem = "a name is lower-case words joined by hyphens, and a suffix starts with a dot"
            self._fail(plugin, "registration", f"format {exporter.name!r}: {problem}")
        elif exporter.name in taken:
            self._fail(plugin, "registration", f"there is a format {exporter.name!r} already")
        else:
            plugin.exporters.append(exporter)

    def _adopt_executor(self, plugin: Plugin, executor: requests.Executor) -> None:
        taken = {requests.CORE_EXECUTOR, *(each.name for each in self.executors())}
        if not NAME.fullmatch(executor.name):
            problem = "a name is lower-case words joined by hyphens"
            self._fail(plugin, "registration", f"executor {executor.name!r}: {problem}")
        elif executor.name in taken:
            self._fail(plugin, "registration", f"there is an executor {executor.name!r} already")
        else:
            plugin.executors.append(executor)

    def _attempt(self, plugin: Plugin, stage: str, action: Callable[[], Any]) -> Any:
        """Return what `action` returns; where it raises, record the failure and return None."""
        try:
            return action()
        except KeyboardInterrupt:  # the user's own, as far as anybody can tell
            raise
        except BaseException as error:
            self._record(self._failure(plugin, stage, error))
            return None

    def _failure(self, plugin: Plugin, stage: str, error: BaseException) -> Failure:
        """Return the failure that an error stands for; called where it is handled."""
        return Failure(
            plugin.name, plugin.distribution, stage, _said(error), _way_out(plugin), traceback.format_exc()
        )

    def _fail(self, plugin: Plugin, stage: str, message: str, hint: str = "", harmless: bool = False) -> None:
        hint = hint or _way_out(plugin)
        self._record(Failure(plugin.name, plugin.distribution, stage, message, hint, harmless=harmless))

    def _record(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._tell(failure)


def _tell_nobody(failure: Failure) -> None:
    """Keep it for those who ask."""


def _said(error: BaseException) -> str:
    """Return the kind of an error, and the first line of what it says."""
    try:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    except Exception:  # an error that can't even say what it is
        return type(error).__name__


def _way_out(plugin: Plugin, behind: str = "") -> str:
    """Return what a user can do; `behind` is the distribution to upgrade, the plugin's where not given."""
    name = plugin.name if " " not in plugin.name else plugin.distribution
    upgrade = f"pip install --upgrade {behind or plugin.distribution}"
    return f"{upgrade}, or leave the plugin out: NNKIT_DISABLE_PLUGINS={name}"


def _is_wrapper(impl: pluggy.HookImpl) -> bool:
    return impl.wrapper or impl.hookwrapper


def plugin_commands() -> list[tuple[str, str]]:
    """Return (name, distribution) of the commands that plugins add; none of them is loaded."""
    found, _ = installed_points(COMMANDS_GROUP)
    return sorted((each.point.name, each.distribution) for each in found)
