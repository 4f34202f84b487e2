"""The report of a sweep. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nnkit.errors import NnkitError
from nnkit.verbs.smoke.report import CheckResult

STATUSES = ("died", "out of memory", "timed out", "error", "failed", "warned", "passed", "skipped")
"""The statuses of a model, worst first."""
NOT_RUN = frozenset({"died", "out of memory", "timed out", "error"})
"""The statuses of a model whose checks didn't finish."""


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """What became of one model.

    Attributes:
        name: of the architecture, `plugin/name`.
        status: one of STATUSES.
        message: what was found; or how far the run came, and the last line that it printed.
        command: runs only this model.
        seconds: from the start of its process to the end.
        peak_memory: in bytes, resident; 0 for a model that never ran.
        report: the SmokeReport as plain data, None where there is none.
    """

    name: str
    status: str
    message: str
    command: str = ""
    seconds: float = 0.0
    peak_memory: int = 0
    report: Mapping[str, Any] | None = None

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """The checklist; empty where there is no report."""
        return tuple(CheckResult(**check) for check in (self.report or {}).get("checks", ()))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class SweepReport:
    """What became of the models.

    Attributes:
        device: as typed.
        models: the results, worst first.
        planned: how many models were to be run; a sweep that was stopped has fewer results.
        resumed: how many results come from an earlier run.

    Example:

        report = smoke_sweep("simple-cnn", checks=["finite"])
        assert report.passed and report.counts["passed"] == 1
    """

    SCHEMA = "nnkit.smoke-sweep/1"

    device: str
    models: tuple[ModelResult, ...]
    planned: int
    resumed: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many models have each status."""
        statuses = [model.status for model in self.models]
        return {status: statuses.count(status) for status in STATUSES}

    @property
    def passed(self) -> bool:
        """Whether every planned model ran, and no check failed."""
        bad = sum(model.status in NOT_RUN or model.status == "failed" for model in self.models)
        return not bad and len(self.models) == self.planned

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "device": self.device,
            "passed": self.passed,
            "planned": self.planned,
            "resumed": self.resumed,
            "counts": self.counts,
            "models": [model.to_dict() for model in self.models],
        }


class SweepStopped(NnkitError):
    """A sweep ended early; `report` has the finished results."""

    def __init__(self, report: SweepReport, message: str, hint: str, exit_code: int = 1) -> None:
        super().__init__(message, hint)
        self.report = report
        self.exit_code = exit_code
