"""BenchRequest -> BenchReport."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from statistics import median

import torch
from torch import nn

from nnkit.contract.requests import OPTIMIZERS, Host, SummaryRequest
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, UsageProblem, first_line
from nnkit.models.building import build_module
from nnkit.models.devices import find_device
from nnkit.models.precision import count_dtypes, main_dtype
from nnkit.models.process import random_states_kept
from nnkit.models.running import bind
from nnkit.models.sampling import Inputs, sample_inputs
from nnkit.verbs.benchmarking.environment import environment
from nnkit.verbs.benchmarking.measuring import Limit, measure, waiting_for
from nnkit.verbs.benchmarking.memory import peak_memory
from nnkit.verbs.benchmarking.peak import best, probe
from nnkit.verbs.benchmarking.report import (
    TITLES,
    BenchModel,
    BenchReport,
    Measurement,
    Mode,
    Probe,
    Ratio,
    Samples,
    labels_of,
)
from nnkit.verbs.benchmarking.statistics import BLOCKS, latency_of, paired_ratio
from nnkit.verbs.benchmarking.workloads import Workload, forward, training_step
from nnkit.verbs.summary.report import SummaryReport
from nnkit.verbs.summary.storages import storage_bytes
from nnkit.verbs.training import Untrainable

FEWEST_ROUNDS = {1: 5, 2: BLOCKS}  # by the number of models, whatever the time limit
FEWEST_REQUESTED = {1: 1, 2: 10}  # by --rounds; with fewer than BLOCKS a false alarm is likelier
MOST_ROUNDS = 5000  # more add nothing, and every sample is kept
DRIFT = 1.2  # ratio of the probes, above which the machine was busy with something else
UNSTEADY = 2.0  # ratio of the median to the shortest sample, above which a warning appears


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """Measure one model, or two in turns.

    training: also measure a training step, with `optimizer`.
    rounds: how often each model is measured twice, in each mode; None for as often as `time_limit`, the
    seconds for each model in each mode, allows. threads: CPU threads for torch, None for torch's default.
    compiled: with torch.compile. progress: called with the current step and the share that is done.
    """

    specs: tuple[ModelSpec, ...]
    host: Host
    device: str
    training: bool
    optimizer: str
    rounds: int | None
    time_limit: float
    threads: int | None
    compiled: bool
    progress: Callable[[str, float], None]


@dataclass
class _Subject:
    """A model on the device with its inputs, its summary if there is one, and its samples by mode.

    untrained: why it has no training step, "" if it has one.
    """

    spec: ModelSpec
    module: nn.Module
    inputs: Inputs
    summary: SummaryReport | None
    runs: dict[Mode, tuple[Samples, int | None]] = field(default_factory=dict)
    untrained: str = ""


def bench(request: BenchRequest) -> BenchReport:
    """Measure, and return the numbers.

    Raises UsageProblem for an invalid request, NnkitError for a model that doesn't run.
    """
    _check(request)
    device = find_device(request.device)
    with _using_threads(request.threads), random_states_kept({device}):
        return _measure_all(request, device)


def _check(request: BenchRequest) -> None:
    if not 1 <= len(request.specs) <= 2:
        raise UsageProblem("bench takes one model or two", "for example: nnkit bench resnet18 resnet34")
    if request.optimizer not in OPTIMIZERS:
        raise UsageProblem(f"unknown optimizer {request.optimizer}", f"choose one of {', '.join(OPTIMIZERS)}")
    fewest = FEWEST_REQUESTED[len(request.specs)]
    if request.rounds is not None and request.rounds < fewest:
        raise UsageProblem(f"{request.rounds} rounds are too few", f"give {fewest} or more")
    for option, value in (("--time-limit", request.time_limit), ("--threads", request.threads)):
        if value is not None and not value > 0:  # which NaN isn't either
            raise UsageProblem(f"{option} must be greater than 0, got {value:g}", "give more than 0")


@contextmanager
def _using_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure_all(request: BenchRequest, device: torch.device) -> BenchReport:
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    modes: tuple[Mode, ...] = ("forward", "training") if request.training else ("forward",)
    request.progress("building", 0.0)
    subjects = [_build_subject(request, spec, device) for spec in request.specs]
    dtypes = [main_dtype(subject.module) for subject in subjects]
    before = probe(device, dtypes)
    for index, mode in enumerate(modes):
        _measure_mode(request, subjects, mode, device, index / len(modes), 1 / len(modes))
    after = probe(device, dtypes)
    peak = best(before, after)
    return BenchReport(
        models=tuple(_describe_model(subject, peak) for subject in subjects),
        ratios=tuple(_ratios(subjects)),
        before=before,
        after=after,
        optimizer=request.optimizer,
        compiled=request.compiled,
        date=date,
        environment=environment(device),
        warnings=tuple(_warnings(subjects, before, after)),
    )


def _build_subject(request: BenchRequest, spec: ModelSpec, device: torch.device) -> _Subject:
    module = build_module(spec, request.host, device)
    inputs = sample_inputs(spec, device=str(device))
    return _Subject(spec, module, inputs, _summarize(request, spec, module, inputs, device))


def _summarize(
    request: BenchRequest, spec: ModelSpec, module: nn.Module, inputs: Inputs, device: torch.device
) -> SummaryReport | None:
    """Return the summary of a model, without a training step if that fails, or None if both fail."""
    args, keywords = bind(module, spec.signature, inputs)
    for optimizer in (request.optimizer, None):
        summary_request = SummaryRequest(
            spec=spec,
            host=request.host,
            module=module,
            inputs=args,
            keywords=keywords,
            optimizer=optimizer,
            device=str(device),
            variants=False,
        )
        try:
            report: SummaryReport = request.host.hook.nnkit_summarize(request=summary_request)
        except NnkitError:  # a model that doesn't run at all raises again when it is timed
            continue
        return report
    return None


def _measure_mode(
    request: BenchRequest,
    subjects: Sequence[_Subject],
    mode: Mode,
    device: torch.device,
    done: float,
    share_of_mode: float,
) -> None:
    """Take samples of all models that have this mode, in turns, and then the peak memory of each."""
    request.progress(f"warming up: {mode}", done)
    ready = []
    for subject in subjects:
        try:
            ready.append((subject, _workload(request, subject, mode)))
        except Untrainable as reason:
            subject.untrained = str(reason)
    if not ready:
        return
    samples = measure(
        [workload for _, workload in ready],
        waiting_for(device),
        _limit(request, len(ready)),
        lambda share: request.progress(f"measuring: {mode}", done + share_of_mode * share),
    )
    for (subject, workload), taken in zip(ready, samples, strict=True):
        subject.runs[mode] = taken, peak_memory(workload, device)


def _limit(request: BenchRequest, models: int) -> Limit:
    if request.rounds is not None:
        return Limit(math.inf, request.rounds, request.rounds)
    return Limit(request.time_limit * models, FEWEST_ROUNDS[models], MOST_ROUNDS)


def _workload(request: BenchRequest, subject: _Subject, mode: Mode) -> Workload:
    """Return what will be timed, after it has run once."""
    module, compiled = subject.module, request.compiled
    args, keywords = bind(module, subject.spec.signature, subject.inputs)
    try:
        if mode == "forward":
            workload = forward(module, args, keywords, compiled)
        else:
            workload = training_step(module, args, keywords, compiled, request.optimizer)
        workload.run()
    except Untrainable:
        raise
    except Exception as error:
        step = f"{'compiling, or ' if request.compiled else ''}a {TITLES[mode]} of {subject.spec.name}"
        raise NnkitError(
            f"{step} failed: {type(error).__name__}: {first_line(error)}",
            "leave out --compile" if request.compiled else "check the sizes, the dtype and the device",
        ) from error
    return workload


def _describe_model(subject: _Subject, peak: Probe) -> BenchModel:
    return BenchModel(
        spec=subject.spec,
        dtypes=count_dtypes(subject.module.parameters()),
        parameters=sum(parameter.numel() for parameter in subject.module.parameters()),
        macs=subject.summary.totals.macs if subject.summary else None,
        batch=subject.spec.sizes.get("batch"),
        measurements=tuple(_measurement(subject, mode, peak) for mode in subject.runs),
        untrained=subject.untrained,
    )


def _measurement(subject: _Subject, mode: Mode, peak: Probe) -> Measurement:
    samples, memory = subject.runs[mode]
    latency = latency_of(samples.times)
    per_second = 1e9 / latency.median
    flops, estimate = _expected(subject.summary, mode)
    weights = storage_bytes([*subject.module.parameters(), *subject.module.buffers()])
    return Measurement(
        mode=mode,
        latency=latency,
        throughput=subject.spec.sizes.get("batch", 1) * per_second,
        flops=flops,
        mfu=None if flops is None else flops * per_second / peak.flops_per_second[main_dtype(subject.module)],
        mbu=weights * per_second / peak.bytes_per_second if mode == "forward" else None,
        peak=memory,
        estimate=estimate,
        samples=samples,
    )


def _expected(summary: SummaryReport | None, mode: Mode) -> tuple[int | None, int | None]:
    """Return the FLOPs and the peak memory that a summary expects of a run."""
    if summary is None:
        return None, None
    totals, memory = summary.totals, summary.memory
    if mode == "forward":
        return totals.flops, memory.inference_peak if memory else None
    return totals.training_flops, memory.training_peak if memory else None


def _ratios(subjects: Sequence[_Subject]) -> Iterator[Ratio]:
    """Yield, for two models, the ratio in each mode that both have."""
    if len(subjects) != 2:
        return
    left, right = (subject.runs for subject in subjects)
    for mode in left:
        if mode in right:
            yield paired_ratio(mode, left[mode][0].times, right[mode][0].times)


def _warnings(subjects: Sequence[_Subject], before: Probe, after: Probe) -> Iterator[str]:
    """Yield what makes the numbers less than certain."""
    rates = {
        f"{dtype} products": (rate, after.flops_per_second[dtype])
        for dtype, rate in before.flops_per_second.items()
    }
    rates["copies"] = before.bytes_per_second, after.bytes_per_second
    for work, (first, last) in rates.items():
        if max(first, last) > DRIFT * min(first, last):
            speeds = f"{first / 1e9:.1f} G/s before and {last / 1e9:.1f} G/s after"
            yield f"the machine was busy: {work} ran at {speeds}"
    labels = labels_of([subject.spec for subject in subjects])
    for label, subject in zip(labels, subjects, strict=True):
        for mode, (samples, _) in subject.runs.items():
            ratio = median(samples.times) / min(samples.times)
            if ratio > UNSTEADY:
                yield (
                    f"the median {TITLES[mode]} of {label} took {ratio:.1f} times the shortest: "
                    "close other programs, or try fewer threads"
                )
