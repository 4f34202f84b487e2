"""Declares the executor to nnkit. Doesn't import submitit."""

from nnkit import Executor, hookimpl

NNKIT_PLUGIN_API = "1.1"


@hookimpl
def nnkit_executors() -> list[Executor]:
    """Declare the executor."""
    return [
        Executor(
            name="slurm",
            summary="an array of Slurm jobs, one for each model",
            run="nnkit_slurm.slurm:run",
            requires={"submitit": "pip install submitit"},
        )
    ]
