"""Where the models of a sweep run: on this machine, or where a plugin's executor sends them."""

import os
import time
from collections.abc import Callable

from nnkit.contract.loading import load, missing
from nnkit.contract.requests import CORE_EXECUTOR, Executed, ExecuteRequest, Executor
from nnkit.errors import PluginProblem, UsageProblem, did_you_mean
from nnkit.host.plugin_manager import PluginManager
from nnkit.verbs.sweep.running import TICK, Run

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
    waiting, running = list(reversed(request.tasks)), list[Run]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(Run(waiting.pop(), threads))
            time.sleep(TICK)
            for run in list(running):
                outcome = run.poll()
                if outcome is not None:
                    running.remove(run)
                    yield run.task, outcome
    finally:
        for run in running:
            run.stop()
