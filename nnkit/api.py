"""The verbs for Python: each resolves its target, calls the handler and returns the report.

A target is a reference (`"resnet18"`, `"net.yaml"`, `"net.py:Net"`), a ModelSpec, or a `torch.nn.Module`.
`preset` names a preset. `manager` holds the plugins to use, by default all that are installed.

`inputs` for a module are examples: a tensor, a sequence of positional arguments, or a mapping of keyword
arguments. Each is a tensor, a number, text or None, or a dict, list, tuple or dataclass of these. Which axes
may vary is found by running the module; `report.spec.architecture.assumed` says what was found. For a module
or code of your own, `inputs` may be declarations instead, one or several, as typed after `--input`:
`inputs="x: float32[batch, 3, 224, 224]"`.

`options` are config fields, dims, `seed`, `dtype`, `weights`, `strict`, `with_` and `without`. For a module
or code of your own they are also fields of `Architecture`: `causal`, `unsupported`, `padding`, `permutation`,
`pointwise`, `tied`, `stochastic`, `straight_through`, `steps`, `constants`, `constraints` and `containers`.
If its class has a parameter of such a name, the option is that parameter.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnkit.contract.byte_sizes import parse_size
from nnkit.contract.contributions import CORE_EXECUTOR, CORE_FORMATS
from nnkit.contract.requests import (
    ExportOptions,
    ExportRequest,
    SmokeRequest,
    SummaryRequest,
    ignore_progress,
    ignore_report,
)
from nnkit.contract.spec import AS_BUILT, ModelSpec
from nnkit.errors import NnkitError, UsageProblem
from nnkit.host.plugin_manager import PluginManager
from nnkit.models.process import neutral_torch, one_at_a_time
from nnkit.models.targets import resolve_target
from nnkit.verbs.core_handlers import plugin_manager

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nnkit.models.targets import Inputs, Target
    from nnkit.verbs.benchmarking.report import BenchReport
    from nnkit.verbs.exporting.report import ExportReport, ExportsReport, VerifyReport
    from nnkit.verbs.graph.report import GraphReport
    from nnkit.verbs.smoke.report import SmokeReport
    from nnkit.verbs.summary.comparison import CompareReport
    from nnkit.verbs.summary.file_report import FileReport
    from nnkit.verbs.summary.report import SummaryReport
    from nnkit.verbs.sweep.report import ModelResult, SweepReport


@one_at_a_time
def resolve(
    reference: str,
    inputs: "str | Sequence[str] | None" = None,
    *,
    preset: str | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> ModelSpec:
    """Return the spec of a reference with these options.

        nnkit.resolve("net.py:Net", inputs="x: float32[batch, 8]")

    Raises UsageProblem for an unknown name, with the nearest one, and for a value that isn't allowed.
    """
    return resolve_target(reference, inputs, preset, options, manager or plugin_manager(), "resolve")[0]


@one_at_a_time
def build(
    reference: "str | ModelSpec",
    inputs: "str | Sequence[str] | None" = None,
    *,
    device: "str | torch.device" = "cpu",
    preset: str | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "nn.Module":
    """Return the module, in eval mode, on `device`; on `"meta"` it has shapes but no weights.

        nnkit.build("resnet18", num_classes=10)

    Raises UsageProblem for an unknown name or option, PluginProblem when building fails.
    """
    from nnkit.models.building import build_module
    from nnkit.models.devices import find_device

    manager = manager or plugin_manager()
    spec, _ = resolve_target(reference, inputs, preset, options, manager, "build")
    with neutral_torch(spec.plugin):
        return build_module(spec, manager, "meta" if device == "meta" else find_device(str(device)))


@one_at_a_time
def summarize(
    target: "Target",
    inputs: "Inputs" = None,
    *,
    optimizer: str | None = None,
    device: str = "cpu",
    fsdp: int | None = None,
    preset: str | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "SummaryReport":
    """Return the layers, shapes, parameters, multiply-adds and memory of a model.

    Args:
        inputs: arguments for a module, which is left unchanged: a tensor, a sequence of positional arguments,
            or a mapping of keyword arguments. For a reference or a spec they are made.
        optimizer: `sgd`, `adam` or `adamw`; also estimate the memory of an inference and of a training step.
        device: the device to estimate memory for (`cpu`, `cuda`, …).
        fsdp: also estimate the memory per rank when the model is sharded over this many ranks, with `adamw`
            unless `optimizer` is given. No rank is started.

    Raises ForwardFailed, whose `report` has the rows up to the failure.
    """
    manager = manager or plugin_manager()
    request = _summary_request(target, inputs, optimizer, device, preset, manager, options, "summarize")
    with neutral_torch(request.spec.plugin, request.module):
        report: SummaryReport = manager.hook.nnkit_summarize(request=replace(request, fsdp=fsdp))
    return report


@one_at_a_time
def graph(
    target: "Target | Path",
    inputs: "Inputs" = None,
    *,
    optimizer: str | None = None,
    device: str = "cpu",
    seconds: bool = False,
    preset: str | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "GraphReport":
    """Return the calls of a model, and which tensor flows from which to which.

        nnkit.graph("resnet18")  # a notebook shows it as a picture

    A Path of an ONNX file gives the nodes in it, in the modules that they come from if the file names them.
    Its path as text does the same, except for a file that nnkit wrote: then it gives the model.

    Args:
        inputs: as in `summarize`.
        optimizer: `sgd`, `adam` or `adamw`; also estimate what each call keeps for backward, and memory.
        device: the device to estimate memory for (`cpu`, `cuda`, …), and to take times on.
        seconds: also run the model on its weights, several times, and take the time of each call.

    Raises ForwardFailed, whose `report` has the rows up to the failure.
    """
    from nnkit.verbs.graph.handler import graph

    manager = manager or plugin_manager()
    is_plain = inputs is None and preset is None and not options
    if isinstance(target, str) and is_plain and _is_onnx_without_model(target, manager):
        target = Path(target)
    if isinstance(target, Path):
        if not is_plain:
            raise UsageProblem(
                f"the nodes of {target.name} take no inputs, preset or options",
                f"leave them out; to draw the model in a file that nnkit wrote, pass text: {str(target)!r}",
            )
        return _graph_of_file(target, manager)
    request = _summary_request(target, inputs, optimizer, device, preset, manager, options, "graph")
    with neutral_torch(request.spec.plugin, request.module):
        return graph(request, seconds)


def _is_onnx_without_model(text: str, manager: PluginManager) -> bool:
    path = Path(text)
    return path.suffix == ".onnx" and path.is_file() and _spec_in_file(path, manager) is None


def _spec_in_file(path: Path, manager: PluginManager) -> ModelSpec | None:
    """Return the spec in a file; None if nnkit didn't write it, or no plugin here declares its model."""
    try:
        return resolve_target(str(path), None, None, {}, manager, "graph")[0]
    except NnkitError:
        return None


