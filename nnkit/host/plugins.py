"""What is known of an installed plugin, and what went wrong with it. Torch-free."""

from collections.abc import Callable
from dataclasses import dataclass, field

from nnkit.contract.architecture import Architecture
from nnkit.contract.contributions import Check, Executor, Exporter, OperatorFormula, Picture
from nnkit.contract.namespace import Namespace


@dataclass
class Plugin:
    """An installed plugin, and what it adds if it was loaded.

    Attributes:
        name: The name of its entry point; `distribution:name` if two distributions use the same name.
        distribution: The distribution that it comes from.
        version: The version of that distribution.
        module: The module of its hooks.
        enabled: Whether the settings let it load.
        api: The version of the API that it states.
        unchecked: The names of architectures whose config is named by a string, which nobody has asked for.
        seconds: How long its import took.
        heavy: The heavy modules that its import brought in.
        architectures: Its architectures, by short name.
        checks: The smoke checks that it adds.
        formulas: The operators that it can count.
        exporters: The formats that it adds.
        pictures: The formats of pictures that it adds.
        executors: The executors that it adds.
        namespaces: The zoos that it adds, by prefix.
    """

    name: str
    distribution: str
    version: str
    module: str
    enabled: bool = True
    api: str = ""
    unchecked: set[str] = field(default_factory=set)
    seconds: float = 0.0
    heavy: tuple[str, ...] = ()
    architectures: dict[str, Architecture] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    formulas: list[OperatorFormula] = field(default_factory=list)
    exporters: list[Exporter] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    executors: list[Executor] = field(default_factory=list)
    namespaces: dict[str, Namespace] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that settings may use for it: its own, its distribution's, its entry point's."""
        return self.name, self.distribution, self.name.rpartition(":")[2]

    def way_out(self, behind: str = "") -> str:
        """Return what a user can do about a fault; `behind` is what to upgrade, if not the plugin itself."""
        name = self.distribution if " " in self.name else self.name
        upgrade = f"pip install --upgrade {behind or self.distribution}"
        return f"{upgrade}, or leave the plugin out: NNKIT_DISABLE_PLUGINS={name}"


@dataclass(frozen=True)
class Failure:
    """What went wrong with a plugin.

    Attributes:
        plugin: Its name.
        distribution: The distribution that it comes from.
        stage: What nnkit was doing: `import`, `API check`, `registration`, or a hook.
        message: The fault, in one line.
        hint: What a user can do about it.
        traceback: The traceback, if there is one.
        harmless: Whether the plugin works all the same.
    """

    plugin: str
    distribution: str
    stage: str
    message: str
    hint: str = ""
    traceback: str = ""
    harmless: bool = False

    @classmethod
    def from_error(cls, plugin: Plugin, stage: str, error: BaseException) -> "Failure":
        """Return the failure for an error that is being handled."""
        import traceback

        return cls(
            plugin.name,
            plugin.distribution,
            stage,
            _describe(error),
            plugin.way_out(),
            traceback.format_exc(),
        )

    def __str__(self) -> str:
        return f"plugin {self.plugin} ({self.distribution}) {self.verb} at {self.stage}: {self.message}"

    @property
    def verb(self) -> str:
        """What the plugin did: it failed, or it misbehaves and works."""
        return "misbehaves" if self.harmless else "failed"

    @property
    def line(self) -> str:
        """All that a user needs, in one line."""
        return f"{self}; {self.hint}" if self.hint else str(self)


@dataclass(frozen=True)
class Deprecation:
    """Something a plugin uses that the next major version of the API will drop."""

    plugin: str
    distribution: str
    message: str

    def __str__(self) -> str:
        return f"plugin {self.plugin} ({self.distribution}): {self.message}"


class FailureLog:
    """The failures so far, and a function that is called with each new one."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self._report: Callable[[Failure], None] = _keep_silent

    def record(self, failure: Failure) -> None:
        """Add a failure and report it."""
        self.failures.append(failure)
        self._report(failure)

    def add_silently(self, failure: Failure) -> None:
        """Add a failure that the user sees anyway, as the error of the command."""
        self.failures.append(failure)

    def report_to(self, report: Callable[[Failure], None]) -> None:
        """Call `report` with each failure so far, and from now on with each new one."""
        for failure in self.failures:
            report(failure)
        self._report = report


def _keep_silent(failure: Failure) -> None:
    """Report the failure to nobody."""


def _describe(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    try:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    except Exception:  # an error whose own __str__ fails
        return type(error).__name__
