"""The hooks that a plugin may implement. Torch-free.

A plugin is one light module, named by an entry point of the group `nnkit`. It declares
`NNKIT_PLUGIN_API`, and implements any of the hooks below as functions marked with `@nnkit.hookimpl`.

The collecting hooks return lists. They are called plugin by plugin, so one that raises affects no other.
The run-time hooks take one request of `nnkit.contract.requests`, and may return None to leave it to the
next handler. The order is: the handler named by the architecture, then the plugins', then core's. A
hookimpl with `wrapper=True` surrounds all of them.

The examples run as they are, in a package `nnkit_yours`. A comment names the file where it is not
`plugin.py`. They use the names of `nnkit`.
"""

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from nnkit.contract.architecture import Architecture
    from nnkit.contract.contributions import Check, Executor, Exporter, OperatorFormula, Picture
    from nnkit.contract.namespace import Namespace
    from nnkit.contract.requests import BuildRequest, ExportRequest, SmokeRequest, SummaryRequest
    from nnkit.verbs.exporting.report import ExportReport
    from nnkit.verbs.smoke.report import SmokeReport
    from nnkit.verbs.summary.report import SummaryReport

hookspec = pluggy.HookspecMarker("nnkit")
hookimpl = pluggy.HookimplMarker("nnkit")

HOOK_OF_VERB = {
    "build": "nnkit_build",
    "summary": "nnkit_summarize",
    "export": "nnkit_export",
    "smoke-run": "nnkit_smoke_run",
}


@hookspec
def nnkit_architectures() -> "Iterable[Architecture]":  # type: ignore[empty-body]
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
def nnkit_namespaces() -> "Iterable[Namespace]":  # type: ignore[empty-body]
    """Return the zoos whose architectures are too many to declare: `yours/net-1` to `yours/net-999`.

    Example:

        @hookimpl
        def nnkit_namespaces() -> list[Namespace]:
            return [
                Namespace(
                    prefix="yours",
                    summary="Linear layers of many widths",
                    package="nnkit_yours",
                    distribution="nnkit-yours",
                    install="pip install nnkit-yours",
                    names="nnkit_yours.zoo:names",
                    declare="nnkit_yours.zoo:declare",
                )
            ]

        # nnkit_yours/zoo.py
        WIDTHS = range(1, 1000)

        def names(folder: Path) -> list[ZooName]:
            return [ZooName(f"net-{width}", "linear") for width in WIDTHS]

        def declare(request: DeclareRequest) -> Architecture:
            width = int(request.name.removeprefix("net-"))
            return Architecture(
                name=request.name,
                summary=f"A linear layer of {width} units",
                build="nnkit_yours.zoo:build",
                config=open_config("NetOptions", {"width": OpenField(int, width)}),
                inputs=[TensorSpec("input", ("batch", 8))],
                outputs=[TensorSpec("output", ("batch", "width"))],
                dims={"batch": Dim(default=1)},
            )

        def build(config):
            from torch import nn

            return nn.Linear(8, config.width, **settings_of(config))
    """


@hookspec
def nnkit_checks() -> "Iterable[Check]":  # type: ignore[empty-body]
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
def nnkit_formulas() -> "Iterable[OperatorFormula]":  # type: ignore[empty-body]
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
def nnkit_exporters() -> "Iterable[Exporter]":  # type: ignore[empty-body]
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
def nnkit_pictures() -> "Iterable[Picture]":  # type: ignore[empty-body]
    """Return further formats for `nnkit graph`.

    Example:

        @hookimpl
        def nnkit_pictures() -> list[Picture]:
            return [
                Picture(
                    name="edge-list",
                    suffix=".edges",
                    summary="pairs of names",
                    draw="nnkit_yours.edges:draw",
                )
            ]

        # nnkit_yours/edges.py
        def draw(request: DrawRequest) -> str:
            keys = [node.key for node in request.report.nodes]
            return ", ".join(f"{keys[edge.source]} {keys[edge.target]}" for edge in request.report.edges)
    """


@hookspec
def nnkit_executors() -> "Iterable[Executor]":  # type: ignore[empty-body]
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
def nnkit_build(request: "BuildRequest") -> "nn.Module | None":
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
def nnkit_summarize(request: "SummaryRequest") -> "SummaryReport | None":
    """Return the summary of `request.spec`, or None to leave it to the next handler.

    Example:

        @hookimpl(wrapper=True)
        def nnkit_summarize(request: SummaryRequest):
            report = yield  # whoever made it
            return replace(report, reason="seen by yours")
    """


@hookspec(firstresult=True)
def nnkit_export(request: "ExportRequest") -> "ExportReport | None":
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
def nnkit_smoke_run(request: "SmokeRequest") -> "SmokeReport | None":
    """Run the checks that `request` asks for, or return None to leave it to the next handler.

    Example:

        @hookimpl
        def nnkit_smoke_run(request: SmokeRequest):
            if request.spec.plugin != "yours" or request.device == "cpu":
                return None
            raise NnkitError("this network is made for the CPU", "leave --device out")
    """


COLLECTING_HOOKS = tuple(
    name
    for name, value in list(globals().items())
    if hasattr(value, "nnkit_spec") and not value.nnkit_spec["firstresult"]
)
"""The hooks that are called once, when plugins are loaded: those that aren't `firstresult`."""
