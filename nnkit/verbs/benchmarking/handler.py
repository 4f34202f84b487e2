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
from nnkit.verbs.benchmarking.workloads import Untrainable, Workload, forward, training_step
from nnkit.verbs.summary.report import SummaryReport
from nnkit.verbs.summary.storages import storage_bytes

FEWEST = {1: 5, 2: BLOCKS}  # rounds by the number of models, whatever the time limit
ASKED = {1: 1, 2: 10}  # rounds that may be asked for; with fewer than BLOCKS a false alarm is likelier
MOST = 5000  # rounds: more say nothing new, and every sample is kept
DRIFT = 1.2  # between the probes, above which something else was at work
UNSTEADY = 2.0  # times the shortest that a median may be


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """Measure one model, or two in turns.

    inputs: what they are run with, in the place of random ones. training: a training step, too, with
    `optimizer`. rounds: how often each model is measured twice, in each mode; None: as often as
    `time_limit`, seconds for each model in each mode, allows. threads: of torch on the CPU, None for its
    own choice. compiled: by torch.compile. progress: called with what is being done, and the share of all
    that is done.
    """

    specs: tuple[ModelSpec, ...]
    host: Host
    inputs: Inputs | None
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
    """A model that was built, on the device, with its inputs; its summary, where there is one; its runs.

    untrained: why it has no training step, if it has none.
    """

    spec: ModelSpec
    module: nn.Module
    inputs: Inputs
    summary: SummaryReport | None
    runs: dict[Mode, tuple[Samples, int | None]] = field(default_factory=dict)
    untrained: str = ""


def bench(request: BenchRequest) -> BenchReport:
    """Measure, and return the numbers.

    Raises UsageProblem for what can't be asked, NnkitError for a model that doesn't run.
    """
    _check(request)
    device = find_device(request.device)
    with _threads(request.threads), random_states_kept({device}):
        return _measured(request, device)


def _check(request: BenchRequest) -> None:
    if not 1 <= len(request.specs) <= 2:
        raise UsageProblem("bench takes one model or two", "nnkit bench resnet18 resnet34")
    if request.optimizer not in OPTIMIZERS:
        raise UsageProblem(
            f"there is no optimiser {request.optimizer}", f"choose one of {', '.join(OPTIMIZERS)}"
        )
    fewest = ASKED[len(request.specs)]
    if request.rounds is not None and request.rounds < fewest:
        raise UsageProblem(f"{request.rounds} rounds are too few", f"give {fewest} or more")
    for name, value in (("time limit", request.time_limit), ("number of threads", request.threads)):
        if value is not None and not value > 0:  # nor is NaN
            raise UsageProblem(f"a {name} of {value:g} can't be", "give more than 0")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measured(request: BenchRequest, device: torch.device) -> BenchReport:
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    modes: tuple[Mode, ...] = ("forward", "training") if request.training else ("forward",)
    request.progress("building", 0.0)
    subjects = [_subject(request, spec, device) for spec in request.specs]
    dtypes = [main_dtype(subject.module) for subject in subjects]
    before = probe(device, dtypes)
    for place, mode in enumerate(modes):
        _time(request, subjects, mode, device, place / len(modes), 1 / len(modes))
    after = probe(device, dtypes)
    peak = best(before, after)
    return BenchReport(
        models=tuple(_model(each, peak) for each in subjects),
        ratios=tuple(_ratios(subjects)),
        before=before,
        after=after,
        optimizer=request.optimizer,
        compiled=request.compiled,
        date=date,
        environment=environment(device),
        warnings=tuple(_warnings(subjects, before, after)),
    )


def _subject(request: BenchRequest, spec: ModelSpec, device: torch.device) -> _Subject:
    module = build_module(spec, request.host, device)
    if request.inputs is None:
        inputs = sample_inputs(spec, device=str(device))
    else:
        inputs = tuple(each.to(device) for each in request.inputs)
    return _Subject(spec, module, inputs, _summary(request, spec, module, inputs, device))


