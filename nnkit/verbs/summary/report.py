"""The report of a summary. Torch-free."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal, TypeAlias

from nnkit.contract.loading import load
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor that a call took or returned."""

    shape: Shape
    dtype: str
    device: str


Value: TypeAlias = "TensorInfo | tuple[Value, ...] | dict[str, Value] | str"
"""What a call took or returned: tensors, however nested; anything else as its Python repr."""


def tensors_of(value: Value) -> Iterator[TensorInfo]:
    """Yield the tensors of a value in order."""
    if isinstance(value, TensorInfo):
        yield value
    elif not isinstance(value, str):
        for element in value.values() if isinstance(value, dict) else value:
            yield from tensors_of(element)


@dataclass(frozen=True)
class Training:
    """What a call costs in a training step.

    flops: forward and backward together. saved: bytes that its forward keeps for backward.
    peak: the most bytes alive at once during its forward.
    """

    flops: int
    saved: int
    peak: int


@dataclass(frozen=True, slots=True)
class Row:
    """One call: of a module, or of a function in a module's own forward.

    path: the dotted name; a function's is its module's path and its own name.
    parameters, trainable, macs: include everything beneath. A tensor counts only in the first call that has
    it: later calls of a module have `repeated` set, and `tied` names a parameter that is counted above.
    inputs: positional arguments, then, if there are any, the keyword arguments as one dict.
    training: None unless it was requested, or if the training step doesn't make this call.
    leaf: whether the report has no row beneath this one.
    """

    path: str
    kind: Literal["module", "function"]
    type: str
    depth: int
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    parameters: int
    macs: int
    trainable: int = 0
    kernel: Shape | None = None
    repeated: bool = False
    tied: str = ""
    leaf: bool = True
    training: Training | None = None

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """The shapes of the tensors that it took."""
        return tuple(tensor.shape for tensor in tensors_of(self.inputs))

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        """The shapes of the tensors that it returned."""
        return tuple(tensor.shape for tensor in tensors_of(self.outputs))

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of its results, each once."""
        return tuple(dict.fromkeys(tensor.dtype for tensor in tensors_of(self.outputs)))

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices of its results, each once."""
        return tuple(dict.fromkeys(tensor.device for tensor in tensors_of(self.outputs)))

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        own = {name: getattr(self, name) for name in ROW_FIELDS}
        return {
            **own,
            "inputs": _plain_value(self.inputs),
            "outputs": _plain_value(self.outputs),
            "training": _plain(self.training),
            "input_shapes": self.input_shapes,
            "output_shapes": self.output_shapes,
        }


ROW_FIELDS = tuple(each.name for each in dataclasses.fields(Row))


def _plain_value(value: Value) -> Any:
    """Return a value as plain data; `asdict`, which copies whatever it meets, takes five times as long."""
    if isinstance(value, TensorInfo):
        return {"shape": value.shape, "dtype": value.dtype, "device": value.device}
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {name: _plain_value(element) for name, element in value.items()}
    return tuple(map(_plain_value, value))


@dataclass(frozen=True)
class Totals:
    """What the whole model holds and costs. Every tensor counts once, tied or not.

    macs: multiply-adds of convolutions and matrix products; flops: twice that. activations: the elements of
    the results of these products, a measure of memory traffic.
    dtypes: the number of parameter elements by dtype.
    training_flops: forward and backward together, None unless requested.
    uncounted: the operators that ran and were not counted, with how often each ran. missed: those of them
    that multiply, judging by their names; if there are any, macs is too low.
    unused: the names of parameters that no operator read; `aux1.*` for all of a module's.
    """

    parameters: int
    trainable: int
    frozen: int
    buffers: int
    parameter_bytes: int
    buffer_bytes: int
    macs: int
    flops: int
    activations: int = 0
    training_flops: int | None = None
    uncounted: Mapping[str, int] = field(default_factory=dict)
    missed: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    dtypes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """Bytes that a model needs, each storage counted once however many tensors share it.

    inputs: the tensors that forward is called with. gradients: of the parameters that get one.
    optimizer_state: what the optimizer keeps from step to step.
    saved: what autograd keeps from forward for backward, beside parameters, buffers and inputs.
    training_peak: the most that is alive at once in a step after the first: forward, the sum of the outputs,
    which are held, backward, and the optimizer, with gradients set to None between steps.
    inference_peak: the same for a forward in eval mode under `torch.inference_mode`.
    The figures of training are 0 if the model can't be trained at this size. note: why it can't, and
    whatever else makes the figures less than exact; "" if nothing does.
    """

    device: str
    optimizer: str
    parameters: int
    buffers: int
    inputs: int
    gradients: int
    optimizer_state: int
    saved: int
    training_peak: int
    inference_peak: int
    note: str = ""


@dataclass(frozen=True)
class Sharded:
    """What each of `ranks` processes needs with the model sharded across them by fully_shard.

    blocks: the names of the modules whose parameters are gathered only while they run; the rest is gathered
    from the beginning of a step to its end. gathered: the most bytes that are gathered at once.
    memory: of one rank, on its own inputs of these sizes: parameters, gradients and optimizer_state are its
    shards, and the peaks include what is gathered and exchanged.
    """

    ranks: int
    blocks: tuple[str, ...]
    gathered: int
    memory: Memory


