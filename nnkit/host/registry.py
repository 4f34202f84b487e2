"""Looks up what the loaded plugins offer: architectures by name, formats, checks, hooks. Torch-free."""

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pluggy

from nnkit.contract import hooks
from nnkit.contract.architecture import VERBS, Architecture, QualifiedName
from nnkit.contract.contributions import Check, Executor, Exporter, OperatorFormula, Picture
from nnkit.contract.namespace import Namespace
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, ask_for, did_you_mean, first_line, nearest
from nnkit.host.cache import cache_folder
from nnkit.host.configuration import Configuration
from nnkit.host.isolation import Guard, shared_members
from nnkit.host.plugins import Deprecation, Failure, FailureLog, Plugin
from nnkit.host.zoo_index import installed_version, package_folder, read_names

if TYPE_CHECKING:
    from nnkit.contract.catalog import CatalogRow
    from nnkit.contract.spec import ModelSpec


class PluginRegistry:
    """The installed plugins and their hooks, as a PluginLoader has filled them in.

    Attributes:
        configuration: The settings: which plugins load, and which of two has a name.
        plugins: Every installed plugin by name, those that are switched off or failed too.
        deprecations: What plugins use that will be dropped.
        log: What went wrong.
        hook_manager: The hooks that plugins and core have registered.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.plugins: dict[str, Plugin] = {}
        self.deprecations: list[Deprecation] = []
        self.log = FailureLog()
        self.hook_manager = pluggy.PluginManager("nnkit")
        self.hook_manager.add_hookspecs(hooks)
        self._diverted = False
        self._catalogs: dict[str, Mapping[str, CatalogRow]] = {}
        self._families: dict[str, Mapping[str, str]] = {}
        self._members: dict[str, Architecture] = {}

    @property
    def failures(self) -> list[Failure]:
        """What went wrong so far."""
        return self.log.failures

    def report_failures_to(self, report: Callable[[Failure], None]) -> None:
        """Call `report` with each failure so far, and from now on with each new one."""
        self.log.report_to(report)

    # Hooks

    @property
    def hook(self) -> pluggy.HookRelay:
        """The run-time hooks; each calls the architecture's own handler, then plugins', then core's."""
        return self.hook_manager.hook

    def divert_prints(self) -> None:
        """From now on, send what a hook prints to stderr: stdout is for reports."""
        if self._diverted:
            return
        self._diverted = True
        diversions: list[redirect_stdout[TextIO]] = []  # a stack, because a hook may call another

        # pluggy calls one function before a hook and another after it, so no `with` can span the two.
        def divert(*call: object) -> None:
            diversions.append(redirect_stdout(sys.stderr))
            diversions[-1].__enter__()

        def restore(*call: object) -> None:
            diversions.pop().__exit__(None, None, None)

        self.hook_manager.add_hookcall_monitoring(divert, restore)

    def handlers(self, spec: "ModelSpec") -> dict[str, str]:
        """Return, for each verb, which handler serves `spec` first, with the wrappers around it."""
        descriptions: dict[str, str] = {}
        for verb in VERBS:
            impls = list(reversed(getattr(self.hook, hooks.HOOK_OF_VERB[verb]).get_hookimpls()))
            wrappers = [impl.plugin_name for impl in impls if _is_wrapper(impl)]
            serving = [impl.plugin_name for impl in impls if not _is_wrapper(impl)]
            serving = [name for name in serving if name != "architecture"]
            description = spec.architecture.handlers.get(verb) or ", else ".join(serving)
            if wrappers:
                description += f" (wrapped by {', '.join(wrappers)})"
            descriptions[verb] = description
        return descriptions

    # What plugins add

    def owner(self, plugin: str) -> str:
        """Return a plugin with its distribution, as messages name it: `plugin vision (nnkit)`."""
        known = self.plugins.get(plugin)
        return f"plugin {plugin} ({known.distribution})" if known else f"plugin {plugin}"

    def architectures(self) -> dict[str, Architecture]:
        """Return every architecture by its qualified name, in the order of plugins and declarations."""
        return {str(name): architecture for name, architecture in self._declared().items()}

    def checks(self) -> list[Check]:
        """Return the smoke checks that plugins add."""
        return [check for plugin in self.plugins.values() for check in plugin.checks]

    def formulas(self) -> list[OperatorFormula]:
        """Return the operators that plugins can count."""
        return [formula for plugin in self.plugins.values() for formula in plugin.formulas]

    def exporters(self) -> list[Exporter]:
        """Return the formats that plugins add."""
        return [exporter for plugin in self.plugins.values() for exporter in plugin.exporters]

    def pictures(self) -> list[Picture]:
        """Return the formats of pictures that plugins add."""
        return [picture for plugin in self.plugins.values() for picture in plugin.pictures]

    def executors(self) -> list[Executor]:
        """Return the executors that plugins add."""
        return [executor for plugin in self.plugins.values() for executor in plugin.executors]

    def namespaces(self) -> dict[str, Namespace]:
        """Return the zoos that plugins add, by prefix."""
        return {
            prefix: namespace
            for plugin in self.plugins.values()
            for prefix, namespace in plugin.namespaces.items()
        }

    def members(self, prefix: str) -> Mapping[str, str]:
        """Return the family of each architecture of a zoo, by name without the prefix.

        There are none if its package isn't installed, or its names can't be read, which is then recorded.
        """
        if prefix not in self._families:
            self._families[prefix] = self._read_members(prefix)
        return self._families[prefix]

    def _read_members(self, prefix: str) -> Mapping[str, str]:
        plugin = self._plugin_with(prefix)
        namespace = plugin.namespaces[prefix]
        folder = package_folder(namespace)
        if folder is None:
            return {}
        try:
            names = read_names(namespace, folder, self.cache)
        except (Exception, SystemExit) as error:
            self.log.record(Failure.from_error(plugin, _reading(prefix), error))
            return {}
        for fault in names.faults:
            where = (plugin.name, plugin.distribution, _reading(prefix))
            self.log.record(Failure(*where, fault, plugin.way_out(), harmless=True))
        return names.families

    def known_members(self, prefix: str) -> Mapping[str, str]:
        """Return the same; for a zoo that isn't installed, what the catalog knows of it."""
        if package_folder(self.namespaces()[prefix]) is not None:
            return self.members(prefix)
        return {name: row.family for name, row in self.catalog(prefix).items()}

    def require_members(self, prefix: str, wanted: str) -> Mapping[str, str]:
        """Return the same, for `wanted`; raises PluginProblem where there are none."""
        families = self.members(prefix)
        if families:
            return families
        plugin = self._plugin_with(prefix)
        namespace = plugin.namespaces[prefix]
        if package_folder(namespace) is None:
            hint = f"install it: {namespace.install}"
            raise PluginProblem(f"{wanted} needs the package {namespace.package}", hint)
        for failure in self.failures:
            if (failure.plugin, failure.stage) == (plugin.name, _reading(prefix)):
                raise PluginProblem(str(failure), f"{failure.hint}; its traceback: nnkit plugins -v")
        raise PluginProblem(f"{prefix}/ has no architectures", plugin.way_out())

    def _plugin_with(self, prefix: str) -> Plugin:
        return next(plugin for plugin in self.plugins.values() if prefix in plugin.namespaces)

    # Catalogs

    def catalog(self, prefix: str) -> Mapping[str, "CatalogRow"]:
        """Return what is known of the architectures of a zoo, or of a plugin, by name without the prefix.

        A row may be of another version than `version_of(prefix)`. Lines that can't be read are recorded.
        """
        if prefix not in self._catalogs:
            from nnkit.host.catalog import choose_rows, measured_file, shipped_file

            plugin = self.plugins.get(prefix) or self._plugin_with(prefix)
            shipped, measured = (
                self._read_catalog(plugin, prefix, path)
                for path in (shipped_file(plugin), measured_file(self.cache, prefix))
            )
            self._catalogs[prefix] = choose_rows(shipped, measured, self.version_of(prefix))
        return self._catalogs[prefix]

    def _read_catalog(self, plugin: Plugin, prefix: str, path: Path | None) -> Mapping[str, "CatalogRow"]:
        from nnkit.host.catalog import read_catalog

        catalog = read_catalog(path)
        if path and (problem := catalog.problem(path)):
            hint = f"measure what is missing: nnkit list --refresh {prefix}/"
            stage = f"catalog of {prefix}/"
            self.log.record(Failure(plugin.name, plugin.distribution, stage, problem, hint, harmless=True))
        return catalog.rows

    def version_of(self, prefix: str) -> str:
        """Return the installed version of a zoo, or of a plugin; empty if it isn't known."""
        namespace = self.namespaces().get(prefix)
        return installed_version(namespace) if namespace else self.plugins[prefix].version

    @property
    def cache(self) -> Path | None:
        """The user's cache folder, if there is to be one."""
        return cache_folder(self.configuration.cache)

    # Names

    def declares(self, name: str) -> bool:
        """Whether plugins declare a name, or a zoo has its prefix; the zoo may not know it."""
        return self.is_member(name) or any(
            name in (qualified.name, str(qualified)) for qualified in self._declared()
        )

    def is_member(self, name: str) -> bool:
        """Whether a name belongs to a zoo, without declaring it; its zoo may not know it."""
        prefix, slash, _ = name.partition("/")
        return bool(slash) and prefix in self.namespaces()

    def has_imported(self, name: str) -> bool:
        """Whether the zoo of a member is imported: if so, what fails is this member, and others may not."""
        prefix, _, _ = name.partition("/")
        return self.is_member(name) and self.namespaces()[prefix].package in sys.modules

    def find(self, name: str) -> tuple[str, Architecture]:
        """Return (plugin name, architecture) for `resnet18` or `vision/resnet18`.

        A short name that several plugins declare means the preferred one. Raises UsageProblem for a name
        that no plugin declares, or several declare and none is preferred; PluginProblem if the plugin that
        it names is broken or switched off.
        """
        declared = self._declared()
        matches = [qualified for qualified in declared if name in (qualified.name, str(qualified))]
        if not matches and self.is_member(name):
            return self._find_member(name)
        if not matches:
            raise self._not_found(name, declared)
        match = matches[0] if len(matches) == 1 else self._preferred(matches)
        if match is None:
            first, *_ = choices = sorted(matches)
            raise UsageProblem(
                f"{name!r} is declared by more than one plugin",
                f"type {' or '.join(map(str, choices))}; "
                f'or prefer one in nnkit.toml: prefer = ["{first.plugin}"]',
            )
        self._check(match)
        return match.plugin, declared[match]

    def _check(self, name: QualifiedName) -> None:
        """Check a declaration whose config had not been imported; raises PluginProblem if it is wrong."""
        plugin = self.plugins[name.plugin]
        if name.name not in plugin.unchecked:
            return
        problem = self._declaration_problem(plugin, plugin.architectures[name.name])
        if problem:
            raise PluginProblem(f"{name} is declared wrongly: {problem}", plugin.way_out())
        plugin.unchecked.remove(name.name)

    def _declaration_problem(self, plugin: Plugin, architecture: Architecture) -> str:
        """Return what is wrong with a declaration; the module of its config is imported under guard."""
        guard = Guard(shared_members())
        try:
            with guard:
                from nnkit.contract.declarations import declaration_problem

                return declaration_problem(architecture, plugin.api)
        except PluginProblem as problem:
            return problem.message
        except (Exception, SystemExit) as error:
            return f"{type(error).__name__}: {first_line(error)}"
        finally:
            for fault in guard.faults():
                where = (plugin.name, plugin.distribution, "loading")
                self.log.record(Failure(*where, fault, plugin.way_out(), harmless=True))

    def check_all(self) -> None:
        """Check every declaration; a wrong one is recorded, and its architecture dropped."""
        for plugin in self.plugins.values():
            for name in sorted(plugin.unchecked):
                problem = self._declaration_problem(plugin, plugin.architectures[name])
                if problem:
                    del plugin.architectures[name]
                    where = (plugin.name, plugin.distribution, "registration")
                    message = f"architecture {name!r}: {problem}"
                    self.log.record(Failure(*where, message, plugin.way_out()))
            plugin.unchecked.clear()

    def _find_member(self, name: str) -> tuple[str, Architecture]:
        """Return the architecture `timm/convnext_tiny`, which its zoo declares when it is first asked for."""
        prefix, _, member = name.partition("/")
        plugin = self._plugin_with(prefix)
        if name not in self._members:
            from nnkit.host.members import declare

            families = self.require_members(prefix, name)
            row = self.catalog(prefix).get(member)
            current = row if row and row.version == self.version_of(prefix) else None
            self._members[name] = declare(plugin.namespaces[prefix], member, families, current)
        return plugin.name, self._members[name]

    def _declared(self) -> dict[QualifiedName, Architecture]:
        return {
            QualifiedName(plugin.name, name): architecture
            for plugin in self.plugins.values()
            for name, architecture in plugin.architectures.items()
        }

    def _preferred(self, matches: list[QualifiedName]) -> QualifiedName | None:
        """Return the match whose plugin comes first among the preferred ones."""
        for preferred in self.configuration.prefer:
            for match in matches:
                if preferred in self.plugins[match.plugin].names:
                    return match
        return None

    def _not_found(self, name: str, declared: Mapping[QualifiedName, Architecture]) -> NnkitError:
        plugin = QualifiedName.parse(name).plugin
        for failure in self.failures:
            if plugin in (failure.plugin, failure.distribution) and not failure.harmless:
                return PluginProblem(str(failure), f"{failure.hint}; its traceback: nnkit plugins -v")
        if plugin in self.plugins and not self.plugins[plugin].enabled:
            return PluginProblem(f"plugin {plugin} is switched off", self._why_off())
        possibilities = {*(qualified.name for qualified in declared), *map(str, declared)}
        hint = self._suggestion(name, possibilities) or "see them all: nnkit list"
        if self.failures:
            hint += f" ({len(self.failures)} plugin failure(s): nnkit plugins)"
        return UsageProblem(f"unknown architecture {name!r}", hint)

    def _suggestion(self, name: str, possibilities: set[str]) -> str:
        """Return `did you mean …?`: that name in a zoo, or else one like it, if none is declared."""
        in_zoos: dict[str, list[str]] = {}
        for prefix in self.namespaces():
            for member in self.members(prefix):
                in_zoos.setdefault(member, []).append(f"{prefix}/{member}")
        if name in in_zoos:
            return ask_for(in_zoos[name])
        if near := nearest(name, possibilities):
            return ask_for(near)
        return ask_for(full_name for each in nearest(name, in_zoos) for full_name in in_zoos[each])

    def _why_off(self) -> str:
        places = [self.configuration.source(setting).place for setting in ("plugins", "disable_plugins")]
        return f"look at {' and '.join(filter(None, places))}; see: nnkit config"

    def unknown_names(self) -> list[str]:
        """Return a line for each name in the settings that no installed plugin has."""
        names = {name for plugin in self.plugins.values() for name in plugin.names}
        return [
            f"{self.configuration.source(setting).place}: no plugin {name!r} is installed; "
            f"{did_you_mean(name, names) or 'see the names: nnkit plugins'}"
            for setting in ("plugins", "disable_plugins", "prefer")
            for name in getattr(self.configuration, setting) or ()
            if name not in names
        ]


def _reading(prefix: str) -> str:
    """Return the stage of failures at reading the names of a zoo."""
    return f"names of {prefix}/"


def _is_wrapper(impl: pluggy.HookImpl) -> bool:
    return impl.wrapper or impl.hookwrapper
