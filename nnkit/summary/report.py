"""What a summary says. Torch-free."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nnkit.spec import ModelSpec

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One call: of a module, or of a function in a module's own forward.

    path: where it stands, dotted; a function's is its module's path and its name.
    parameters and macs include everything beneath; a module's later calls have `repeated` set, and
    their parameters are 0, for they are counted once.
    """

    path: str
    kind: Literal["module", "function"]
    type: str
    depth: int
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    parameters: int
    macs: int
    repeated: bool = False
    leaf: bool = True


@dataclass(frozen=True)
class Totals:
    """What the whole model holds and costs. Every tensor counts once, tied or not.

    macs: multiply-adds of convolutions and matrix products; flops: twice that.
    uncounted: the operators that ran and were not counted, with how often.
    """

    parameters: int
    trainable: int
    frozen: int
    buffers: int
    parameter_bytes: int
    buffer_bytes: int
    macs: int
    flops: int
    uncounted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SummaryReport:
    """The rows in call order, and the totals.

    method: `meta` when shapes and counts come from a run without weights or data, `run` when from a
    real run on the CPU; `reason` says why, where that is not plain.
    batch: the size of the dim `batch`, None where there is none.
    """

    SCHEMA = "nnkit.summary/1"

    spec: ModelSpec
    method: Literal["meta", "run"]
    reason: str
    rows: tuple[Row, ...]
    totals: Totals

    @property
    def batch(self) -> int | None:
        """The size of the dim `batch`, where every input leads with it."""
        leads = all(tensor.shape[:1] == ("batch",) for tensor in self.spec.inputs)
        return self.spec.sizes.get("batch") if leads else None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "spec": self.spec.to_dict(),
            "method": self.method,
            "reason": self.reason,
            "totals": asdict(self.totals),
            "rows": [asdict(row) for row in self.rows],
        }
