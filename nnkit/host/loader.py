"""Loads plugins, each in isolation: import, API check, registration, collecting hooks. Torch-free.

Whatever a plugin does wrong is recorded as a Failure, with its stage, its distribution and a way out, and
all else goes on.
"""

import functools
import inspect
import re
import time
import warnings
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import pluggy

from nnkit.contract import hooks
from nnkit.contract.api_version import api_problem
from nnkit.contract.architecture import NAME, Architecture, bounded
from nnkit.contract.contributions import (
    CORE_EXECUTOR,
    CORE_FORMATS,
    CORE_PICTURES,
    Check,
    Executor,
    Exporter,
    OperatorFormula,
    Picture,
)
from nnkit.contract.namespace import Namespace, namespace_problem
from nnkit.contract.visible import brief
from nnkit.errors import PluginProblem, did_you_mean
from nnkit.host.discovery import Damaged, Installed
from nnkit.host.isolation import (
    Guard,
    SharedMembers,
    guarded_hook,
    guarded_wrapper,
    heavy_modules,
    shared_members,
)
from nnkit.host.plugins import Deprecation, Failure, Plugin
from nnkit.host.registry import PluginRegistry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from nnkit.host.entry_points import Point

HOOKABLE: tuple[Any, ...] = (FunctionType, MethodType, staticmethod, classmethod)
PLUGIN_NAME = re.compile(r"[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*")

T = TypeVar("T")
Contribution = TypeVar("Contribution", Architecture, Namespace, Exporter, Executor, Picture)


class _Outcome(Enum):
    FAILED = "failed"


FAILED: TypeAlias = Literal[_Outcome.FAILED]


