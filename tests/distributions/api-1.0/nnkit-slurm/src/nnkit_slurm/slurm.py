"""A sweep as an array of Slurm jobs, with submitit. https://github.com/facebookincubator/submitit"""

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import submitit
from submitit.helpers import as_completed

from nnkit import ExecuteRequest, NnkitError

OPTIONS = "NNKIT_SLURM"
FOLDER = "nnkit-slurm"
STARTUP = 120  # seconds that a job may take in addition to its model


def run(request: ExecuteRequest) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """Submit a job for each task and yield its outcome; unfinished jobs are canceled at the end."""
    executor = _make_executor(request)
    jobs: dict[submitit.Job, Mapping[str, Any]] = {}
    try:
        jobs = dict(zip(executor.map_array(request.function, request.tasks), request.tasks, strict=True))
        for job in as_completed(list(jobs), poll_frequency=1):
            task = jobs.pop(job)
            yield task, job.exception() or job.result()
    finally:
        for job in jobs:
            job.cancel(check=False)


def _make_executor(request: ExecuteRequest) -> submitit.AutoExecutor:
    options = _read_options()
    cluster, folder = options.pop("cluster", "slurm"), options.pop("folder", FOLDER)
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise NnkitError(
            "Slurm is not available: sbatch was not found", f"try it without Slurm: {OPTIONS}=cluster=local"
        )
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    executor.update_parameters(
        name="nnkit", timeout_min=math.ceil((request.time_limit + STARTUP) / 60), **_make_limits(request)
    )
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
