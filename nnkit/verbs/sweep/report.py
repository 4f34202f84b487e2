"""What a sweep says. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nnkit.errors import NnkitError
from nnkit.verbs.smoke.report import CheckResult

STATUSES = ("died", "out of memory", "timed out", "error", "failed", "warned", "passed", "skipped")
"""What may become of a model, worst first."""
NOT_RUN = frozenset({"died", "out of memory", "timed out", "error"})
"""Those of a model whose checks didn't come to their end."""


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """What became of one model.

    status: one of STATUSES. message: what was found, or how far it came and what it said last.
    seconds: from the start of its process to the end. peak_memory: in bytes, resident; 0 for one that never
    ran. command: smoke-runs it alone. report: the SmokeReport as plain data, None where there is none.
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
        return tuple(CheckResult(**each) for each in (self.report or {}).get("checks", ()))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class SweepReport:
    """What became of the models, worst first; `planned` were to be run, fewer are here where it was stopped.

    resumed: how many of them an earlier run has done. device: as typed.

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
        found = [model.status for model in self.models]
        return {status: found.count(status) for status in STATUSES}

    @property
    def passed(self) -> bool:
        """Whether all that was planned ran, and no check failed."""
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
    """A sweep ended early; `report` has what was finished."""

    def __init__(self, report: SweepReport, message: str, hint: str, exit_code: int = 1) -> None:
        super().__init__(message, hint)
        self.report = report
        self.exit_code = exit_code