def _summary(
    request: BenchRequest, spec: ModelSpec, module: nn.Module, inputs: Inputs, device: torch.device
) -> SummaryReport | None:
    """Return what nnkit counts of a model, or as much of it as can be told."""
    for optimizer in (request.optimizer, None):
        asked = SummaryRequest(
            spec=spec, host=request.host, module=module, inputs=inputs, optimizer=optimizer,
            device=str(device),
        )  # fmt: skip
        try:
            report: SummaryReport = request.host.hook.nnkit_summarize(request=asked)
        except NnkitError:  # a model that doesn't run at all says so again when it is timed
            continue
        return report
    return None


def _time(
    request: BenchRequest,
    subjects: Sequence[_Subject],
    mode: Mode,
    device: torch.device,
    done: float,
    part: float,
) -> None:
    """Take samples of all that have this mode, in turns, and then the peak memory of each."""
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
        lambda share: request.progress(f"measuring: {mode}", done + part * share),
    )
    for (subject, workload), taken in zip(ready, samples, strict=True):
        subject.runs[mode] = taken, peak_memory(workload, device)


def _limit(request: BenchRequest, models: int) -> Limit:
    if request.rounds is not None:
        return Limit(math.inf, request.rounds, request.rounds)
    return Limit(request.time_limit * models, FEWEST[models], MOST)


def _workload(request: BenchRequest, subject: _Subject, mode: Mode) -> Workload:
    """Return what is timed, after it has run once."""
    module, compiled = subject.module, request.compiled
    args, keywords = bind(module, subject.spec.input_names, subject.inputs)
    try:
        if mode == "forward":
            workload = forward(module, args, keywords, compiled)
        else:
            workload = training_step(module, args, keywords, compiled, request.optimizer)
        workload.run()
    except Untrainable:
        raise
    except Exception as error:
        what = f"{'compiling, or ' if request.compiled else ''}a {TITLES[mode]} of {subject.spec.name}"
        raise NnkitError(
            f"{what} failed: {type(error).__name__}: {first_line(error)}",
            "leave out --compile" if request.compiled else "look at the sizes, the dtype and the device",
        ) from error
    return workload


def _model(subject: _Subject, peak: Probe) -> BenchModel:
    return BenchModel(
        spec=subject.spec,
        dtypes=count_dtypes(subject.module.parameters()),
        parameters=sum(each.numel() for each in subject.module.parameters()),
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
    """Return what a summary says of the FLOPs and of the peak memory of a run."""
    if summary is None:
        return None, None
    totals, memory = summary.totals, summary.memory
    if mode == "forward":
        return totals.flops, memory.inference_peak if memory else None
    return totals.training_flops, memory.training_peak if memory else None


def _ratios(subjects: Sequence[_Subject]) -> Iterator[Ratio]:
    """Yield, for two models, the ratio in each mode that both of them have."""
    if len(subjects) != 2:
        return
    left, right = (subject.runs for subject in subjects)
    for mode in left:
        if mode in right:
            yield paired_ratio(mode, left[mode][0].times, right[mode][0].times)


def _warnings(subjects: Sequence[_Subject], before: Probe, after: Probe) -> Iterator[str]:
    """Yield what makes the numbers less than certain."""
    rates = {
        f"{name} products": (each, after.flops_per_second[name])
        for name, each in before.flops_per_second.items()
    }
    rates["copies"] = before.bytes_per_second, after.bytes_per_second
    for what, pair in rates.items():
        if max(pair) > DRIFT * min(pair):
            one, other = (each / 1e9 for each in pair)
            yield f"the machine was busy: {what} ran at {one:.1f} G/s before and {other:.1f} G/s after"
    labels = labels_of([subject.spec for subject in subjects])
    for label, subject in zip(labels, subjects, strict=True):
        for mode, (samples, _) in subject.runs.items():
            times = median(samples.times) / min(samples.times)
            if times > UNSTEADY:
                yield (
                    f"the median {TITLES[mode]} of {label} took {times:.1f} times the shortest: "
                    "close what else runs, or try fewer threads"
                )
