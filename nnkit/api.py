"""The verbs for Python: resolve, call the handler, return the report.

Each takes a reference (`"resnet18"`, `"net.yaml"`), a ModelSpec, or a `torch.nn.Module` with example
inputs. Options are config fields, dims, `seed`, `dtype` and `weights`, by name.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nnkit.contract.requests import (
    CORE_EXECUTOR,
    CORE_FORMATS,
    ExportOptions,
    ExportRequest,
    SmokeRequest,
    SummaryRequest,
    ignore_progress,
)
from nnkit.contract.spec import AS_BUILT, ModelSpec, make_spec
from nnkit.errors import NnkitError, UsageProblem
from nnkit.host.plugin_manager import PluginManager
from nnkit.models.process import neutral_torch, one_at_a_time
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nnkit.verbs.benchmarking.report import BenchReport
    from nnkit.verbs.exporting.report import ExportReport, ExportsReport, VerifyReport
    from nnkit.verbs.smoke.report import SmokeReport
    from nnkit.verbs.summary.comparison import CompareReport
    from nnkit.verbs.summary.file_report import FileReport
    from nnkit.verbs.summary.report import SummaryReport
    from nnkit.verbs.sweep.report import ModelResult, SweepReport

    Inputs: TypeAlias = Tensor | Sequence[Any] | Mapping[str, Any] | None


@one_at_a_time
def resolve(
    reference: str, *, preset: str | None = None, manager: PluginManager | None = None, **options: Any
) -> ModelSpec:
    """Return the spec that a reference and options stand for.

    Raises UsageProblem for what can't be, with the nearest name.
    """
    return look_up(reference, manager or plugin_manager()).resolve(preset, options)


@one_at_a_time
def build(
    reference: "str | ModelSpec",
    *,
    device: "str | torch.device" = "cpu",
    preset: str | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "nn.Module":
    """Return the module, in eval mode, on `device`; on `"meta"` it has shapes and no weights.

        nnkit.build("resnet18", num_classes=10)

    Raises UsageProblem for an unknown name or option, PluginProblem when building fails.
    """
    from nnkit.models.building import build_module
    from nnkit.models.devices import find_device

    manager = manager or plugin_manager()
    spec, _ = _target(reference, None, preset, manager, options)
    with neutral_torch(spec):
        return build_module(spec, manager, "meta" if device == "meta" else find_device(str(device)))


@one_at_a_time
def summarize(
    target: "str | ModelSpec | nn.Module",
    inputs: "Inputs" = None,
    *,
    optimizer: str | None = None,
    device: str = "cpu",
    fsdp: int | None = None,
    preset: str | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "SummaryReport":
    """Return what is in a model, step by step, and what it costs.

    inputs: what a module takes: a tensor, a sequence of positional arguments of any kind, or a mapping
    of keyword arguments; the module stays as it is. For anything else they are made.
    optimizer: `sgd`, `adam` or `adamw`: tell also what a training step with it costs, and the memory of
    it and of an inference, on `device` (`cpu`, `cuda`, …).
    fsdp: tell also what each of so many ranks needs that have the model sharded between them, with
    `adamw` unless another optimizer is given. No rank is started.

    Raises ForwardFailed, whose `report` has the rows up to the failure.
    """
    manager = manager or plugin_manager()
    request = _summary_request(target, inputs, optimizer, device, preset, manager, options)
    with neutral_torch(request.spec, request.module):
        report: SummaryReport = manager.hook.nnkit_summarize(request=replace(request, fsdp=fsdp))
    return report


@one_at_a_time
def fit(
    target: "str | ModelSpec",
    memory: str | int,
    *,
    dim: str = "batch",
    optimizer: str = "adam",
    device: str = "cpu",
    preset: str | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "SummaryReport":
    """Return the summary with the largest `dim` whose training step fits into `memory`.

        nnkit.fit("resnet18", "16GB").fit.training

    memory: bytes, or text like `16GB` (16·10⁹) or `16GiB`. Where no training step fits, the summary is
    of the largest inference, else of the smallest size; `report.fit` has both sizes.
    """
    from nnkit.verbs.summary.fitting import fit_into, parse_size

    manager = manager or plugin_manager()
    request = _summary_request(target, None, optimizer, device, preset, manager, options)
    limit = memory if isinstance(memory, int) else parse_size(memory)
    with neutral_torch(request.spec):
        return fit_into(request, dim, limit)


@one_at_a_time
def compare(
    *targets: "str | ModelSpec",
    optimizer: str | None = None,
    device: str = "cpu",
    manager: PluginManager | None = None,
) -> "CompareReport":
    """Return two or more models side by side and, for two, what differs layer by layer.

        nnkit.compare("resnet18", nnkit.resolve("resnet18", num_classes=100)).changes

    optimizer, device: compare the memory that they need as well, as in `summarize`.
    """
    from nnkit.verbs.summary.comparison import compare

    if len(targets) < 2:
        raise UsageProblem("compare takes two models or more", 'nnkit.compare("resnet18", "resnet34")')
    manager = manager or plugin_manager()
    return compare([summarize(each, optimizer=optimizer, device=device, manager=manager) for each in targets])


@one_at_a_time
def inspect_file(path: str | Path, *, stats: bool = False) -> "FileReport":
    """Return what is in a model file of anybody's: ONNX, safetensors (its index too), or `.pt`.

    stats: read the values too, and tell their smallest, largest, mean, spread and how many are NaN.
    """
    from nnkit.verbs.summary.files import inspect_file

    return inspect_file(Path(path), stats)


def _summary_request(
    target: "str | ModelSpec | nn.Module",
    inputs: "Inputs",
    optimizer: str | None,
    device: str,
    preset: str | None,
    manager: PluginManager,
    options: dict[str, Any],
) -> SummaryRequest:
    args, keywords = _arguments(inputs)
    given = None if inputs is None else (*args, *keywords.values())
    spec, module = _target(target, given, preset, manager, options)
    spec.require_support("summary")
    return SummaryRequest(
        spec=spec, host=manager, module=module, inputs=args, keywords=keywords, optimizer=optimizer,
        device=device,
    )  # fmt: skip


@one_at_a_time
def export(
    target: "str | ModelSpec | nn.Module",
    path: str | Path,
    inputs: "Sequence[Tensor] | None" = None,
    *,
    format: str | None = None,
    force: bool = False,
    verify: bool = True,
    device: str = "cpu",
    how: ExportOptions | None = None,
    opset: int | None = None,
    preset: str | None = None,
    progress: Callable[[str], None] | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "ExportReport":
    """Write a model to `path` and prove that the file is right.

        nnkit.export("gcn", "graph.onnx", how=nnkit.ExportOptions(static=True))

    format: `onnx`, `safetensors`, `pt2` or a plugin's, by default what the suffix of `path` says.
    force: replace a file that is there. verify: whether to prove it. device: where the model is built,
    traced and run. how: names, fixed dims and what else a format knows; `opset` is short for one of them.

    Raises VerificationFailed when the proof doesn't hold; then no file is left, and what was there
    before still is.
    """
    manager, path = manager or plugin_manager(), Path(path)
    spec, module = _target(target, inputs, preset, manager, options)
    format = format or format_of(path, manager)
    suffix = suffix_of(format, manager)
    if format in formats_of(manager) and path.suffix != suffix:
        # A file is known by its name wherever it is read again.
        raise UsageProblem(f"a file of {format} ends in {suffix}", f"call it {path.stem}{suffix}")
    spec.require_support("export", format)
    how = how or ExportOptions()
    request = ExportRequest(
        spec=spec, host=manager, path=path, format=format, inputs=_tuple(inputs), force=force, verify=verify,
        device=device, options=how if opset is None else replace(how, opset=opset),
        progress=progress or ignore_progress,
    )  # fmt: skip
    with neutral_torch(spec, module):
        report: ExportReport = manager.hook.nnkit_export(request=request)
    return report


@one_at_a_time
def verify(
    path: str | Path,
    against: "str | ModelSpec | nn.Module | None" = None,
    inputs: "Sequence[Tensor] | None" = None,
    *,
    named: bool | None = None,
    preset: str | None = None,
    progress: Callable[[str], None] | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "VerifyReport":
    """Prove again that a file is the model, wherever it came from.

        nnkit.verify("gcn.onnx")
        nnkit.verify("theirs.onnx", against="resnet18", weights="theirs.safetensors")

    against: the model that it should be; by default the one that a file of nnkit's names itself.
    named: whether that says what its weights are, as it does where it is given; otherwise those that a
    file was made from are taken from it, and held against their digest.
    Raises VerificationFailed when the proof doesn't hold.
    """
    from nnkit.verbs.exporting.verifying import VerifyRequest, verify

    manager, path = manager or plugin_manager(), Path(path)
    spec, module = _target(str(path) if against is None else against, inputs, preset, manager, options)
    if named is None:
        named = against is not None or "weights" in options
    request = VerifyRequest(path, spec, manager, _tuple(inputs), named, progress or ignore_progress)
    with neutral_torch(spec, module):
        return verify(request)


@one_at_a_time
def export_all(
    target: "str | ModelSpec",
    folder: str | Path,
    *,
    force: bool = False,
    verify: bool = True,
    device: str = "cpu",
    how: ExportOptions | None = None,
    preset: str | None = None,
    progress: Callable[[str], None] | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "ExportsReport":
    """Write a model to `folder` in every format there is; one that fails doesn't keep the others from it.

    Left out are those that the architecture declares that it can't serve, and those that need a package
    that isn't installed. Of `how`, each format heeds what concerns it.
    """
    from nnkit.verbs.exporting.formats import relevant_options
    from nnkit.verbs.exporting.report import ExportReport, ExportsReport

    manager, how = manager or plugin_manager(), how or ExportOptions()
    spec, _ = _target(target, None, preset, manager, options)
    reports: list[ExportReport] = []
    failures: dict[str, NnkitError] = {}
    for format in formats_of(manager):
        path = Path(folder, spec.architecture.name + suffix_of(format, manager))
        try:
            reports.append(
                export(
                    spec, path, format=format, force=force, verify=verify, device=device,
                    how=relevant_options(how, format), progress=progress, manager=manager,
                )
            )  # fmt: skip
        except NnkitError as error:
            failures[format] = error
    return ExportsReport(spec, tuple(reports), failures)


def formats_of(manager: PluginManager) -> list[str]:
    """Return the names of all formats, core's first."""
    return [*CORE_FORMATS, *(each.name for each in manager.exporters())]


