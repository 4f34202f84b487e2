"""What handlers and the functions of plugins are called with: requests. Torch-free.

Each is a frozen, keyword-only dataclass, so that fields can be added later. In all of them `spec` is the
model with every choice made, and `host` is what a handler may ask nnkit for.

The examples run as they are, in a package `nnkit_yours`. They use the names of `nnkit`.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pluggy

from nnkit.contract.catalog import CatalogRow

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nnkit.contract.contributions import Check, Exporter, OperatorFormula, Picture
    from nnkit.contract.spec import ModelSpec
    from nnkit.verbs.graph.report import GraphReport

OPTIMIZERS = ("sgd", "adam", "adamw")
HEATS = ("macs", "params", "output", "saved", "time")
DIRECTIONS = ("down", "right")


def ignore_progress(line: str, share: float = 0.0) -> None:
    """Report progress to nobody."""


def ignore_report(report: Any) -> None:
    """Show an unfinished report to nobody."""


class Host(Protocol):
    """What a handler may ask nnkit for: the hooks, and what plugins add."""

    @property
    def hook(self) -> pluggy.HookRelay: ...

    def checks(self) -> "list[Check]": ...

    def formulas(self) -> "list[OperatorFormula]": ...

    def exporters(self) -> "list[Exporter]": ...

    def pictures(self) -> "list[Picture]": ...

    def owner(self, plugin: str) -> str: ...


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """Build `spec.architecture` with `spec.config`.

    The handler returns only the module: core seeds it and moves it to its device.

    Attributes:
        spec: The model to build.

    Example:

        def build(request: BuildRequest):  # handlers={"build": "nnkit_yours.models:build"}
            from torch import nn

            return nn.Linear(784, request.spec.config.num_classes)

        assert build(BuildRequest(spec=resolve("simple-cnn"))).out_features == 10
    """

    spec: "ModelSpec"


@dataclass(frozen=True, kw_only=True)
class SummaryRequest:
    """Summarize `spec`, or `module` on `inputs`.

    Attributes:
        spec: The model to summarize.
        host: What the handler may ask nnkit for.
        module: The module, if the caller passed one; it must not be changed. None: build it.
        inputs: The positional arguments of forward, tensors or not, for `module`.
        keywords: The keyword arguments of forward, for `module`.
        optimizer: `sgd`, `adam` or `adamw`: also report the cost of a training step, and the memory of
            training and inference. None: don't.
        device: The device to estimate that memory for.
        fsdp: Also report what each rank needs when the model is sharded over this many. None: don't.
        variants: Also count, for each optional input, the model with or without it.
        on_meta: Count on meta tensors where that works. Their machinery takes a second to import, which one
            small model is not worth, but many are.

    Example:

        def summarize(request: SummaryRequest):  # handlers={"summary": "nnkit_yours.models:summarize"}
            seen.append(request.spec.name)  # and return None: the next handler does it

        seen = []
        summarize(SummaryRequest(spec=resolve("simple-cnn"), host=manager))
        assert seen == ["vision/simple-cnn"]
    """

    spec: "ModelSpec"
    host: "Host"
    module: "nn.Module | None" = None
    inputs: tuple[Any, ...] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    device: str = "cpu"
    fsdp: int | None = None
    variants: bool = True
    on_meta: bool = False


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How to write a file; each format reads the options that concern it.

    Attributes:
        opset: The ONNX opset. None: the exporter's own.
        fixed: Dims that keep the size they are exported at.
        static: Whether all dims do.
        input_names: Names for the inputs in the file. None: the declared ones.
        output_names: Names for the outputs in the file. None: the declared ones.
        float32_io: Whether a float16 model takes and returns float32.
        optimize: Whether ONNX Runtime folds and fuses what it can.
        external_data: Whether weights go into a file beside it. None: if they take more than 1.5 GB.
        max_shard_size: safetensors: write several files if the weights take more, such as `5GB`.

    Example:

        how = ExportOptions(static=True, input_names=("picture",))
        assert export("simple-cnn", "fixed.onnx", how=how).verified
    """

    opset: int | None = None
    fixed: frozenset[str] = frozenset()
    static: bool = False
    input_names: tuple[str, ...] | None = None
    output_names: tuple[str, ...] | None = None
    float32_io: bool = False
    optimize: bool = False
    external_data: bool | None = None
    max_shard_size: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """Write `spec` to `path` and prove that the file matches.

    Attributes:
        spec: The model to export.
        host: What the handler may ask nnkit for.
        path: The file to write.
        format: `onnx`, `safetensors`, `pt2`, or a plugin's.
        inputs: None since version 1.1, where the spec says how inputs are drawn, for a module too.
        force: Whether an existing file is replaced.
        verify: Whether the file is proven.
        device: Where the module is built, traced and run, as typed: `cpu`, `cuda:1`, `auto`.
        options: How the file is written.
        progress: Called with a line that describes the current step.

    Example:

        def write(request: ExportRequest):  # handlers={"export": "nnkit_yours.models:write"}
            if request.format != "onnx" or request.options.static:
                return None  # the next handler does it
            raise NnkitError(f"{request.path} needs fixed sizes", "add --static")

        assert write(
            ExportRequest(spec=resolve("gcn"), host=manager, path=Path("m.pt2"), format="pt2")
        ) is None
    """

    spec: "ModelSpec"
    host: "Host"
    path: Path
    format: str
    inputs: "tuple[Tensor, ...] | None" = None
    force: bool = False
    verify: bool = True
    device: str = "cpu"
    options: ExportOptions = field(default_factory=ExportOptions)
    progress: Callable[[str], None] = ignore_progress