@dataclass(frozen=True)
class Fit:
    """The largest sizes of a dim at which training and inference fit into `limit` bytes; 0 if none does."""

    dim: str
    limit: int
    training: int
    inference: int


@dataclass(frozen=True)
class Variant:
    """The same model with one optional input more or less.

    input: the optional input. given: whether this variant has it. sizes: of the dims that come with it.
    unused: the names of parameters that no operator read. failure: why forward failed; then macs is None.
    """

    input: str
    given: bool
    sizes: Mapping[str, int]
    macs: int | None = None
    unused: tuple[str, ...] = ()
    outputs: Mapping[str, Value] = field(default_factory=dict)
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the variant as plain data."""
        own = asdict(self)
        return {**own, "outputs": _named(self.outputs)}


@dataclass(frozen=True)
class Failure:
    """Where forward failed: the innermost call, its inputs, and the error."""

    path: str
    type: str
    error: str
    inputs: tuple[Value, ...]


@dataclass(frozen=True)
class SummaryReport:
    """The `rows` in call order, and the `totals`.

    inputs, outputs: what forward was given and returned, by dotted names; constants and None are text.
    variants: for each optional input, the model with or without it, unlike this report.
    memory: of training and inference, if an optimizer was named. sharded: that of each rank, if requested.
    fit: the sizes that fit into memory, if requested. method: `meta` if shapes and counts come from a run
    without weights or data, `run` if from a real run on the CPU, or wherever a module given from Python is.
    reason: why this method, if it isn't obvious. failure: set if forward failed; then the rows end with the
    call that failed. warnings: what is missing from the figures, in words.

    Example:

        report = summarize("simple-cnn")
        assert (report.totals.parameters, report.rows[1].type) == (545_098, "Conv2d")
    """

    SCHEMA = "nnkit.summary/1"

    spec: ModelSpec
    method: Literal["meta", "run"]
    reason: str
    rows: tuple[Row, ...]
    totals: Totals
    inputs: Mapping[str, Value] = field(default_factory=dict)
    outputs: Mapping[str, Value] = field(default_factory=dict)
    variants: tuple[Variant, ...] = ()
    memory: Memory | None = None
    fit: Fit | None = None
    failure: Failure | None = None
    sharded: Sharded | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def batch(self) -> int | None:
        """The size of the dim `batch`, if every input leads with it; None for examples, shown as they are."""
        inputs = self.spec.inputs
        are_examples = bool(self.spec.architecture.assumed) and not self.spec.typed
        leads = bool(inputs) and all(tensor.shape[:1] == ("batch",) for tensor in inputs)
        return self.spec.sizes.get("batch") if leads and not are_examples else None

    def select(
        self, depth: int | None = None, only: str | None = None, functional: bool = True
    ) -> "SummaryReport":
        """Return the report with only some of its rows.

        depth: the deepest level to keep; numbers still include what lies beneath. only: rows whose path or
        type matches a pattern like `layer1*` or `Conv2d`. functional: whether functions have rows.
        The first row, the model itself, always stays.
        """
        kept = [
            row
            for row in self.rows
            if row.depth == 0
            or (
                (depth is None or row.depth <= depth)
                and (functional or row.kind == "module")
                and (only is None or fnmatchcase(row.path, only) or fnmatchcase(row.type, only))
            )
        ]
        return replace(self, rows=tuple(_with_leaves(kept)))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "spec": self.spec.to_dict(),
            "assumed": list(self.spec.architecture.assumed),
            "method": self.method,
            "reason": self.reason,
            "warnings": list(self.warnings),
            "inputs": _named(self.inputs),
            "outputs": _named(self.outputs),
            "totals": asdict(self.totals),
            "variants": [variant.to_dict() for variant in self.variants],
            "memory": _plain(self.memory),
            "sharded": _plain(self.sharded),
            "fit": _plain(self.fit),
            "failure": _plain(self.failure),
            "rows": [row.to_dict() for row in self.rows],
        }

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        # A notebook asks the report itself. Verbs don't import renderers, so this one is named.
        return str(load("nnkit.render.summary:as_html")(self))


class ForwardFailed(NnkitError):
    """The model doesn't run; `report` has the rows up to where it failed."""

    def __init__(self, report: SummaryReport) -> None:
        failure = report.failure
        assert failure is not None
        where = f"{failure.path or 'the model'} ({failure.type})"
        sizes = " ".join(f"{name}={size}" for name, size in report.spec.sizes.items())
        problem = report.spec.forward_problem(
            f"forward failed in {where}{sizes and f' at {sizes}'}: {failure.error}",
            "check the sizes and the dtype of the inputs",
        )
        super().__init__(problem.message, problem.hint)
        self.exit_code = problem.exit_code
        self.report = report


def _with_leaves(rows: list[Row]) -> Iterator[Row]:
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        beneath = after is not None and after.depth > row.depth and after.path.startswith(row.path)
        yield row if row.leaf != beneath else replace(row, leaf=not beneath)


def _named(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    """Return tensors and other values as plain data, each with its name."""
    return [
        {"name": name, **(asdict(value) if isinstance(value, TensorInfo) else {"value": value})}
        for name, value in values.items()
    ]


def _plain(value: Any) -> dict[str, Any] | None:
    return dataclasses.asdict(value) if value is not None else None
