"""SweepRequest -> SweepReport."""

import shlex
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from nnkit.contract.contributions import CORE_EXECUTOR
from nnkit.contract.requests import Executed, ExecuteRequest, Plain
from nnkit.contract.spec import AS_BUILT
from nnkit.errors import NnkitError, PluginProblem, UsageProblem, did_you_mean, first_line
from nnkit.host.plugin_manager import PluginManager
from nnkit.models.references import Reference
from nnkit.verbs.sweep import executors
from nnkit.verbs.sweep.memory import can_limit_memory
from nnkit.verbs.sweep.report import STATUSES, ModelResult, SweepReport, SweepStopped
from nnkit.verbs.sweep.results import Results, results_in
from nnkit.verbs.sweep.running import run_task
from nnkit.verbs.sweep.tasks import Task, reason_to_skip, select, shard_of, versions_for

TIME_LIMIT = 600.0  # seconds; the largest models of the zoo take a third of it on two busy cores


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """Smoke-run many architectures, each in a process of its own.

    Attributes:
        manager: the plugins.
        patterns: the architectures, by name or pattern; all of them where there are no patterns.
        device, checks, full, compiled, seed, dtype: as for a single smoke-run.
        sizes: by dim; a size applies to the models that have the dim.
        results: the file that results are appended to, and that a rerun continues from.
        shard: (i, n), part i of n.
        time_limit: for each model, in seconds.
        memory_limit: for each model, in bytes.
        jobs: how many models run at once; None lets the executor choose.
        executor: where they run.
        finished: called with each result, its number, and how many are planned.
    """

    manager: PluginManager
    patterns: tuple[str, ...] = ()
    device: str = "cpu"
    checks: tuple[str, ...] | None = None
    full: bool = False
    compiled: bool = False
    seed: int = 0
    dtype: str = AS_BUILT
    sizes: Mapping[str, int] = field(default_factory=dict)
    results: Path | None = None
    shard: tuple[int, int] = (1, 1)
    time_limit: float = TIME_LIMIT
    memory_limit: int | None = None
    jobs: int | None = None
    executor: str = CORE_EXECUTOR
    finished: Callable[[ModelResult, int, int], None] | None = None


def sweep(request: SweepRequest) -> SweepReport:
    """Run the models and return what became of each, worst first.

    Raises UsageProblem before any of them runs. Raises SweepStopped, with the report so far, on Ctrl-C and
    where the executor fails.
    """
    if request.memory_limit is not None and not can_limit_memory():
        raise UsageProblem(
            "--memory-limit needs Linux, which shows how much memory a running process uses",
            "leave it out: the peak memory of each model is reported either way",
        )
    execute = executors.find_executor(request.executor, request.manager)
    names = select(request.patterns, request.manager)
    _check_sizes(request, names)
    with results_in(request.results) as results:
        progress = _Progress(request, shard_of(names, request.shard), results)
        if progress.unfinished:
            _execute(execute, progress)
        return progress.report()


def _execute(execute: Callable[[ExecuteRequest], Executed], progress: "_Progress") -> None:
    """Let an executor run the unfinished tasks."""
    with closing(execute(progress.make_request())) as executed:
        try:
            for task, outcome in executed:
                progress.record(task, outcome)
        except KeyboardInterrupt:
            raise progress.make_interruption() from None
        except NnkitError as error:
            raise SweepStopped(progress.report(), error.message, error.hint, error.exit_code) from error
        except Exception as error:
            message = f"executor {progress.executor} failed: {type(error).__name__}: {first_line(error)}"
            hint = "see the full error with -v"
            raise SweepStopped(progress.report(), message, hint, PluginProblem.exit_code) from error
    progress.give_up_unfinished()


def _check_sizes(request: SweepRequest, names: list[str]) -> None:
    """Raise UsageProblem for a size that none of the models has."""
    if not request.sizes:
        return
    dims: set[str] = set()
    for name in names:
        with suppress(PluginProblem):  # it will be the result of this model
            dims.update(request.manager.find(name)[1].dims)
    for size in request.sizes:
        if size not in dims:
            raise UsageProblem(
                f"none of these models has a size --{size.replace('_', '-')}",
                did_you_mean(size, dims) or f"their sizes: {', '.join(sorted(dims)) or 'none'}",
            )


