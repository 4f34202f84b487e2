"""The contract with plugins, hook by hook. Torch-free.

A plugin is one light module, named by an entry point of the group `nnkit`. It declares
`NNKIT_PLUGIN_API`, and functions marked with `@nnkit.hookimpl` that have the names below.

The collecting hooks are called plugin by plugin, so that one that raises harms nobody else. The
run-time hooks take one frozen request and may return None to leave it to the next in line: first the
handler that the architecture names itself, then the plugins', then core's. A hookimpl with
`wrapper=True` surrounds all of them.

In what follows, `spec` is the model with every choice made, `host` what a handler may ask of nnkit,
`name` what is typed and `summary` a line for people. The examples run as they stand, in a package
`nnkit_yours` whose files they name where there is more than `plugin.py`; names are those of `nnkit`.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pluggy

from nnkit.contract.architecture import Architecture
from nnkit.contract.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nnkit.verbs.exporting.report import ExportReport
    from nnkit.verbs.smoke.report import SmokeReport
    from nnkit.verbs.summary.report import SummaryReport

PLUGIN_API = "1.0"
CORE_FORMATS = ("onnx", "safetensors", "pt2")
CORE_EXECUTOR = "local"
OPTIMIZERS = ("sgd", "adam", "adamw")
CORE_CHECKS = tuple(
    "shapes finite gradients updates batch-independence batch-sizes determinism eval-state inputs-unchanged "
    "input-effect causality registry round-trip cast placement derivative "
    "overfit compile export autocast half train-determinism gradient-checkpointing channels-last".split()
)

hookspec = pluggy.HookspecMarker("nnkit")
hookimpl = pluggy.HookimplMarker("nnkit")


def _silent(line: str) -> None:
    """Report progress to nobody."""


class Host(Protocol):
    """What a handler may ask of nnkit: to call a hook, and what the plugins add."""

    @property
    def hook(self) -> pluggy.HookRelay: ...

    def checks(self) -> "list[Check]": ...

    def formulas(self) -> "list[OperatorFormula]": ...

    def exporters(self) -> "list[Exporter]": ...

    def owner(self, plugin: str) -> str: ...


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """Build `spec.architecture` under `spec.config`: the module alone, seeded and placed by core.

    Example:

        def build(request: BuildRequest):  # handlers={"build": "nnkit_yours.models:build"}
            from torch import nn

            return nn.Linear(784, request.spec.config.num_classes)

        assert build(BuildRequest(spec=resolve("simple-cnn"))).out_features == 10
    """

    spec: ModelSpec


@dataclass(frozen=True, kw_only=True)
class SummaryRequest:
    """Summarise `spec`; or `module`, which is built already, on `inputs`, and stays as it is.

    inputs, keywords: what forward takes by position and by name, tensors and others, for a module.
    optimizer: `sgd`, `adam` or `adamw`: tell the cost of a training step and the memory of it and of an
    inference on `device` as well; None: don't.
    fsdp: tell also what each of so many ranks needs that have the model sharded between them; None: don't.

    Example:

        def summarize(request: SummaryRequest):  # handlers={"summary": "nnkit_yours.models:summarize"}
            seen.append(request.spec.name)  # and None: the next in line does it

        seen = []
        summarize(SummaryRequest(spec=resolve("simple-cnn"), host=manager))
        assert seen == ["vision/simple-cnn"]
    """

    spec: ModelSpec
    host: "Host"
    module: "nn.Module | None" = None
    inputs: tuple[Any, ...] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    device: str = "cpu"
    fsdp: int | None = None


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a file is to be written; each format heeds those that concern it.

    opset: of ONNX, None for the exporter's own. fixed: dims that keep their one size. static: all do.
    input_names, output_names: other names than the declared ones. float32_io: inputs and outputs of a
    float16 model in float32. optimize: let ONNX Runtime fold and fuse what it can. external_data:
    weights in a file beside it; None: where they take more than 1.5 GB. max_shard_size: of safetensors,
    like `5GB`, several files where the weights take more.

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
    """Write `spec` to `path` as `format` (`onnx`, `safetensors`, `pt2` or a plugin's) and prove it.

    inputs: example inputs in the place of random ones; then no axis is dynamic. verify: whether the
    proof is made. device: where the module is built, traced and run (as typed: `cpu`, `cuda:1`, `auto`).
    force: whether a file that is there is replaced. options: how it is written. progress: called with a
    line that says what is being done.

    Example:

        def write(request: ExportRequest):  # handlers={"export": "nnkit_yours.models:write"}
            if request.format != "onnx" or request.options.static:
                return None  # the next in line does it
            raise NnkitError(f"{request.path} needs fixed sizes", "add --static")

        assert write(
            ExportRequest(spec=resolve("gcn"), host=manager, path=Path("m.pt2"), format="pt2")
        ) is None
    """

    spec: ModelSpec
    host: "Host"
    path: Path
    format: str
    inputs: "tuple[Tensor, ...] | None" = None
    force: bool = False
    verify: bool = True
    device: str = "cpu"
    options: ExportOptions = field(default_factory=ExportOptions)
    progress: Callable[[str], None] = _silent


@dataclass(frozen=True, kw_only=True)
class WriteRequest:
    """Write `module`, which is in eval mode, to `path`.

    inputs: example inputs that forward takes by position. keywords: those behind them that it takes by name.
    dynamic: for each of both, axis -> name of the dim that may take other sizes; None where all stay.
    input_names, output_names: what the file calls them.

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

    spec: ModelSpec
    module: "nn.Module"
    path: Path
    inputs: "tuple[Tensor, ...]"
    dynamic: "tuple[dict[int, str] | None, ...]"
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    keywords: "Mapping[str, Tensor]" = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """A format to export to.

    name: as in `--format NAME`. suffix: of its files, with the dot. write: `module:function`, called
    with a WriteRequest. run: `module:function`, called with the path; returns a function of the inputs
    (a tuple of tensors) to a list of tensors, and with it the file is proven: without it, nothing is.
    weights: `module:function`, called with the path; returns the tensors in it by their names in the
    module, which are then compared bit for bit. stamp: `module:function`, called with the path and a
    text, the ModelSpec and the proof as JSON, to put it into the file. requires: packages that must be
    installed, each with the command that installs it.

    Example:

        exporter = Exporter(
            name="openvino",
            suffix=".xml",
            summary="OpenVINO IR",
            write="nnkit_openvino.openvino_ir:write",
            run="nnkit_openvino.openvino_ir:run",
            requires={"openvino": "pip install openvino"},
        )
        assert exporter.weights is None  # the file is proven by running it
    """

    name: str
    suffix: str
    summary: str
    write: str
    run: str | None = None
    weights: str | None = None
    stamp: str | None = None
    requires: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SmokeRequest:
    """Run the checks on `spec` on `device` (as typed: `cpu`, `cuda:1`, `auto`).

    simulate: `cuda`, `xpu` or `mps`: the placement alone, on a fake one of these; then no device of the
    machine is meant, and `device` is no name of one.
    checks: the names of those to run, None for all. full: those that take long, too. compiled: on the
    model as torch.compile makes it. inputs: example inputs in the place of random ones. progress: called
    with a check's name.
    parallel: `ddp`, `fsdp` or `tp`: prove instead that it trains so over many ranks as it does in one
    process. processes: how many to start; None: this is a rank that torchrun has started. time_limit: of
    all ranks, in seconds.

    Example:

        def smoke_run(request: SmokeRequest):  # handlers={"smoke-run": "nnkit_yours.models:smoke_run"}
            if request.device == "cpu":
                return None  # the next in line does it
            skipped = CheckResult("all", "skipped", f"not made for {request.device}")
            return SmokeReport(request.spec, request.device, (skipped,))

        assert smoke_run(SmokeRequest(spec=resolve("gcn"), host=manager, device="mps")).passed
    """

    spec: ModelSpec
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
    progress: Callable[[str], None] = _silent


@dataclass(frozen=True, kw_only=True)
class Check:
    """A smoke check: `run`, `module:function`, is called with a `nnkit.Subject`.

    It returns what it found, or raises `nnkit.Failed` (`Warned`, `Skipped`) with the reason.
    full: it takes long, and is left to `--full`.

    Example:

        check = Check(name="bounded", summary="Outputs stay small", run="nnkit_yours.checks:bounded")
        assert not check.full
    """

    name: str
    summary: str
    run: str
    full: bool = False


@dataclass(frozen=True, kw_only=True)
class OperatorFormula:
    """What a call of an operator of the plugin's own costs.

    operator: its qualified name, `namespace::name`. macs: `module:function`, called as
    `function(args, kwargs, result)`; returns the multiply-adds, or None to leave the call out.

    Example:

        def scan_macs(args, kwargs, result):
            return args[0].numel()

        formula = OperatorFormula(operator="yours::scan", macs="nnkit_yours.counting:scan_macs")
        assert formula.operator.count("::") == 1
    """

    operator: str
    macs: str


Plain: TypeAlias = Mapping[str, Any]
"""Numbers, text, lists and mappings of them: what JSON can tell and every pickle can carry."""


@dataclass(frozen=True, kw_only=True)
class ExecuteRequest:
    """Call `function` with each of `tasks`, wherever that may be.

    function: takes a task and returns what became of it; a module's own function, so it is pickled by its
    name. It starts a process for the model, watches it, and returns within `time_limit` seconds and a
    moment. jobs: how many tasks at once, None for as many as suits. memory_limit: in bytes, that a task may
    take, None for no limit.

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
"""Tasks in the order in which they end, each with what the function returned, or with the error that kept it
from returning."""


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Where the models of a sweep run.

    name: as in `--executor NAME`. run: `module:generator function`, called with an ExecuteRequest, yields
    what `Executed` says. When it is closed, or Ctrl-C interrupts it, it cancels what hasn't ended: that is
    what its `finally` is for. requires: packages that must be installed, each with the command that
    installs it.

    Example:

        executor = Executor(
            name="slurm",
            summary="an array of Slurm jobs",
            run="nnkit_slurm.slurm:run",
            requires={"submitit": "pip install submitit"},
        )
        assert executor.name == "slurm"
    """

    name: str
    summary: str
    run: str
    requires: Mapping[str, str] = field(default_factory=dict)


@hookspec
def nnkit_architectures() -> Iterable[Architecture]:  # type: ignore[empty-body]
    """Return the architectures that the plugin declares.

    Example:

        @dataclass(frozen=True, kw_only=True)
        class NetConfig:
            width: Annotated[int, Meta(ge=1, description="units of the layer")] = 16

        @hookimpl
        def nnkit_architectures() -> list[Architecture]:
            return [
                Architecture(
                    name="net",
                    summary="One linear layer",
                    build="nnkit_yours.net:Net",
                    config=NetConfig,
                    inputs=[TensorSpec("x", ("batch", 8))],
                    outputs=[TensorSpec("y", ("batch", "width"))],
                    dims={"batch": Dim(default=1, description="samples at once")},
                )
            ]

        # nnkit_yours/net.py
        from torch import nn

        class Net(nn.Module):
            def __init__(self, config):
                super().__init__()
                self.layer = nn.Linear(8, config.width)

            def forward(self, x):
                return self.layer(x)
    """


@hookspec
def nnkit_checks() -> Iterable[Check]:  # type: ignore[empty-body]
    """Return further checks for `nnkit smoke-run`.

    Example:

        @hookimpl
        def nnkit_checks() -> list[Check]:
            return [Check(name="bounded", summary="Outputs stay small", run="nnkit_yours.checks:bounded")]

        # nnkit_yours/checks.py
        def bounded(subject: Subject) -> str:
            outputs = subject.outputs(subject.fresh(), subject.inputs())
            largest = max(float(tensor.detach().abs().max()) for declared, tensor in outputs)
            if largest > 1000:
                raise Failed(f"an output is {largest:.3g}")
            return f"at most {largest:.3g}"
    """


@hookspec
def nnkit_formulas() -> Iterable[OperatorFormula]:  # type: ignore[empty-body]
    """Return how to count operators that torch doesn't have.

    Example:

        @hookimpl
        def nnkit_formulas() -> list[OperatorFormula]:
            return [OperatorFormula(operator="yours::scan", macs="nnkit_yours.counting:scan_macs")]

        # nnkit_yours/counting.py
        def scan_macs(args, kwargs, result):
            return args[0].numel()
    """


@hookspec
def nnkit_exporters() -> Iterable[Exporter]:  # type: ignore[empty-body]
    """Return further formats for `nnkit export`.

    Example:

        @hookimpl
        def nnkit_exporters() -> list[Exporter]:
            return [
                Exporter(
                    name="state",
                    suffix=".state",
                    summary="the state dict, by torch.save",
                    write="nnkit_yours.state:write",
                )
            ]

        # nnkit_yours/state.py
        import torch

        def write(request: WriteRequest) -> None:
            torch.save(request.module.state_dict(), request.path)
    """


@hookspec
def nnkit_executors() -> Iterable[Executor]:  # type: ignore[empty-body]
    """Return further places for the models of a sweep to run: `nnkit smoke-run --all --executor NAME`.

    Example:

        @hookimpl
        def nnkit_executors() -> list[Executor]:
            return [Executor(name="pool", summary="processes", run="nnkit_yours.running:run")]

        # nnkit_yours/running.py
        from concurrent.futures import ProcessPoolExecutor, as_completed

        def run(request: ExecuteRequest) -> Executed:
            with ProcessPoolExecutor(request.jobs) as pool:
                futures = {pool.submit(request.function, task): task for task in request.tasks}
                try:
                    for future in as_completed(futures):
                        yield futures[future], future.exception() or future.result()
                finally:
                    pool.shutdown(cancel_futures=True)
    """


@hookspec(firstresult=True)
def nnkit_build(request: BuildRequest) -> "nn.Module | None":
    """Return the module for `request.spec`, or None to leave it to the next handler.

    Example:

        @hookimpl
        def nnkit_build(request: BuildRequest):
            if request.spec.plugin != "yours":
                return None
            from torch import nn

            return nn.Linear(8, request.spec.config.width)
    """


@hookspec(firstresult=True)
def nnkit_summarize(request: SummaryRequest) -> "SummaryReport | None":
    """Return the summary of `request.spec`, or None to leave it to the next handler.

    Example:

        @hookimpl(wrapper=True)
        def nnkit_summarize(request: SummaryRequest):
            report = yield  # whoever made it
            return replace(report, reason="seen by yours")
    """


@hookspec(firstresult=True)
def nnkit_export(request: ExportRequest) -> "ExportReport | None":
    """Write and prove the file that `request` asks for, or return None to leave it to the next handler.

    Example:

        @hookimpl(wrapper=True)
        def nnkit_export(request: ExportRequest):
            started = time.perf_counter()
            report = yield
            request.progress(f"{report.file} took {time.perf_counter() - started:.1f} s")
            return report
    """


@hookspec(firstresult=True)
def nnkit_smoke_run(request: SmokeRequest) -> "SmokeReport | None":
    """Run the checks that `request` asks for, or return None to leave it to the next handler.

    Example:

        @hookimpl
        def nnkit_smoke_run(request: SmokeRequest):
            if request.spec.plugin != "yours" or request.device == "cpu":
                return None
            raise NnkitError("this network is made for the CPU", "leave --device out")
    """


HOOK_OF_VERB = {
    "build": "nnkit_build",
    "summary": "nnkit_summarize",
    "export": "nnkit_export",
    "smoke-run": "nnkit_smoke_run",
}
