"""Where the models of a sweep run: on this machine, or where a plugin's executor sends them."""

import os
from collections.abc import Callable
from contextlib import closing

from nnkit.contract.contributions import CORE_EXECUTOR, Executor
from nnkit.contract.loading import load, missing
from nnkit.contract.requests import Executed, ExecuteRequest
from nnkit.errors import PluginProblem, UsageProblem, did_you_mean
from nnkit.host.plugin_manager import PluginManager
from nnkit.verbs.sweep.forking import can_fork
from nnkit.verbs.sweep.launching import Launcher
from nnkit.verbs.sweep.running import TICK, Run

WORTHWHILE = 2  # models from which a server that imports for all of them saves time

LOCAL = Executor(
    name=CORE_EXECUTOR,
    summary="processes on this machine",
    run="nnkit.verbs.sweep.executors:run_local",
)


def find_executor(name: str, manager: PluginManager) -> Callable[[ExecuteRequest], Executed]:
    """Return the generator function of an executor.

    Raises UsageProblem for an unknown name, PluginProblem where the executor needs a missing package.
    """
    offered = {executor.name: executor for executor in (LOCAL, *manager.executors())}
    if name not in offered:
        raise UsageProblem(
            f"unknown executor {name!r}",
            did_you_mean(name, offered) or f"available: {', '.join(offered)}; plugins add others",
        )
    executor = offered[name]
    if package := missing(executor.requires):
        raise PluginProblem(
            f"executor {name} needs the package {package}", f"install it: {executor.requires[package]}"
        )
    return load(executor.run)


def run_local(request: ExecuteRequest) -> Executed:
    """Run the tasks on this machine, one at a time by default; several at once share the cores evenly."""
    jobs = request.jobs or 1
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    forks = len(request.tasks) >= WORTHWHILE and all(can_fork(task["device"]) for task in request.tasks)
    waiting, running = list(reversed(request.tasks)), list[Run]()
    names = [task["spec"]["architecture"] for task in request.tasks]
    with closing(Launcher({**environment, **os.environ}, forks, names)) as launcher:
        try:
            while waiting or running:
                while waiting and len(running) < jobs and not launcher.is_starting:
                    running.append(Run(waiting.pop(), launcher))
                launcher.wait(TICK)
                for run in list(running):
                    outcome = run.poll()
                    if outcome is not None:
                        running.remove(run)
                        yield run.task, outcome
        finally:
            for run in running:
                run.stop()
