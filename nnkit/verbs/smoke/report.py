"""The report of a smoke-run. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nnkit.contract.spec import ModelSpec

Status = Literal["passed", "warned", "failed", "skipped"]


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: of the check.
        status: `passed`, `warned`, `failed` or `skipped`.
        message: what it looked at, or what is wrong and where.
        repeat: the command that runs only this check.

    Example:

        assert CheckResult("finite", "passed", "1 output and every gradient").repeat == ""
    """

    name: str
    status: Status
    message: str
    repeat: str = ""


@dataclass(frozen=True)
class SmokeReport:
    """The checklist, with the device and the sizes that it ran with.

    Attributes:
        spec: the model, at the sizes of the checks.
        device: where it ran.
        checks: what each check found, in order.
        compiled: whether the model was checked as torch.compile makes it.
        dtypes: how many elements of the parameters have which dtype.
        not_run: the checks that have not ended; an interrupted run has some.

    Example:

        report = smoke_run("simple-cnn", checks=["finite", "gradients"])
        assert report.passed and [check.name for check in report.checks] == ["finite", "gradients"]
    """

    SCHEMA = "nnkit.smoke-run/1"

    spec: ModelSpec
    device: str
    checks: tuple[CheckResult, ...]
    compiled: bool = False
    dtypes: Mapping[str, int] = field(default_factory=dict)
    not_run: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check ran, and none failed."""
        return not self.not_run and not any(check.status == "failed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "spec": self.spec.to_dict(),
            "assumed": list(self.spec.architecture.assumed),
            "passed": self.passed,
            "device": self.device,
            "dtypes": dict(self.dtypes),
            "compiled": self.compiled,
            "checks": [asdict(check) for check in self.checks],
            "not_run": list(self.not_run),
        }