class PluginLoader:
    """Fills a registry with plugins."""

    def __init__(self, registry: PluginRegistry) -> None:
        self.registry = registry
        self._shared: SharedMembers = shared_members()
        self._names: frozenset[str] = frozenset()  # of all plugins, those not loaded yet too

    def load(self, installed: Collection[Installed], damaged: Iterable[Damaged]) -> None:
        """Load every installed plugin that the settings let in, and record what can't be read."""
        for distribution in damaged:
            self._record_damaged(distribution)
        owners: dict[str, set[str]] = {}
        for candidate in installed:
            owners.setdefault(candidate.point.name, set()).add(candidate.distribution)
        self._names = frozenset(owners)
        for candidate in sorted(installed, key=_distribution_and_name):
            point = candidate.point
            # If two distributions use one name, neither gets it: each is called by its distribution.
            is_unique = len(owners[point.name]) == 1
            name = point.name if is_unique else f"{candidate.distribution}:{point.name}"
            plugin = Plugin(name, candidate.distribution, candidate.version, point.value)
            self._load_if_enabled(plugin, point)

    def _record_damaged(self, damaged: Damaged) -> None:
        """Record a distribution that can't be read, unless the settings leave its plugin out."""
        folder = PurePath(damaged.folder).name
        if damaged.plugin and not self.registry.configuration.loads(damaged.plugin, folder):
            return
        message = f"its metadata is damaged: {damaged.message}"
        self._record(Failure(damaged.plugin or folder, folder, "discovery", message, damaged.hint))

    def _load_if_enabled(self, plugin: Plugin, point: "EntryPoint | Point") -> None:
        plugin.enabled = self.registry.configuration.loads(*plugin.names)
        first = self.registry.plugins.setdefault(plugin.name, plugin)
        if not plugin.enabled:
            return
        if first is not plugin:
            problem = f"{plugin.name!r} is already {first.module}; {point.value} is left out"
            self._fail(plugin, "discovery", problem)
        elif not PLUGIN_NAME.fullmatch(point.name):
            self._fail(plugin, "discovery", "a plugin's name has only letters, digits, '-', '_' and '.'")
        else:
            self._load_guarded(plugin, point)

    def _load_guarded(self, plugin: Plugin, point: "EntryPoint | Point") -> None:
        """Load a plugin; whatever it prints or replaces is undone, and recorded too."""
        guard = Guard(self._shared)
        with guard:
            # An entry point may name anything, so any step may raise, even the look at its attributes.
            self._attempt(plugin, "registration", lambda: self._load(plugin, point))
        for fault in guard.faults():
            self._fail(plugin, "loading", fault, harmless=True)

    def _load(self, plugin: Plugin, point: "EntryPoint | Point") -> None:
        before, start = heavy_modules(), time.perf_counter()
        module = self._attempt(plugin, "import", point.load)
        plugin.seconds = time.perf_counter() - start
        plugin.heavy = tuple(sorted(heavy_modules() - before))
        if module is _Outcome.FAILED:
            return
        api = getattr(module, "NNKIT_PLUGIN_API", None)
        problem, behind = api_problem(api)
        if problem:
            self._fail(plugin, "API check", problem, plugin.way_out(behind))
            return
        for name in _unknown_hooks(module):
            hint = did_you_mean(name, [*hooks.HOOK_OF_VERB.values(), *hooks.COLLECTING_HOOKS])
            problem = f"unknown hook {name}; {hint or 'it is never called'}"
            self._fail(plugin, "registration", problem, harmless=True)
        guarded = self._guard_hooks(plugin, module)
        if self._attempt(plugin, "registration", lambda: self._register(plugin, guarded)) is _Outcome.FAILED:
            return
        self._collect_all(plugin, guarded, str(api))

    # Hooks

    def _register(self, plugin: Plugin, guarded: ModuleType) -> None:
        """Register hookimpls, and keep pluggy's warnings about deprecated ones."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.registry.hook_manager.register(guarded, plugin.name)
        self.registry.deprecations += [
            Deprecation(plugin.name, plugin.distribution, str(warning.message)) for warning in caught
        ]

    def _guard_hooks(self, plugin: Plugin, module: ModuleType) -> ModuleType:
        """Return the plugin's hookimpls, each of them kept from harming other plugins' architectures."""
        guarded = ModuleType(plugin.name)
        for name, impl in vars(module).items():
            if not isinstance(impl, HOOKABLE):  # pluggy looks at each name far more closely
                continue
            options = self.registry.hook_manager.parse_hookimpl_opts(module, name)
            if options is None:
                continue
            if name not in hooks.HOOK_OF_VERB.values():
                setattr(guarded, name, impl)
            elif "request" in inspect.signature(impl).parameters:
                setattr(guarded, name, self._guard_run_time_hook(plugin, name, impl, options))
            else:
                self._fail(plugin, "registration", f"{name} takes one argument, 'request'")
        return guarded

    def _guard_run_time_hook(
        self, plugin: Plugin, name: str, impl: Callable[..., Any], options: pluggy.HookimplOpts
    ) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(impl) and options["wrapper"]:
            return guarded_wrapper(impl, functools.partial(self._record_error, plugin, name))
        if not options["wrapper"] and not options["hookwrapper"]:
            return guarded_hook(impl, functools.partial(self._hook_failed, plugin, name))
        return impl

    def _hook_failed(self, plugin: Plugin, hook: str, request: Any, error: BaseException) -> None:
        """Record that a hook failed; raises if it failed on an architecture of its own plugin."""
        failure = Failure.from_error(plugin, hook, error)
        if request.spec.plugin == plugin.name:
            self.registry.log.add_silently(failure)
            raise PluginProblem(str(failure), f"{failure.hint}; its traceback: repeat with -v") from error
        self._record(failure)

    # What collecting hooks return

    def _collect_all(self, plugin: Plugin, module: ModuleType, api: str) -> None:
        plugin.api = api
        find_problem = functools.partial(_architecture_problem, api=api)
        for architecture in self._collect(plugin, module, "nnkit_architectures", Architecture):
            if self._accepts(plugin, "architecture", architecture, find_problem, plugin.architectures):
                plugin.architectures[architecture.name] = architecture
                if architecture.awaits_config:
                    plugin.unchecked.add(architecture.name)
        for namespace in self._collect(plugin, module, "nnkit_namespaces", Namespace):
            prefixes = {*self.registry.namespaces(), *(self._names - {plugin.name})}
            if self._accepts(plugin, "namespace", namespace, namespace_problem, prefixes):
                plugin.namespaces[namespace.prefix] = namespace
        plugin.checks = self._collect(plugin, module, "nnkit_checks", Check)
        plugin.formulas = self._collect(plugin, module, "nnkit_formulas", OperatorFormula)
        for exporter in self._collect(plugin, module, "nnkit_exporters", Exporter):
            formats = {*CORE_FORMATS, *(known.name for known in self.registry.exporters())}
            if self._accepts(plugin, "format", exporter, _exporter_problem, formats):
                plugin.exporters.append(exporter)
        for picture in self._collect(plugin, module, "nnkit_pictures", Picture):
            known = self.registry.pictures()
            names = {*CORE_PICTURES, *(each.name for each in known)}
            suffixes = {*CORE_PICTURES.values(), *(each.suffix for each in known)}
            find_problem_of = functools.partial(_picture_problem, suffixes=suffixes)
            if self._accepts(plugin, "picture", picture, find_problem_of, names):
                plugin.pictures.append(picture)
        for executor in self._collect(plugin, module, "nnkit_executors", Executor):
            executors = {CORE_EXECUTOR, *(known.name for known in self.registry.executors())}
            if self._accepts(plugin, "executor", executor, _executor_problem, executors):
                plugin.executors.append(executor)

    def _collect(self, plugin: Plugin, module: ModuleType, hook: str, kind: type[T]) -> list[T]:
        """Return what a hook returns, without the things of another type, which are recorded."""
        if not hasattr(module, hook):
            return []
        things = self._attempt(plugin, hook, lambda: bounded(getattr(module, hook)(), hook))
        if things is _Outcome.FAILED:
            return []
        for thing in things:
            if not isinstance(thing, kind):
                self._fail(plugin, hook, f"returned {brief(thing)}; expected {kind.__name__}")
        return [thing for thing in things if isinstance(thing, kind)]

    def _accepts(
        self,
        plugin: Plugin,
        kind: str,
        contribution: Contribution,
        find_problem: Callable[[Contribution], str],
        taken: Collection[str],
    ) -> bool:
        """Whether something that a plugin adds can be used; if not, the reason is recorded."""
        problem = self._attempt(plugin, "registration", lambda: find_problem(contribution))
        if problem is _Outcome.FAILED:
            return False
        if contribution.name in taken:
            problem = "the name is already taken"
        if problem:
            self._fail(plugin, "registration", f"{kind} {contribution.name!r}: {problem}")
        return not problem

    # Failures

    def _attempt(self, plugin: Plugin, stage: str, action: Callable[[], T]) -> T | FAILED:
        """Return what `action` returns; if it raises, record the failure and return FAILED."""
        try:
            return action()
        except KeyboardInterrupt:  # from the user, as far as can be known
            raise
        except BaseException as error:
            self._record_error(plugin, stage, error)
            return _Outcome.FAILED

    def _record_error(self, plugin: Plugin, stage: str, error: BaseException) -> None:
        self._record(Failure.from_error(plugin, stage, error))

    def _fail(self, plugin: Plugin, stage: str, message: str, hint: str = "", harmless: bool = False) -> None:
        hint = hint or plugin.way_out()
        self._record(Failure(plugin.name, plugin.distribution, stage, message, hint, harmless=harmless))

    def _record(self, failure: Failure) -> None:
        self.registry.log.record(failure)


def _distribution_and_name(installed: Installed) -> tuple[str, str]:
    return installed.distribution, installed.point.name


def _unknown_hooks(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and hasattr(value, "nnkit_impl") and not hasattr(hooks, name)
    ]


def _architecture_problem(architecture: Architecture, api: str) -> str:
    """Return what is wrong with an architecture; what its config must be imported for is found later."""
    if architecture.awaits_config and NAME.fullmatch(architecture.name):
        return ""
    from nnkit.contract.declarations import declaration_problem

    return declaration_problem(architecture, api)


def _exporter_problem(exporter: Exporter) -> str:
    if not NAME.fullmatch(exporter.name) or not exporter.suffix.startswith("."):
        return "a name is lower-case words joined by hyphens, and a suffix starts with a dot"
    return ""


def _picture_problem(picture: Picture, suffixes: Collection[str]) -> str:
    if not NAME.fullmatch(picture.name) or not picture.suffix.startswith("."):
        return "a name is lower-case words joined by hyphens, and a suffix starts with a dot"
    return f"the suffix {picture.suffix} is already taken" if picture.suffix in suffixes else ""


def _executor_problem(executor: Executor) -> str:
    return "" if NAME.fullmatch(executor.name) else "a name is lower-case words joined by hyphens"