def _plan_task(request: SweepRequest, name: str) -> Task | ModelResult:
    """Return the task that runs a model, or the result of a model that can't be run."""
    try:
        plugin, architecture = request.manager.find(name)
    except PluginProblem as problem:
        if not request.manager.has_imported(name):
            raise
        command = shlex.join(["nnkit", "smoke-run", name])
        return ModelResult(name=name, status="error", message=problem.message, command=command)
    reference = Reference(architecture, plugin)
    options = {"seed": request.seed, "dtype": request.dtype}
    dims = reference.resolve(None, options).sizes
    sizes = {dim: size for dim, size in request.sizes.items() if dim in dims}
    try:
        spec = reference.resolve(None, {**options, **sizes})
    except UsageProblem as problem:  # one of its dims doesn't allow that size
        return ModelResult(name=name, status="skipped", message=problem.message)
    task = Task(
        spec=spec,
        device=request.device,
        checks=request.checks,
        full=request.full,
        compiled=request.compiled,
        versions=versions_for(spec, request.manager),
        time_limit=request.time_limit,
        memory_limit=request.memory_limit,
    )
    if reason := reason_to_skip(spec):
        return ModelResult(name=name, status="skipped", message=reason, command=task.command)
    return task


class _Progress:
    """The results so far, and the tasks that have none yet."""

    def __init__(self, request: SweepRequest, names: list[str], results: Results) -> None:
        self._request, self._names, self._results = request, names, results
        self.executor = request.executor
        planned = {name: _plan_task(request, name) for name in names}
        tasks = {name: plan for name, plan in planned.items() if isinstance(plan, Task)}
        skipped = {name: plan for name, plan in planned.items() if isinstance(plan, ModelResult)}
        resumed = results.finished(tasks.values())
        self._resumed = len(resumed)
        self._finished = {**skipped, **resumed}
        self.unfinished = {name: task for name, task in tasks.items() if name not in resumed}

    def make_request(self) -> ExecuteRequest:
        """Return the request for the executor."""
        request = self._request
        return ExecuteRequest(
            function=run_task,
            tasks=tuple(task.to_dict() for task in self.unfinished.values()),
            jobs=request.jobs,
            time_limit=request.time_limit,
            memory_limit=request.memory_limit,
        )

    def record(self, executed: Plain, outcome: Plain | Exception) -> None:
        """Record the outcome of a task. Raises UsageProblem where no model can run in the requested way."""
        task = self.unfinished[executed["spec"]["architecture"]]
        if isinstance(outcome, Exception):
            self._record_error(task, f"{type(outcome).__name__}: {first_line(outcome)}")
            return
        if "refused" in outcome:
            message, hint = outcome["refused"]
            raise UsageProblem(message, hint)
        result = ModelResult(name=task.name, command=task.command, **outcome)
        self._results.append(task, result)
        self._finish(result)

    def give_up_unfinished(self) -> None:
        """Record an error for each task that the executor returned no outcome for."""
        for task in list(self.unfinished.values()):
            self._record_error(task, "it ended without returning an outcome")

    def report(self) -> SweepReport:
        """Return what is finished, worst first; models with equal status in the order of the zoo."""
        finished = [self._finished[name] for name in self._names if name in self._finished]
        finished.sort(key=lambda result: STATUSES.index(result.status))
        return SweepReport(self._request.device, tuple(finished), len(self._names), self._resumed)

    def make_interruption(self) -> SweepStopped:
        """Return the error for Ctrl-C, with what is finished."""
        message = f"interrupted; {len(self._finished)} of {len(self._names)} done"
        if self._request.results:
            return SweepStopped(self.report(), message, "repeat the command to continue")
        return SweepStopped(self.report(), message, "to keep finished results, add --results FILE")

    def _record_error(self, task: Task, message: str) -> None:
        """Record a result that isn't written to the file, so that a rerun tries again."""
        message = f"executor {self.executor}: {message}"
        self._finish(ModelResult(name=task.name, status="error", message=message, command=task.command))

    def _finish(self, result: ModelResult) -> None:
        self._finished[result.name] = result
        del self.unfinished[result.name]
        if self._request.finished:
            self._request.finished(result, len(self._finished), len(self._names))
