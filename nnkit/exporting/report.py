"""What an export says. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nnkit.spec import ModelSpec


@dataclass(frozen=True)
class Check:
    """One output of the file against the module's, at one assignment of the sizes.

    max_abs_diff: the largest difference of an element. scale: the spread of the module's output, by
    which the difference is judged. problem: why it did not pass.
    """

    sizes: Mapping[str, int]
    output: str
    max_abs_diff: float
    scale: float
    passed: bool
    problem: str = ""


@dataclass(frozen=True)
class ExportReport:
    """The file that was written, and what proves it. `verified` is False when no proof was asked for."""

    SCHEMA = "nnkit.export/1"

    spec: ModelSpec
    file: str
    format: str
    bytes: int
    verified: bool
    checks: tuple[Check, ...]
    opset: int | None = None

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
            "verified": self.verified,
            "checks": [asdict(check) for check in self.checks],
        }
