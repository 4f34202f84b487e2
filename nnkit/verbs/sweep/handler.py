"""SweepRequest -> SweepReport."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from nnkit.contract.requests import CORE_EXECUTOR, Executed, ExecuteRequest, Plain
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

TIME_LIMIT = 600.0  # seconds; the largest of the zoo take a third of it on two cores that are busy


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """Smoke-run the architectures that `patterns` stand for, all for none, each in a process of its own.

    device, checks, full, compiled, seed, dtype, sizes: as of one smoke-run; a size holds for those that
    have it.
    results: the file that results are added to and that a rerun goes on from. shard: (i, n), part i of n.
    time_limit: in seconds, for each model. memory_limit: in bytes, likewise. jobs: how many at once, None
    for what the executor chooses. finished: called with each result, its number, and how many are planned.
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

    Raises UsageProblem before any of them runs, and SweepStopped, with the report so far, on Ctrl-C and
    where nothing more can be run.
    """
    if request.memory_limit is not None and not can_limit_memory():
        raise UsageProblem(
            "--memory-limit needs Linux, which tells what a running process takes",
            "leave it out: the peak of each model is told all the same",
        )
    run = executors.find(request.executor, request.manager)
    names = select(request.patterns, request.manager)
    _check_sizes(request, names)
    with results_in(request.results) as results:
        state = _State(request, shard_of(names, request.shard), results)
        if state.unfinished:
            _execute(run, state)
        return state.report()


def _execute(run: Callable[[ExecuteRequest], Executed], state: "_State") -> None:
    """Let an executor run what is unfinished."""
    with closing(run(state.to_execute())) as executed:
        try:
            for task, outcome in executed:
                state.take(task, outcome)
        except KeyboardInterrupt:
            raise state.interrupted() from None
        except NnkitError as error:
            raise SweepStopped(state.report(), error.message, error.hint, error.exit_code) from error
        except Exception as error:
            told = f"executor {state.executor} failed: {type(error).__name__}: {first_line(error)}"
            code = PluginProblem.exit_code
            raise SweepStopped(state.report(), told, "see where: repeat with -v", code) from error
    state.give_up_the_rest()


def _check_sizes(request: SweepRequest, names: list[str]) -> None:
    """Raise UsageProblem for a size that none of the models has."""
    dims = {dim for name in names for dim in request.manager.find(name)[1].dims}
    for size in request.sizes:
        if size not in dims:
            raise UsageProblem(
                f"none of these models has a size --{size.replace('_', '-')}",
                did_you_mean(size, dims) or f"their sizes: {', '.join(sorted(dims)) or 'none'}",
            )


def _plan(request: SweepRequest, name: str) -> Task | ModelResult:
    """Return the task that runs a model; or the result of one that can't be run."""
    plugin, architecture = request.manager.find(name)
    reference, whole = Reference(architecture, plugin), {"seed": request.seed, "dtype": request.dtype}
    dims = reference.resolve(None, whole).sizes
    own = {dim: size for dim, size in request.sizes.items() if dim in dims}
    try:
        spec = reference.resolve(None, {**whole, **own})
    except UsageProblem as problem:  # one of its dims can't have such a size
        return ModelResult(name=name, status="skipped", message=problem.message)
    task = Task(
        spec=spec, device=request.device, checks=request.checks, full=request.full,
        compiled=request.compiled, versions=versions_for(spec, request.manager),
        time_limit=request.time_limit, memory_limit=request.memory_limit,
    )  # fmt: skip
    if reason := reason_to_skip(spec):
        return ModelResult(name=name, status="skipped", message=reason, command=task.command)
    return task


class _State:
    """The results so far, and the tasks that have none."""

    def __init__(self, request: SweepRequest, names: list[str], results: Results) -> None:
        self._request, self._names, self._results = request, names, results
        self.executor = request.executor
        planned = {name: _plan(request, name) for name in names}
        tasks = {name: each for name, each in planned.items() if isinstance(each, Task)}
        before = results.finished(tasks.values())
        self._resumed = len(before)
        skipped = {name: each for name, each in planned.items() if isinstance(each, ModelResult)}
        self._found = {**skipped, **before}
        self.unfinished = {name: task for name, task in tasks.items() if name not in before}

    def to_execute(self) -> ExecuteRequest:
        """Return what the executor is to do."""
        request = self._request
        return ExecuteRequest(
            function=run_task, tasks=tuple(task.to_dict() for task in self.unfinished.values()),
            jobs=request.jobs, time_limit=request.time_limit, memory_limit=request.memory_limit,
        )  # fmt: skip

    def take(self, told: Plain, outcome: Plain | Exception) -> None:
        """Take the outcome of a task; raises UsageProblem where no model can be run in this way."""
        task = self.unfinished[told["spec"]["architecture"]]
        if isinstance(outcome, Exception):
            self._lose(task, f"{type(outcome).__name__}: {first_line(outcome)}")
            return
        if "refused" in outcome:
            message, hint = outcome["refused"]
            raise UsageProblem(message, hint)
        result = ModelResult(name=task.name, command=task.command, **outcome)
        self._results.append(task, result)
        self._keep(result)

    def give_up_the_rest(self) -> None:
        """Give a result to the tasks that the executor has said nothing of."""
        for task in list(self.unfinished.values()):
            self._lose(task, "it ended without a word of it")

    def report(self) -> SweepReport:
        """Return what is finished, worst first; of equals, in the order of the zoo."""
        found = [self._found[name] for name in self._names if name in self._found]
        found.sort(key=lambda result: STATUSES.index(result.status))
        return SweepReport(self._request.device, tuple(found), len(self._names), self._resumed)

    def interrupted(self) -> SweepStopped:
        """Return what Ctrl-C leaves."""
        hint = (
            "repeat the command to go on"
            if self._request.results
            else "keep what is finished: --results FILE"
        )
        done = f"interrupted; {len(self._found)} of {len(self._names)} done"
        return SweepStopped(self.report(), done, hint)

    def _lose(self, task: Task, message: str) -> None:
        """Give a result that isn't kept, so that a rerun tries again."""
        told = f"executor {self.executor}: {message}"
        self._keep(ModelResult(name=task.name, status="error", message=told, command=task.command))

    def _keep(self, result: ModelResult) -> None:
        self._found[result.name] = result
        del self.unfinished[result.name]
        if self._request.finished:
            self._request.finished(result, len(self._found), len(self._names))
