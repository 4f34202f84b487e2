"""A sweep as an array of Slurm jobs, with submitit. https://github.com/facebookincubator/submitit"""

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import submitit
from submitit.helpers import as_completed

from nnkit import Executed, ExecuteRequest, NnkitError

Plain: TypeAlias = Mapping[str, Any]

OPTIONS = "NNKIT_SLURM"
FOLDER = "nnkit-slurm"
MODELS_PER_JOB = "models_per_job"
MOST_PER_JOB = 8  # so that a job which its cluster ends costs few results, and its time limit stays modest
STARTUP = 120  # seconds that a job may take in addition to its models


def run(request: ExecuteRequest) -> Executed:
    """Submit jobs and yield the outcomes of each one as it ends; unfinished jobs are canceled at the end."""
    options = _read_options()
    size = _models_per_job(request, options.pop(MODELS_PER_JOB, None))
    executor = _make_executor(request, options, size)
    shares = [request.tasks[start : start + size] for start in range(0, len(request.tasks), size)]
    jobs: dict[submitit.Job, tuple[Plain, ...]] = {}
    try:
        submitted = executor.map_array(partial(run_share, request.function), shares)
        jobs = dict(zip(submitted, shares, strict=True))
        for job in as_completed(list(jobs), poll_frequency=1):
            share, error = jobs.pop(job), job.exception()
            yield from zip(share, job.result() if error is None else [error] * len(share), strict=True)
    finally:
        for job in jobs:
            job.cancel(check=False)


def run_share(function: Callable[[Plain], Plain], share: Sequence[Plain]) -> list[Plain | Exception]:
    """Run the tasks of a job one after the other, and return the outcome or the error of each.

    In one process, so that torch is imported once for all of them.
    """
    outcomes: list[Plain | Exception] = []
    for task in share:
        try:
            outcomes.append(function(task))
        except Exception as error:
            outcomes.append(error)
    return outcomes


def _models_per_job(request: ExecuteRequest, asked: Any) -> int:
    """Return how many models a job runs: as many as asked for, or as keep the wanted number of jobs at work.

    With `--jobs 16`, 40 models are run by 14 jobs of up to 3, and 1,000 models by 125 jobs of 8. Without it,
    all jobs may run at once, so each has one model.
    """
    if asked is not None:
        if not isinstance(asked, int) or asked < 1:
            raise NnkitError(
                f"can't read {MODELS_PER_JOB}={asked} in {OPTIONS}", f"for example: {MODELS_PER_JOB}=8"
            )
        return asked
    if request.jobs is None:
        return 1
    return max(1, min(MOST_PER_JOB, math.ceil(len(request.tasks) / request.jobs)))


def _make_executor(request: ExecuteRequest, options: dict[str, Any], size: int) -> submitit.AutoExecutor:
    cluster, folder = options.pop("cluster", "slurm"), options.pop("folder", FOLDER)
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise NnkitError(
            "Slurm is not available: sbatch was not found", f"try it without Slurm: {OPTIONS}=cluster=local"
        )
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    minutes = math.ceil((size * request.time_limit + STARTUP) / 60)
    executor.update_parameters(name="nnkit", timeout_min=minutes, **_make_limits(request))
    try:
        executor.update_parameters(**options)
    except (NameError, TypeError, ValueError) as error:
        raise NnkitError(f"{OPTIONS}: {error}", "for example: slurm_partition=gpu gpus_per_node=1") from error
    return executor


def _make_limits(request: ExecuteRequest) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if request.jobs is not None:
        limits["slurm_array_parallelism"] = request.jobs
    if request.memory_limit is not None:
        limits["mem_gb"] = math.ceil(request.memory_limit / 2**30) + 1
    return limits


def _read_options() -> dict[str, Any]:
    """Return the `name=value` words in the environment variable, with numbers as int."""
    options: dict[str, Any] = {}
    for word in os.environ.get(OPTIONS, "").split():
        name, equals, value = word.partition("=")
        if not equals:
            raise NnkitError(f"can't read {word!r} in {OPTIONS}", "for example: slurm_partition=gpu")
        options[name] = int(value) if value.isdecimal() else value
    return options
