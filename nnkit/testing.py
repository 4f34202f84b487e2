"""The conformance suite for pytest: the author of a plugin subclasses `ArchitectureSuite`.

    from nnkit.testing import ArchitectureSuite


    class TestMine(ArchitectureSuite):
        plugin = "mine"

Each test runs for each architecture that the plugin declares. An architecture declares what it doesn't
support, with a reason: `unsupported={"onnx": "…"}`. That check runs too, and fails if it passes after all.
The same checks without pytest: `nnkit plugins check mine`.

It needs the extra `nnkit[testing]`. Importing this module imports neither torch nor pytest.
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
from nnkit.contract.architecture import QualifiedName
from nnkit.errors import NnkitError
from nnkit.verbs.core_handlers import plugin_manager

if TYPE_CHECKING:
    import pytest

__all__ = ["ArchitectureSuite", "ConformanceWarning"]


class ConformanceWarning(UserWarning):
    """A check of the suite passes, but something may still be wrong."""


class ArchitectureSuite:
    """The suite, once for each architecture of a plugin.

    Attributes:
        plugin: The name of its entry point, as `nnkit plugins` shows it.
        architectures: The architectures to check. Empty: all.
        suite_version: Checks from later versions of the suite are left out, so that an upgrade of nnkit
            breaks no test. By default, the newest.

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
            chosen = candidates(plugin_manager(), summary_help, cls.plugin, cls.architectures)
        except NnkitError as error:
            raise pytest.Collector.CollectError(f"{cls.__name__}: {error.message}\n{error.hint}") from error
        names = [QualifiedName.parse(candidate.name).name for candidate in chosen[1:]]
        if not names:
            raise pytest.Collector.CollectError(
                f"{cls.__name__}: plugin {cls.plugin} has no architecture that can be used\nnnkit plugins -v"
            )
        return names

    def test_import(self) -> None:
        """The plugin loads without a failure, and its module imports neither torch nor many others."""
        self._check("import")

    def test_config(self, architecture: str) -> None:
        """Every option survives JSON, YAML and the command line; defaults and presets are valid."""
        self._check("config", architecture)

    def test_help(self, architecture: str) -> None:
        """`nnkit summary ARCH --help` explains every option and dim."""
        self._check("help", architecture)

    def test_meta(self, architecture: str) -> None:
        """It builds on the meta device, without memory for its weights."""
        self._check("meta", architecture)

    def test_signature(self, architecture: str) -> None:
        """Forward takes what is declared, with and without optional inputs, and returns it by these names."""
        self._check("signature", architecture)

    def test_shapes(self, architecture: str) -> None:
        """Outputs have the declared shapes, at two sizes of every dim."""
        self._check("shapes", architecture)

    def test_bounds(self, architecture: str) -> None:
        """Constraints hold for defaults and presets, and shapes at other values of what bounds follow."""
        self._check("bounds", architecture)

    def test_determinism(self, architecture: str) -> None:
        """A seed fixes the weights, another seed changes them, and outputs repeat."""
        self._check("determinism", architecture)

    def test_gradients(self, architecture: str) -> None:
        """The gradient of the outputs reaches every trainable parameter."""
        self._check("gradients", architecture)

    def test_safetensors(self, architecture: str) -> None:
        """The file holds every tensor, bit for bit, and nnkit builds the model from it."""
        self._check("safetensors", architecture)

    def test_onnx(self, architecture: str) -> None:
        """The ONNX file is proven in ONNX Runtime, at several sizes."""
        self._check("onnx", architecture)

    def test_smoke_run(self, architecture: str) -> None:
        """Every check of smoke-run passes."""
        self._check("smoke-run", architecture)

    def test_schemas(self, architecture: str) -> None:
        """The reports of summary, export and smoke-run match their JSON schemas."""
        self._check("schemas", architecture)

    def test_unsupported(self, architecture: str) -> None:
        """Whatever else is declared unsupported really is."""
        self._check("unsupported", architecture)

    def _check(self, name: str, architecture: str = "") -> None:
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
    """Return the candidate, the same one for each test, because it keeps its reports."""
    chosen = candidates(plugin_manager(), summary_help, plugin, [architecture] if architecture else [])
    return chosen[-1] if architecture else chosen[0]
