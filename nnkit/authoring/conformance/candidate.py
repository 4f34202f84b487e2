"""What a check of the suite examines: an installed plugin, or one of its architectures. Torch-free."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from nnkit import api
from nnkit.contract.architecture import Architecture
from nnkit.contract.spec import ModelSpec, make_spec
from nnkit.host.plugin_manager import PluginManager
from nnkit.host.plugins import Plugin
from nnkit.models.references import Reference

if TYPE_CHECKING:
    from nnkit.verbs.exporting.report import ExportReport
    from nnkit.verbs.smoke.report import SmokeReport


HelpOf: TypeAlias = Callable[[Reference], str]
"""Returns the help text of `nnkit summary` for an architecture; a function of the command line, passed in."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plugin, among the others that `host` knows."""

    host: PluginManager
    plugin: Plugin

    @property
    def name(self) -> str:
        """Its name on a command line."""
        return self.plugin.name

    @property
    def unsupported(self) -> Mapping[str, str]:
        """What it declares as unsupported, with the reasons."""
        return {}

    def undeclared(self) -> "Candidate":
        """Return the same without its declarations of what is unsupported."""
        return self


@dataclass(frozen=True, eq=False)
class ArchitectureCandidate(Candidate):
    """An architecture. What a check computes from it is kept for the checks that follow."""

    architecture: Architecture
    help_of: HelpOf

    @property
    def name(self) -> str:
        return f"{self.architecture.namespace or self.plugin.name}/{self.architecture.name}"

    @property
    def unsupported(self) -> Mapping[str, str]:
        return self.architecture.unsupported

    def undeclared(self) -> "ArchitectureCandidate":
        return replace(self, architecture=replace(self.architecture, unsupported={}))

    @cached_property
    def spec(self) -> ModelSpec:
        """The architecture with its default options."""
        return make_spec(self.architecture, self.plugin.name)

    @cached_property
    def small(self) -> ModelSpec:
        """The same at sizes that are quick to run."""
        return small_spec(self.spec, self.host)

    @property
    def variants(self) -> list[ModelSpec]:
        """It with its inputs as given, with all, without each optional one, without all, with each alone."""
        spec = self.small
        units = spec.optional_inputs
        alone = [tuple(other for other in units if other != unit) for unit in units]
        chosen = dict.fromkeys([spec.without, (), *((unit,) for unit in units), units, *alone])
        return [spec.with_inputs(without) for without in chosen]

    @cached_property
    def smoke_report(self) -> "SmokeReport":
        """The smoke-run with its default checks."""
        return api.smoke_run(self.small, manager=self.host)

    @cached_property
    def onnx_report(self) -> "ExportReport":
        """The export to ONNX, with its proof."""
        with tempfile.TemporaryDirectory() as folder:
            return api.export(self.small, Path(folder, "model.onnx"), manager=self.host)


def small_spec(spec: ModelSpec, host: PluginManager) -> ModelSpec:
    """Return the same model at the sizes that smoke-run uses, which are quick to run."""
    import torch

    from nnkit.verbs.smoke.subject import Subject

    return spec.with_sizes(Subject(spec, host, torch.device("cpu")).sizes)