def _graph_of_file(path: Path, manager: PluginManager) -> "GraphReport":
    from nnkit.verbs.graph.onnx_files import graph_of_file

    return graph_of_file(path, _spec_in_file(path, manager))


@one_at_a_time
def fit(
    target: "Target",
    memory: str | int,
    inputs: "Inputs" = None,
    *,
    dim: str = "batch",
    optimizer: str = "adam",
    device: str = "cpu",
    preset: str | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "SummaryReport":
    """Return the summary at the largest `dim` whose training step fits into `memory`.

        nnkit.fit("resnet18", "16GB").fit.training

    Args:
        memory: bytes, or text such as `16GB` (16·10⁹) or `16GiB`.

    If no training step fits, the summary is of the largest inference that does, else of the smallest size;
    `report.fit` has both sizes.
    """
    from nnkit.verbs.summary.fitting import fit_into

    manager = manager or plugin_manager()
    request = _summary_request(target, inputs, optimizer, device, preset, manager, options, "fit")
    limit = memory if isinstance(memory, int) else parse_size(memory)
    with neutral_torch(request.spec.plugin, request.module):
        # Other sizes need other inputs than the examples: they are drawn.
        return fit_into(replace(request, module=None, inputs=None, keywords={}), dim, limit)


@one_at_a_time
def compare(
    *targets: "Target",
    inputs: "Inputs" = None,
    optimizer: str | None = None,
    device: str = "cpu",
    manager: PluginManager | None = None,
) -> "CompareReport":
    """Compare two or more models side by side, and two of them layer by layer.

        nnkit.compare("resnet18", nnkit.resolve("resnet18", num_classes=100)).changes

    Args:
        inputs: for the modules among the targets.
        optimizer: also compare the memory for training with it, on `device`; as in `summarize`.
    """
    from nnkit.verbs.summary.comparison import compare

    if len(targets) < 2:
        raise UsageProblem("compare takes two or more models", 'nnkit.compare("resnet18", "resnet34")')
    manager = manager or plugin_manager()
    return compare(
        [
            summarize(
                target, _inputs_for(target, inputs), optimizer=optimizer, device=device, manager=manager
            )
            for target in targets
        ]
    )


@one_at_a_time
def inspect_file(path: str | Path, *, stats: bool = False) -> "FileReport":
    """Return the contents of any model file: ONNX, safetensors (or its index), or `.pt`.

    Args:
        stats: also read the values: minimum, maximum, mean, standard deviation, and how many are NaN.
    """
    from nnkit.verbs.summary.files import inspect_file

    return inspect_file(Path(path), stats)


def _summary_request(
    target: "Target",
    inputs: "Inputs",
    optimizer: str | None,
    device: str,
    preset: str | None,
    manager: PluginManager,
    options: dict[str, Any],
    verb: str,
) -> SummaryRequest:
    spec, module = resolve_target(target, inputs, preset, options, manager, verb)
    spec.require_support("summary")
    args, keywords = ((), {}) if module is None else _arguments_of(spec, module, inputs)
    return SummaryRequest(
        spec=spec,
        host=manager,
        module=module,
        inputs=args,
        keywords=keywords,
        optimizer=optimizer,
        device=device,
    )


@one_at_a_time
def export(
    target: "Target",
    path: str | Path,
    inputs: "Inputs" = None,
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
    """Write a model to `path` and prove that the file matches the model.

        nnkit.export("gcn", "graph.onnx", how=nnkit.ExportOptions(static=True))

    Args:
        inputs: example inputs for a module.
        format: `onnx`, `safetensors`, `pt2` or a plugin's; by default the one of the suffix of `path`.
        force: replace an existing file.
        verify: prove the file before it is put in place.
        device: where the model is built, traced and run.
        how: names, fixed dims and other options of the format.
        opset: short for `how=ExportOptions(opset=…)`.
        progress: called with a line about each step.

    Raises VerificationFailed if the proof fails. Then no file is left, and an existing one is untouched.
    """
    manager, path = manager or plugin_manager(), Path(path)
    spec, module = resolve_target(target, inputs, preset, options, manager, "export")
    format = format or format_of(path, manager)
    suffix = suffix_of(format, manager)
    if format in formats_of(manager) and path.suffix != suffix:
        # The suffix is how every reader recognizes the format.
        raise UsageProblem(f"a file of {format} ends in {suffix}", f"call it {path.stem}{suffix}")
    spec.require_support("export", format)
    how = how or ExportOptions()
    request = ExportRequest(
        spec=spec,
        host=manager,
        path=path,
        format=format,
        force=force,
        verify=verify,
        device=device,
        options=how if opset is None else replace(how, opset=opset),
        progress=progress or ignore_progress,
    )
    with neutral_torch(spec.plugin, module):
        report: ExportReport = manager.hook.nnkit_export(request=request)
    return report


@one_at_a_time
def verify(
    path: str | Path,
    against: "Target | None" = None,
    inputs: "Inputs" = None,
    *,
    named: bool | None = None,
    preset: str | None = None,
    progress: Callable[[str], None] | None = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "VerifyReport":
    """Prove that a file matches a model: again for a file that nnkit wrote, or for anyone's.

        nnkit.verify("gcn.onnx")
        nnkit.verify("theirs.onnx", against="resnet18", weights="theirs.safetensors")

    Args:
        against: the model to compare with; by default the one that nnkit named in the file.
        inputs: example inputs for a module.
        named: take the weights from `against`, the default if it or `weights` is given. Otherwise take them
            from the file, and compare them with the digest that nnkit wrote.
        progress: called with a line about each step.

    Raises VerificationFailed if the proof fails.
    """
    from nnkit.verbs.exporting.verifying import VerifyRequest, verify

    manager, path = manager or plugin_manager(), Path(path)
    spec, module = resolve_target(
        str(path) if against is None else against, inputs, preset, options, manager, "verify"
    )
    if named is None:
        named = against is not None or "weights" in options
    request = VerifyRequest(path, spec, manager, named, progress or ignore_progress)
    with neutral_torch(spec.plugin, module):
        return verify(request)


@one_at_a_time
def export_all(
    target: "Target",
    folder: str | Path,
    inputs: "Inputs" = None,
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
    """Write a model to `folder` in every available format, and go on when one fails.

    Formats that the architecture declares as unsupported, or that need a package that isn't installed, are
    failures in the report. Each format uses the options of `how` that apply to it.
    """
    from nnkit.verbs.exporting.formats import relevant_options
    from nnkit.verbs.exporting.report import ExportReport, ExportsReport

    manager, how = manager or plugin_manager(), how or ExportOptions()
    spec, _ = resolve_target(target, inputs, preset, options, manager, "export_all")
    reports: list[ExportReport] = []
    failures: dict[str, NnkitError] = {}
    for format in formats_of(manager):
        path = Path(folder, spec.architecture.name + suffix_of(format, manager))
        try:
            reports.append(
                export(
                    spec,
                    path,
                    format=format,
                    force=force,
                    verify=verify,
                    device=device,
                    how=relevant_options(how, format),
                    progress=progress,
                    manager=manager,
                )
            )
        except NnkitError as error:
            failures[format] = error
    return ExportsReport(spec, tuple(reports), failures)


def formats_of(manager: PluginManager) -> list[str]:
    """Return the names of all formats, core's first."""
    return [*CORE_FORMATS, *(exporter.name for exporter in manager.exporters())]


def format_of(path: Path, manager: PluginManager) -> str:
    """Return the format whose suffix a path has."""
    suffixes = {exporter.suffix: exporter.name for exporter in manager.exporters()}
    return suffixes.get(path.suffix, path.suffix.removeprefix("."))


def suffix_of(format: str, manager: PluginManager) -> str:
    """Return the suffix of the files of a format."""
    suffixes = {exporter.name: exporter.suffix for exporter in manager.exporters()}
    return suffixes.get(format, f".{format}")


@one_at_a_time
def smoke_run(
    target: "Target",
    inputs: "Inputs" = None,
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
    finished: "Callable[[SmokeReport], None] | None" = None,
    manager: PluginManager | None = None,
    **options: Any,
) -> "SmokeReport":
    """Run the checks on a model on `device` and return the result of each.

        nnkit.smoke_run("resnet18", processes=2, parallel="fsdp").passed

    Args:
        inputs: example inputs for a module. A copy of the module is checked, so it is left unchanged.
        simulate: `cuda`, `xpu` or `mps`; instead of using `device`, check only the placement on a fake one.
            The target is then built in a different process, so it can't be a module.
        checks: the names of the only checks to run.
        full: also run the slow checks.
        compiled: check the model compiled with torch.compile.
        processes: instead, check that training over this many ranks matches training in one process.
        parallel: how to train over ranks: `ddp` (the default), `fsdp` or `tp`. Without `processes`, join as a
            rank that torchrun started.
        time_limit: seconds that the ranks may take.
        progress: called with a line about each step.
        finished: called after each check with the report so far, whose `not_run` has the rest.

    Raises UsageProblem for an unavailable device or an unknown check, and NnkitError for a rank that fails or
    hangs.
    """
    if simulate is not None:
        if device != "cpu":
            raise UsageProblem("device= and simulate= don't go together", "use one of them")
        device = f"{simulate} (simulated)"  # a handler that doesn't know simulations finds no such device
    manager = manager or plugin_manager()
    spec, module = resolve_target(target, inputs, preset, options, manager, "smoke_run")
    spec.require_support("smoke-run")
    request = SmokeRequest(
        spec=spec,
        host=manager,
        device=device,
        simulate=simulate,
        checks=None if checks is None else tuple(checks),
        full=full,
        compiled=compiled,
        parallel=parallel if processes is None else parallel or "ddp",
        processes=processes,
        time_limit=time_limit,
        progress=progress or ignore_progress,
        finished=finished or ignore_report,
    )
    with neutral_torch(spec.plugin, module):
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
    """Smoke-run several models, each in its own process, and return the results, worst first.

        nnkit.smoke_sweep("res*", "graph/*", results="zoo.jsonl", memory_limit="8GB").counts

    Args:
        patterns: names, or patterns of names; by default all architectures.
        device, checks, full, compiled: as in `smoke_run`.
        sizes: sizes by dim, each used for the models that have that dim.
        results: a file to append each result to; models with a result in it are skipped.
        shard: (i, n) to run only part i of n.
        time_limit: seconds that a model may take.
        memory_limit: bytes that a model may use, or text such as `8GB`.
        jobs: how many models run at once.
        executor: `local`, or the executor of a plugin.
        finished: called with each result, its number, and how many are planned.

    Raises UsageProblem before anything runs. Raises SweepStopped, whose `report` has the finished models, on
    Ctrl-C and when no more models can run.
    """
    from nnkit.verbs.sweep.handler import SweepRequest, sweep

    request = SweepRequest(
        manager=manager or plugin_manager(),
        patterns=patterns,
        device=device,
        checks=None if checks is None else tuple(checks),
        full=full,
        compiled=compiled,
        seed=seed,
        dtype=dtype,
        sizes=sizes or {},
        results=None if results is None else Path(results),
        shard=shard,
        time_limit=time_limit,
        memory_limit=parse_size(memory_limit) if isinstance(memory_limit, str) else memory_limit,
        jobs=jobs,
        executor=executor,
        finished=finished,
    )
    return sweep(request)


@one_at_a_time
def bench(
    *targets: "Target",
    inputs: "Inputs" = None,
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
    """Measure latency, throughput and peak memory of one model, or of two in turns.

        nnkit.bench("resnet18", "resnet34").ratios[0].verdict

    Args:
        inputs: example inputs for modules.
        training: also measure a training step with `optimizer`.
        rounds: how many rounds to run, each with two samples per model and mode. By default as many as fit
            into `time_limit`.
        time_limit: seconds for each model in each mode.
        threads: CPU threads for torch.
        compiled: compile the models with torch.compile.
        progress: called with a line about each step, and the share of the work that is done.
        preset, options: used for every target that isn't a module.
    """
    from nnkit.verbs.benchmarking.handler import BenchRequest, bench

    manager = manager or plugin_manager()
    resolved = [
        resolve_target(target, _inputs_for(target, inputs), preset, options, manager, "bench")
        for target in targets
    ]
    request = BenchRequest(
        specs=tuple(spec for spec, _ in resolved),
        host=manager,
        device=device,
        training=training,
        optimizer=optimizer,
        rounds=rounds,
        time_limit=time_limit,
        threads=threads,
        compiled=compiled,
        progress=progress or ignore_progress,
    )
    with ExitStack() as stack:
        for spec, module in resolved:
            stack.enter_context(neutral_torch(spec.plugin, module))
        return bench(request)


def _inputs_for(target: "Target", inputs: "Inputs") -> "Inputs":
    """Return the inputs for one of several targets: only modules and code of one's own take any."""
    from nnkit.models.references import names_code
    from nnkit.models.targets import declared_texts

    if isinstance(target, ModelSpec) or (isinstance(target, str) and not names_code(target)):
        return None
    return None if isinstance(target, str) and declared_texts(inputs) is None else inputs


def _arguments_of(
    spec: ModelSpec, module: "nn.Module", inputs: "Inputs"
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments of forward by position and by name: the user's own, unless the sizes differ."""
    from nnkit.models.targets import declared_texts

    if declared_texts(inputs) or any(size != spec.dims[name].default for name, size in spec.sizes.items()):
        from nnkit.models.running import bind
        from nnkit.models.sampling import sample_inputs

        return bind(module, spec.signature, sample_inputs(spec))
    if isinstance(inputs, Mapping):
        return (), inputs
    return tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,), {}
