"""The conformance suite for pytest: an author of a plugin subclasses `ArchitectureSuite`.

    from nnkit.testing import ArchitectureSuite


    class TestMine(ArchitectureSuite):
        plugin = "mine"

Each test runs for each architecture that the plugin declares. What an architecture can't serve, it
declares with a reason, `unsupported={"onnx": "…"}`: that is tried all the same, and fails where it holds.
The same checks without pytest: `nnkit plugins check mine`.

It needs the extra `nnkit[testing]`. Importing it imports neither torch nor pytest.
"""

import functools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnkit.authoring.conformance.candidate import Candidate
from nnkit.authoring.conformance.running import candidates
from nnkit.authoring.conformance.suite import (
    ARCHITECTURE_CHECKS,
    PLUGIN_CHECKS,
    VERSION,
    Doubtful,
    NotApplicable,
    meet,
)
from nnkit.cli.help import summary_help
from nnkit.errors import NnkitError
from nnkit.verbs.core_handlers import plugin_manager

if TYPE_CHECKING:
    import pytest

__all__ = ["ArchitectureSuite", "ConformanceWarning"]


class ConformanceWarning(UserWarning):
    """A check of the suite holds, and something may still be wrong."""


class ArchitectureSuite:
    """The suite, once for each architecture of a plugin.

    plugin: the name of its entry point, as `nnkit plugins` shows it. architectures: those to check, all
    where it is empty. suite_version: checks that came with a later version of the suite are left out, so
    that an upgrade of nnkit breaks no test; the newest by default.

        from nnkit.testing import ArchitectureSuite

        class TestMine(ArchitectureSuite):
            plugin = "mine"
            suite_version = 1
    """

    plugin: str = ""
    architectures: Sequence[str] = ()
    suite_version: int = VERSION

    @classmethod
    def pytest_generate_tests(cls, metafunc: "pytest.Metafunc") -> None:
        """Let pytest run each test for each architecture."""
        if "architecture" in metafunc.fixturenames:
            metafunc.parametrize("architecture", cls._names())

    @classmethod
    def _names(cls) -> list[str]:
        import pytest

        if not cls.plugin:
            raise pytest.Collector.CollectError(f'{cls.__name__} names no plugin: plugin = "yours"')
        try:
            found = candidates(plugin_manager(), summary_help, cls.plugin, cls.architectures)
        except NnkitError as error:
            raise pytest.Collector.CollectError(f"{cls.__name__}: {error.message}\n{error.hint}") from error
        names = [each.name.rpartition("/")[2] for each in found[1:]]
        if not names:
            raise pytest.Collector.CollectError(
                f"{cls.__name__}: plugin {cls.plugin} has no architecture that can be used\nnnkit plugins -v"
            )
        return names

    def test_import(self) -> None:
        """The plugin loads without a fault, and its module imports neither torch nor much else."""
        self._hold("import")

    def test_config(self, architecture: str) -> None:
        """Every choice survives as JSON, as YAML and as typed; defaults and presets are valid."""
        self._hold("config", architecture)

    def test_help(self, architecture: str) -> None:
        """`nnkit summary ARCH --help` explains every option and dim."""
        self._hold("help", architecture)

    def test_meta(self, architecture: str) -> None:
        """It is built on the meta device: without memory for its weights."""
        self._hold("meta", architecture)

    def test_shapes(self, architecture: str) -> None:
        """Outputs have the declared shapes, at two sizes of every dim."""
        self._hold("shapes", architecture)

    def test_determinism(self, architecture: str) -> None:
        """A seed decides: the same weights each time, others for another, and the same outputs twice."""
        self._hold("determinism", architecture)

    def test_gradients(self, architecture: str) -> None:
        """The gradient of the outputs reaches every trainable parameter."""
        self._hold("gradients", architecture)

    def test_safetensors(self, architecture: str) -> None:
        """The file holds every tensor, bit for bit, and nnkit builds the model from it."""
        self._hold("safetensors", architecture)

    def test_onnx(self, architecture: str) -> None:
        """The ONNX file is proven in ONNX Runtime, at several sizes."""
        self._hold("onnx", architecture)

    def test_smoke_run(self, architecture: str) -> None:
        """Every check of smoke-run holds."""
        self._hold("smoke-run", architecture)

    def test_schemas(self, architecture: str) -> None:
        """The reports of summary, export and smoke-run are what their JSON schemas say."""
        self._hold("schemas", architecture)

    def test_unsupported(self, architecture: str) -> None:
        """Whatever else is declared that it can't serve, it can't."""
        self._hold("unsupported", architecture)

    def _hold(self, name: str, architecture: str = "") -> None:
        import pytest

        checks = {check.name: check for check in (*PLUGIN_CHECKS, *ARCHITECTURE_CHECKS)}
        if checks[name].since > self.suite_version:
            pytest.skip(f"it came with version {checks[name].since} of the suite")
        try:
            meet(checks[name], _candidate(self.plugin, architecture))
        except NotApplicable as reason:
            pytest.skip(str(reason))
        except Doubtful as doubt:
            warnings.warn(f"{self.plugin}/{architecture} {name}: {doubt}", ConformanceWarning, stacklevel=2)


@functools.cache
def _candidate(plugin: str, architecture: str) -> Candidate:
    """Return what to check, the same for each test: it keeps the reports that it has made."""
    found = candidates(plugin_manager(), summary_help, plugin, [architecture] if architecture else [])
    return found[-1] if architecture else found[0]