def format_of(path: Path, manager: PluginManager) -> str:
    """Return the format whose suffix a path has."""
    suffixes = {each.suffix: each.name for each in manager.exporters()}
    return suffixes.get(path.suffix, path.suffix.removeprefix("."))


def suffix_of(format: str, manager: PluginManager) -> str:
    """Return the suffix of the files of a format."""
    suffixes = {each.name: each.suffix for each in manager.exporters()}
    return suffixes.get(format, f".{format}")


@one_at_a_time
def smoke_run(
    target: "str | ModelSpec | nn.Module",
    inputs: "Sequence[Tensor] | None" = None,
    *,
    device: str = "cpu",
    simulate: str | None = None,
    checks: Sequence[str] | None = None,
    full: bool = False,
    compiled: bool = False,
    processes: int | None = None,
    parallel: str | None = None,
    time_limit: float | None = None,
    preset: str | None = None,
    progress: Callable[[str], None] | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "SmokeReport":
    """Run the checks on a model on `device` and return what each of them found.

    simulate: `cuda`, `xpu` or `mps`: check the placement alone, on a fake one of these, in the place of
    `device`; then `target` must be named, and is built in another process.
    checks: the names of those to run alone. full: run those that take long, too. compiled: check what
    torch.compile makes of the model. A module is checked on a copy, so it stays as it is.
    processes, parallel: start so many ranks and prove instead that the model trains over them, by `ddp`
    (which is the default), `fsdp` or `tp`, as it does in one process; `parallel` alone is for a process that
    torchrun has started. time_limit: of the ranks, in seconds.

        nnkit.smoke_run("resnet18", processes=2, parallel="fsdp").passed

    Raises UsageProblem for a device that isn't there or a check that isn't known, and NnkitError for a rank
    that fails or hangs.
    """
    if simulate is not None:
        if device != "cpu":
            raise UsageProblem("a device that is there isn't simulated", "give device or simulate")
        device = f"{simulate} (simulated)"  # no handler that doesn't know simulations finds it
    manager = manager or plugin_manager()
    spec, module = _target(target, inputs, preset, manager, options)
    spec.require_support("smoke-run")
    request = SmokeRequest(
        spec=spec, host=manager, device=device, simulate=simulate, inputs=_tuple(inputs),
        checks=None if checks is None else tuple(checks), full=full, compiled=compiled,
        parallel=parallel if processes is None else parallel or "ddp", processes=processes,
        time_limit=time_limit, progress=progress or ignore_progress,
    )  # fmt: skip
    with neutral_torch(spec, module):
        report: SmokeReport = manager.hook.nnkit_smoke_run(request=request)
    return report


@one_at_a_time
def smoke_sweep(
    *patterns: str,
    device: str = "cpu",
    checks: Sequence[str] | None = None,
    full: bool = False,
    compiled: bool = False,
    seed: int = 0,
    dtype: str = AS_BUILT,
    sizes: Mapping[str, int] | None = None,
    results: str | Path | None = None,
    shard: tuple[int, int] = (1, 1),
    time_limit: float = 600.0,
    memory_limit: str | int | None = None,
    jobs: int | None = None,
    executor: str = CORE_EXECUTOR,
    finished: "Callable[[ModelResult, int, int], None] | None" = None,
    manager: PluginManager | None = None,
) -> "SweepReport":
    """Smoke-run many models, each in a process of its own, and return what became of them, worst first.

        nnkit.smoke_sweep("res*", "graph/*", results="zoo.jsonl", memory_limit="8GB").counts

    patterns: names, or patterns of names; without any, all architectures. device, checks, full, compiled: as
    in `smoke_run`. sizes: hold for those that have such a dim. results: the file that each result is added
    to; what is in it already isn't run again. shard: (i, n), part i of n. time_limit: in seconds,
    memory_limit: in bytes or like `8GB`, for each. jobs: how many at once. executor: `local` or a plugin's.
    finished: called with each result, its number and how many are planned.

    Raises UsageProblem before anything runs, and SweepStopped, whose `report` has what was finished, on
    Ctrl-C and where nothing more can be run.
    """
    from nnkit.verbs.summary.fitting import parse_size
    from nnkit.verbs.sweep.handler import SweepRequest, sweep

    request = SweepRequest(
        manager=manager or plugin_manager(), patterns=patterns, device=device,
        checks=None if checks is None else tuple(checks), full=full, compiled=compiled, seed=seed,
        dtype=dtype, sizes=sizes or {}, results=None if results is None else Path(results), shard=shard,
        time_limit=time_limit,
        memory_limit=parse_size(memory_limit) if isinstance(memory_limit, str) else memory_limit,
        jobs=jobs, executor=executor, finished=finished,
    )  # fmt: skip
    return sweep(request)


@one_at_a_time
def bench(
    *targets: "str | ModelSpec | nn.Module",
    inputs: "Sequence[Tensor] | None" = None,
    device: str = "cpu",
    training: bool = True,
    optimizer: str = "adam",
    rounds: int | None = None,
    time_limit: float = 10.0,
    threads: int | None = None,
    compiled: bool = False,
    preset: str | None = None,
    progress: Callable[[str, float], None] | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "BenchReport":
    """Measure one model, or two in turns: latency, throughput and peak memory of forward and training step.

        nnkit.bench("resnet18", "resnet34").ratios[0].verdict

    inputs: what modules are run with. training: whether the training step is measured, with `optimizer`.
    rounds: each model is measured twice in one, in each mode; by default as many as `time_limit`,
    seconds for each model in each mode, allows. threads: of torch on the CPU. compiled: by torch.compile.
    progress: called with what is being done and the share of all that is done.
    preset, options: of all targets that are no modules.
    """
    from nnkit.verbs.benchmarking.handler import BenchRequest, bench

    manager = manager or plugin_manager()
    found = [_target(each, inputs, preset, manager, options) for each in targets]
    request = BenchRequest(
        specs=tuple(spec for spec, _ in found), host=manager, inputs=_tuple(inputs), device=device,
        training=training, optimizer=optimizer, rounds=rounds, time_limit=time_limit, threads=threads,
        compiled=compiled, progress=progress or ignore_progress,
    )  # fmt: skip
    with ExitStack() as stack:
        for spec, module in found:
            stack.enter_context(neutral_torch(spec, module))
        return bench(request)


def _target(
    target: "str | ModelSpec | nn.Module",
    inputs: Sequence[Any] | None,
    preset: str | None,
    manager: PluginManager,
    options: dict[str, Any],
) -> "tuple[ModelSpec, nn.Module | None]":
    """Return the spec of whatever the caller named, and the module where it is one already."""
    if isinstance(target, str):
        return look_up(target, manager).resolve(preset, options), None
    if isinstance(target, ModelSpec):
        if not options and preset is None:
            return target, None
        base = target.to_dict()
        return make_spec(target.architecture, target.plugin, base=base, preset=preset, options=options), None
    from nnkit.models.user_modules import architecture_of_module

    if inputs is None:
        raise UsageProblem("a module needs example inputs", "pass them: nnkit.summarize(module, [x])")
    return make_spec(architecture_of_module(target, inputs), preset=preset, options=options), target


def _arguments(inputs: "Inputs") -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return what forward takes by position and by name."""
    if inputs is None:
        return (), {}
    if isinstance(inputs, Mapping):
        return (), inputs
    return tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,), {}


def _tuple(inputs: "Sequence[Tensor] | None") -> "tuple[Tensor, ...] | None":
    return None if inputs is None else tuple(inputs)
