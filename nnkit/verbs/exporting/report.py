"""The report of an export, and what proves the file. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError

Weights: TypeAlias = Literal["own", "perturbed"]


@dataclass(frozen=True)
class Check:
    """One output of the file, compared with the module's at one assignment of sizes.

    max_abs_diff: the difference of the element that is furthest off, relative to its tolerance. where: the
    index of that element. scale: the spread of the module's output. tolerance: the largest difference
    allowed for that element. problem: why it did not pass. weights: `own`, or `perturbed` where those of
    the model can't show a fault. rounded: whether more was allowed because the module itself loses more to
    rounding.
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
    """The largest difference of one output over all sizes: where, and at which sizes."""

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
    weights. proven: those whose change would show with its own or with perturbed weights. unproven: the
    names of the other tensors. unused: the names of the parameters that forward never reads. own and proven
    are None if they can't be measured, because no output has a gradient.
    """

    parameters: int
    own: int | None
    proven: int | None
    unproven: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def share(self) -> float | None:
        """The share of the parameters that is proven, from 0 to 1."""
        if self.proven is None:
            return None
        return self.proven / self.parameters if self.parameters else 1.0


@dataclass(frozen=True)
class Reach:
    """The comparisons at larger sizes, as many as a budget of `seconds` and `bytes` allowed.

    Their number depends on the machine.
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
        """The largest size of each dim in any assignment."""
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
    """The proof that a file is the model.

    runner: what ran the file. checks: the comparisons at the sizes of the plan. equal: how many tensors
    in the file equal the module's bit for bit, and how many were compared. seconds: how long the proof
    took. reach: the comparisons at larger sizes. assumed: what was found out about the inputs by running
    the module, one sentence each. unread: the inputs that forward doesn't read.
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
        """For each output, its largest difference relative to the tolerance."""
        names = dict.fromkeys(check.output for check in self.checks)
        return tuple(_find_worst([check for check in self.checks if check.output == name]) for name in names)

    @property
    def assignments(self) -> list[dict[str, int]]:
        """The sizes at which the file was run, in order."""
        return _assignments(self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return the part that is stored in the file: nothing that the next run would change."""
        return {
            "runner": self.runner,
            "sizes": self.assignments,
            "outputs": [_round_floats(asdict(output)) for output in self.outputs],
            "coverage": self.coverage and {**asdict(self.coverage), "share": self.coverage.share},
            "equal": self.equal,
            "assumed": list(self.assumed),
            "unread": list(self.unread),
        }

    def to_report(self) -> dict[str, Any]:
        """Return all of it as plain data, including what depends on the machine and its load."""
        reach = self.reach and self.reach.to_dict()
        return {**self.to_dict(), "reach": reach, "seconds": self.seconds}


def _assignments(checks: Sequence[Check]) -> list[dict[str, int]]:
    """Return each assignment of sizes once, in order."""
    return [dict(sizes) for sizes in dict.fromkeys(tuple(check.sizes.items()) for check in checks)]


def _round_floats(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with floats rounded to three digits, so that a file has the same bytes each time."""
    return {
        key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in values.items()
    }


def _find_worst(checks: list[Check]) -> OutputProof:
    worst = max(checks, key=lambda check: check.max_abs_diff / (check.tolerance or 1.0))
    return OutputProof(
        output=worst.output,
        scale=worst.scale,
        max_abs_diff=worst.max_abs_diff,
        tolerance=worst.tolerance,
        sizes=worst.sizes,
        where=worst.where,
        assignments=len(_assignments(checks)),
    )


@dataclass(frozen=True)
class ExportReport:
    """A `file` that was written in a `format`, and its `proof`: None when none was requested.

    files: the file itself and those that belong to it, with their bytes. opset: the ONNX opset, None for
    other formats.

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
        """The bytes of all files together."""
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
    """An existing file and its new proof, with the fields of ExportReport.

    Example:

        export("simple-cnn", "model.safetensors")
        assert verify("model.safetensors").verified
    """

    SCHEMA = "nnkit.verify/1"


@dataclass(frozen=True)
class ExportsReport:
    """Several files of one model: the `reports` of the files that were written, and the other `failures`.

    Example:

        report = export_all("simple-cnn", ".", verify=False)
        assert {export.format for export in report.reports} >= {"onnx", "safetensors", "pt2"}
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