@dataclass(frozen=True, kw_only=True)
class WriteRequest:
    """Write `module` to `path`.

    If forward takes a tree (a dict, a list, a named tuple) or a constant, `module` is one whose forward takes
    the tensors of the declaration one by one, by position, and returns a flat tuple. It has the tensors of
    the model under their own names. An exporter with `takes_trees` gets the model itself instead.

    Attributes:
        spec: The model that `module` was built from.
        module: The module, in eval mode.
        path: The file to write.
        inputs: Example inputs that forward takes by position.
        keywords: Example inputs that forward takes by name.
        dynamic: For each declared input, in order: axis -> name of the dim that may take other sizes, or
            arithmetic of such dims (`past + time`). None: every axis is fixed.
        input_names: Names for the inputs in the file. They may have dots: `cache.0.key`.
        output_names: Names for the outputs in the file.
        tensors: The tensors in `inputs` and `keywords`, in declared order.

    Example:

        def write(request: WriteRequest) -> None:  # Exporter(…, write="nnkit_yours.writing:write")
            import torch

            torch.save(request.module.state_dict(), request.path)

        write(
            WriteRequest(
                spec=resolve("simple-cnn"), module=build("simple-cnn"), path=Path("model.state"),
                inputs=(torch.zeros(1, 3, 32, 32),), dynamic=({0: "batch"},), input_names=("x",),
                output_names=("logits",),
            )
        )
    """

    spec: "ModelSpec"
    module: "nn.Module"
    path: Path
    inputs: "tuple[Any, ...]"
    dynamic: "tuple[dict[int, str] | None, ...]"
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    keywords: "Mapping[str, Any]" = field(default_factory=dict)
    tensors: "tuple[Tensor, ...]" = ()


@dataclass(frozen=True, kw_only=True)
class DrawRequest:
    """Draw `report`.

    Attributes:
        report: The calls of the model, and the tensors that flow between them.
        other: A second model to draw beside it. None: only one is drawn.
        opened: Patterns of paths or types: groups that match one are drawn open. Empty: the format decides.
        depth: The levels of groups that are drawn open, 1 for only the model itself. None: see `opened`.
        heat: What colors show: `macs`, `params`, `output`, `saved` or `time`. None: the format decides.
        constants: Whether what depends on no input is drawn too.
        direction: `down` or `right`: where the graph runs.
        progress: Called with a line that says what the picture leaves out.

    Example:

        def draw(request: DrawRequest) -> str:  # Picture(…, draw="nnkit_yours.drawing:draw")
            keys = [node.key for node in request.report.nodes]
            return "; ".join(f"{keys[edge.source]} -> {keys[edge.target]}" for edge in request.report.edges)

        assert draw(DrawRequest(report=graph("simple-cnn"))).startswith("image -> ")
    """

    report: "GraphReport"
    other: "GraphReport | None" = None
    opened: tuple[str, ...] = ()
    depth: int | None = None
    heat: str | None = None
    constants: bool = False
    direction: str = "down"
    progress: Callable[[str], None] = ignore_progress


