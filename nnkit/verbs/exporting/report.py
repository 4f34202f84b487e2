"""What an export says, and what proves it. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError

Weights: TypeAlias = Literal["own", "perturbed"]


@dataclass(frozen=True)
class Check:
    """One output of the file against the module's, at one assignment of the sizes.

    max_abs_diff: the largest difference of an element. where: the index of that element. scale: the
    spread of the module's output, by which the difference is judged. tolerance: what it may be.
    problem: why it did not pass. weights: `own`, or `perturbed` where those of the model can't show a
    fault. rounded: whether more was allowed, because the module's own rounding is more.
    """

    sizes: Mapping[str, int]
    output: str
    max_abs_diff: float
    scale: float
    passed: bool
    problem: str = ""
    tolerance: float = 0.0
    where: tuple[int, ...] = ()
    weights: Weights = "own"
    rounded: bool = False


@dataclass(frozen=True)
class OutputProof:
    """What was found of one output over all sizes: its largest difference, where, and at which sizes."""

    output: str
    scale: float
    max_abs_diff: float
    tolerance: float
    sizes: Mapping[str, int]
    where: tuple[int, ...]
    assignments: int


@dataclass(frozen=True)
class Coverage:
    """How many of the parameters could have made the proof fail, counted in elements.

    parameters: those that the file needs. own: those whose change would show with the model's own
    weights. proven: those with perturbed weights too. unproven: names of the tensors that remain.
    unused: names of the parameters that forward never reads. None stands for what can't be measured,
    because no output has a gradient.
    """

    parameters: int
    own: int | None
    proven: int | None
    unproven: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def share(self) -> float | None:
        """The part of the parameters that is proven, from 0 to 1."""
        if self.proven is None:
            return None
        return self.proven / self.parameters if self.parameters else 1.0


@dataclass(frozen=True)
class Reach:
    """The comparisons at further, larger sizes, as many as a budget of `seconds` and `bytes` allowed.

    How many there are depends on the machine.
    """

    checks: tuple[Check, ...]
    seconds: float
    bytes: int

    @property
    def assignments(self) -> list[dict[str, int]]:
        """The sizes at which the file was run, in order."""
        return _assignments(self.checks)

    @property
    def largest(self) -> dict[str, int]:
        """The largest size of each dim, in one assignment or another."""
        largest: dict[str, int] = {}
        for sizes in self.assignments:
            largest = {name: max(size, largest.get(name, 0)) for name, size in sizes.items()}
        return largest

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "sizes": self.assignments,
            "largest": self.largest,
            "seconds": self.seconds,
            "bytes": self.bytes,
        }


@dataclass(frozen=True)
class Proof:
    """What shows that a file is the model.

    runner: what ran the file. checks: the comparisons at the sizes of the plan. equal: how many tensors
    in the file are the module's own, bit for bit, and how many of them there are. seconds: how long the
    proof took. reach: the comparisons at larger sizes. assumed: what was found of the inputs by running
    the module, a sentence each. unread: the inputs that forward doesn't read.
    """

    runner: str
    checks: tuple[Check, ...]
    coverage: Coverage | None = None
    equal: tuple[int, int] | None = None
    seconds: float = 0.0
    reach: Reach | None = None
    assumed: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[OutputProof, ...]:
        """Each output with its largest difference, as a share of what is allowed."""
        names = dict.fromkeys(check.output for check in self.checks)
        return tuple(_worst([each for each in self.checks if each.output == name]) for name in names)

    @property
    def assignments(self) -> list[dict[str, int]]:
        """The sizes at which the file was run, in order."""
        return _assignments(self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return what the file itself tells of its proof: nothing that the next run would change."""
        return {
            "runner": self.runner,
            "sizes": self.assignments,
            "outputs": [_rounded(asdict(each)) for each in self.outputs],
            "coverage": self.coverage and {**asdict(self.coverage), "share": self.coverage.share},
            "equal": self.equal,
            "assumed": list(self.assumed),
            "unread": list(self.unread),
        }

    def to_report(self) -> dict[str, Any]:
        """Return all of it as plain data, with what depends on the machine and its load."""
        reach = self.reach and self.reach.to_dict()
        return {**self.to_dict(), "reach": reach, "seconds": self.seconds}


def _assignments(checks: Sequence[Check]) -> list[dict[str, int]]:
    return [dict(each) for each in dict.fromkeys(tuple(check.sizes.items()) for check in checks)]


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: float(f"{each:.3g}") if isinstance(each, float) else each for key, each in values.items()}


def _worst(checks: list[Check]) -> OutputProof:
    worst = max(checks, key=lambda check: check.max_abs_diff / (check.tolerance or 1.0))
    tried = {tuple(check.sizes.items()) for check in checks}
    return OutputProof(
        worst.output, worst.scale, worst.max_abs_diff, worst.tolerance, worst.sizes, worst.where, len(tried)
    )


@dataclass(frozen=True)
class ExportReport:
    """A `file` that was written in a `format`, and its `proof`: None when none was asked for.

    files: the file itself and those that come with it, with their bytes. opset: of ONNX, None for others.

    Example:

        report = export("simple-cnn", "model.safetensors")
        assert report.verified and report.proof.equal == (8, 8)
    """

    SCHEMA = "nnkit.export/1"

    spec: ModelSpec
    file: str
    format: str
    files: Mapping[str, int]
    proof: Proof | None
    opset: int | None = None

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(self.files.values())

    @property
    def verified(self) -> bool:
        """Whether the file was proven."""
        return self.proof is not None

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every comparison that was made."""
        if self.proof is None:
            return ()
        return (*self.proof.checks, *(self.proof.reach.checks if self.proof.reach else ()))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "spec": self.spec.to_dict(),
            "file": self.file,
            "format": self.format,
            "opset": self.opset,
            "bytes": self.bytes,
            "files": dict(self.files),
            "verified": self.verified,
            "proof": self.proof and self.proof.to_report(),
            "checks": [asdict(check) for check in self.checks],
        }


@dataclass(frozen=True)
class VerifyReport(ExportReport):
    """A file that was there already, and what proves it now; with the fields of ExportReport.

    Example:

        export("simple-cnn", "model.safetensors")
        assert verify("model.safetensors").verified
    """

    SCHEMA = "nnkit.verify/1"


@dataclass(frozen=True)
class ExportsReport:
    """Several files of one model: the `reports` of those that were written, and the `failures` of the others.

    Example:

        report = export_all("simple-cnn", ".", verify=False)
        assert {each.format for each in report.reports} >= {"onnx", "safetensors", "pt2"}
    """

    SCHEMA = "nnkit.exports/1"

    spec: ModelSpec
    reports: tuple[ExportReport, ...]
    failures: Mapping[str, NnkitError]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "spec": self.spec.to_dict(),
            "exports": [report.to_dict() for report in self.reports],
            "failures": {format: error.message for format, error in self.failures.items()},
        }
