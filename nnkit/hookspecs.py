"""The contract with plugins, hook by hook. Torch-free.

A plugin is one light module, named by an entry point of the group `nnkit`. It declares
`NNKIT_PLUGIN_API`, and functions marked with `@nnkit.hookimpl` that have the names below.

The collecting hooks are called plugin by plugin, so that one that raises harms nobody else. The
run-time hooks take one frozen request and may return None to leave it to the next in line: first the
handler that the architecture names itself, then the plugins', then core's. A hookimpl with
`wrapper=True` surrounds all of them.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pluggy

from nnkit.architecture import Architecture
from nnkit.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nnkit.exporting.report import ExportReport
    from nnkit.smoke.report import SmokeReport
    from nnkit.summary.report import SummaryReport

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


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """Build `spec.architecture` under `spec.config`: the module alone, seeded and placed by core."""

    spec: ModelSpec


@dataclass(frozen=True, kw_only=True)
class SummaryRequest:
    """Summarise `spec`; or `module`, which is built already, on `inputs`, and stays as it is.

    inputs, keywords: what forward takes by position and by name, tensors and others, for a module.
    optimizer: `sgd`, `adam` or `adamw`: tell the cost of a training step and the memory of it and of an
    inference on `device` as well; None: don't.
    """

    spec: ModelSpec
    host: "Host"
    module: "nn.Module | None" = None
    inputs: tuple[Any, ...] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str | None = None
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a file is to be written; each format heeds those that concern it.

    opset: of ONNX, None for the exporter's own. fixed: dims that keep their one size. static: all do.
    input_names, output_names: other names than the declared ones. float32_io: inputs and outputs of a
    float16 model in float32. optimize: let ONNX Runtime fold and fuse what it can. external_data:
    weights in a file beside it; None: where they take more than 1.5 GB. max_shard_size: of safetensors,
    like `5GB`, several files where the weights take more.
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
    progress: called with a line that says what is being done.
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

    inputs: example inputs in order. dynamic: for each of them, axis -> name of the dim that may take
    other sizes; None where all stay. input_names, output_names: what the file calls them.
    """

    spec: ModelSpec
    module: "nn.Module"
    path: Path
    inputs: "tuple[Tensor, ...]"
    dynamic: "tuple[dict[int, str] | None, ...]"
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]


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

    checks: the names of those to run, None for all. full: those that take long, too. compile: on the
    model as torch.compile makes it. inputs: example inputs in the place of random ones. progress: called
    with a check's name.
    """

    spec: ModelSpec
    host: "Host"
    device: str = "cpu"
    inputs: "tuple[Tensor, ...] | None" = None
    checks: tuple[str, ...] | None = None
    full: bool = False
    compile: bool = False
    progress: Callable[[str], None] = _silent


@dataclass(frozen=True, kw_only=True)
class Check:
    """A smoke check: `run` is called with a `nnkit.smoke.checks.Subject`.

    It returns what it found, or raises `nnkit.smoke.checks.Failed` (or `Warned`) with the fault.
    full: it takes long, and is left to `--full`.
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
    """

    name: str
    summary: str
    run: str
    requires: Mapping[str, str] = field(default_factory=dict)


@hookspec
def nnkit_architectures() -> Iterable[Architecture]:  # type: ignore[empty-body]
    """Return the architectures that the plugin declares.

    @nnkit.hookimpl
    def nnkit_architectures():
        return [Architecture(name="perceptron", build="nnkit_perceptron.model:Perceptron", ...)]
    """


@hookspec
def nnkit_checks() -> Iterable[Check]:  # type: ignore[empty-body]
    """Return further checks for `nnkit smoke-run`."""


@hookspec
def nnkit_formulas() -> Iterable[OperatorFormula]:  # type: ignore[empty-body]
    """Return how to count operators that torch doesn't have.

    @nnkit.hookimpl
    def nnkit_formulas():
        return [OperatorFormula(operator="yours::scan", macs="nnkit_yours.counting:scan_macs")]
    """


@hookspec
def nnkit_exporters() -> Iterable[Exporter]:  # type: ignore[empty-body]
    """Return further formats for `nnkit export`.

    @nnkit.hookimpl
    def nnkit_exporters():
        return [Exporter(name="yours", suffix=".yrs", summary="...", write="nnkit_yours.writing:write")]
    """


@hookspec
def nnkit_executors() -> Iterable[Executor]:  # type: ignore[empty-body]
    """Return further places for the models of a sweep to run: `nnkit smoke-run --all --executor NAME`.

    @nnkit.hookimpl
    def nnkit_executors():
        return [Executor(name="threads", summary="...", run="nnkit_yours.running:run")]

    def run(request):
        with ThreadPoolExecutor(request.jobs) as pool:
            futures = {pool.submit(request.function, task): task for task in request.tasks}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.exception() or future.result()
            finally:
                pool.shutdown(cancel_futures=True)
    """


@hookspec(firstresult=True)
def nnkit_build(request: BuildRequest) -> "nn.Module | None":
    """Return the module for `request.spec`, or None to leave it to the next handler."""


@hookspec(firstresult=True)
def nnkit_summarize(request: SummaryRequest) -> "SummaryReport | None":
    """Return the summary of `request.spec`, or None to leave it to the next handler."""


@hookspec(firstresult=True)
def nnkit_export(request: ExportRequest) -> "ExportReport | None":
    """Write and prove the file that `request` asks for, or return None."""


@hookspec(firstresult=True)
def nnkit_smoke_run(request: SmokeRequest) -> "SmokeReport | None":
    """Run the checks that `request` asks for, or return None."""


HOOK_OF_VERB = {
    "build": "nnkit_build",
    "summary": "nnkit_summarize",
    "export": "nnkit_export",
    "smoke-run": "nnkit_smoke_run",
}