@dataclass(frozen=True, kw_only=True)
class SmokeRequest:
    """Run the checks on `spec` on `device`.

    Attributes:
        spec: The model to check.
        host: What the handler may ask nnkit for.
        device: Where to run it, as typed: `cpu`, `cuda:1`, `auto`. Not a device's name if `simulate` is set.
        simulate: `cuda`, `xpu` or `mps`: check only the placement, on a fake device of that type.
        inputs: None since version 1.1, where the spec says how inputs are drawn, for a module too.
        checks: Names of the checks to run. None: all.
        full: Whether the slow checks run too.
        compiled: Whether the checks run on the model as compiled by torch.compile.
        parallel: `ddp`, `fsdp` or `tp`: check instead that training over many ranks matches one process.
        processes: How many ranks to start. None: this process is a rank that torchrun started.
        time_limit: For all ranks together, in seconds.
        progress: Called with the name of each check.
        finished: Called after each check with the SmokeReport so far, whose `not_run` has the rest.

    Example:

        def smoke_run(request: SmokeRequest):  # handlers={"smoke-run": "nnkit_yours.models:smoke_run"}
            if request.device == "cpu":
                return None  # the next handler does it
            skipped = CheckResult("all", "skipped", f"not made for {request.device}")
            return SmokeReport(request.spec, request.device, (skipped,))

        assert smoke_run(SmokeRequest(spec=resolve("gcn"), host=manager, device="mps")).passed
    """

    spec: "ModelSpec"
    host: "Host"
    device: str = "cpu"
    simulate: str | None = None
    inputs: "tuple[Tensor, ...] | None" = None
    checks: tuple[str, ...] | None = None
    full: bool = False
    compiled: bool = False
    parallel: str | None = None
    processes: int | None = None
    time_limit: float | None = None
    progress: Callable[[str], None] = ignore_progress
    finished: Callable[[Any], None] = ignore_report


Plain: TypeAlias = Mapping[str, Any]
"""Numbers, text, lists and mappings of them: what JSON can hold and every pickle can carry."""


@dataclass(frozen=True, kw_only=True)
class ExecuteRequest:
    """Call `function` with each of `tasks`, anywhere.

    Attributes:
        function: Takes a task and returns its result. It starts a process for the model, watches it, and
            returns shortly after `time_limit` at the latest. It is defined at the top level of a module,
            so that it can be pickled. Calls in one process share a server that has torch imported.
        tasks: The tasks, in order.
        jobs: How many tasks run at once. None: the executor decides.
        time_limit: For each task, in seconds.
        memory_limit: For each task, in bytes. None: no limit.

    Example:

        def run(request: ExecuteRequest):
            for task in request.tasks:
                yield task, request.function(task)

        request = ExecuteRequest(
            function=len, tasks=({"spec": {}},), jobs=1, time_limit=600.0, memory_limit=None
        )
        assert list(run(request)) == [({"spec": {}}, 1)]
    """

    function: Callable[[Plain], Plain]
    tasks: tuple[Plain, ...]
    jobs: int | None
    time_limit: float
    memory_limit: int | None


Executed: TypeAlias = Generator[tuple[Plain, Plain | Exception], None, None]
"""Tasks in the order in which they end, each with its result, or with the error that prevented one."""


@dataclass(frozen=True, kw_only=True)
class DeclareRequest:
    """Declare `name`.

    Attributes:
        name: The name without the prefix.
        row: What the catalog knows about it under the installed version of the zoo, if anything.

    Example:

        request = DeclareRequest(name="net-8", row=CatalogRow(name="net-8", sizes="32"))
        assert (request.name, request.row.sizes) == ("net-8", "32")
    """

    name: str
    row: CatalogRow | None = None


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """Say which architecture a folder or file describes, if it is one of this zoo.

    Attributes:
        config: What its `config.json` holds; empty for a file that has none.
        path: The folder, or the file.

    Example:

        def read(request: ReadRequest):
            if request.config.get("model_type") != "net":
                return None
            config = {"width": request.config["width"]}
            return {"architecture": "yours/net", "config": config, "weights": None}

        request = ReadRequest(config={"model_type": "net", "width": 8}, path=Path("net"))
        assert read(request)["config"] == {"width": 8}
    """

    config: Mapping[str, Any]
    path: Path
